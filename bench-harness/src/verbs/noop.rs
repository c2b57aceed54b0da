//! `noop TOKEN`: the program that the models `start` and `density` start from a layer.
//!
//! It is this program itself, so that a bench needs no other in its layers. It is told apart by its first
//! argument before the command line is read, so that its start costs what the start of any small program costs.

use std::ffi::OsString;
use std::io::{self, Read as _, Write as _};

use crate::error::Exit;
use crate::program::STAY;

/// Prints the token, the first of `arguments`, and ends; with [`STAY`] only once its standard input has ended.
pub fn noop(mut arguments: impl Iterator<Item = OsString>) -> Exit {
    let token = arguments.next().unwrap_or_default();
    let stays = arguments.next().is_some_and(|it| it == STAY);
    let mut out = io::stdout().lock();
    let said = writeln!(out, "{}", token.display()).and_then(|()| out.flush());
    let stayed = if stays { wait_for_end() } else { Ok(()) };
    if said.and(stayed).is_ok() { Exit::Success } else { Exit::Failure }
}

/// A bench that dies closes the pipe, so that no program stays behind it.
fn wait_for_end() -> io::Result<()> {
    while io::stdin().lock().read(&mut [0; 64])? != 0 {}
    Ok(())
}
