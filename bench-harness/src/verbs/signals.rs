//! What verbs that mount do first: a namespace of their own, and signals that leave nothing behind.

use crate::error::{Exit, Result};
use crate::run::interrupt::Interrupt;
use crate::sandbox;

/// Enters the sandbox; from then on a first signal ends the verb in order, and a second one at once.
///
/// # Errors
///
/// The kernel gives no namespaces, or a signal cannot be handled.
pub fn install() -> Result<Interrupt> {
    let interrupt = Interrupt::install()?;
    let namespace = sandbox::enter()?;
    interrupt.on_second(move |scratch| {
        eprintln!("aufs-bench: stopped at once; samples of whole cells are kept");
        namespace.end(scratch);
        std::process::exit(Exit::Interrupted as i32);
    })?;
    Ok(interrupt)
}
