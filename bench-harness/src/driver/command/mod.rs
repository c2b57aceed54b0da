//! Drivers that a description in TOML tells: commands that mount and unmount.

mod definition;
mod template;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{PoisonError, RwLock};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{AtFlags, StatxFlags, statx};

use definition::Templates;
pub use definition::{Definition, load};
use template::{Hole, Template};

use super::limits::Limits;
use super::view::Described;
use super::{ALL, Branch, Driver, Imported, View, marked, server, version};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::host;
use crate::layers::LayerStack;

/// Described drivers. They are never forgotten, so that every driver lives as long as the program.
static REGISTERED: RwLock<Vec<&'static CommandDriver>> = RwLock::new(Vec::new());

/// A driver that is a command.
#[derive(Debug)]
pub struct CommandDriver {
    name: &'static str,
    definition: Definition,
    templates: Templates,
    options: &'static [&'static str],
}

/// Makes `definition` a driver that matrices may name. The same one again changes nothing.
///
/// # Errors
///
/// What is wrong with it, or that another one has the name.
pub fn register(definition: &Definition) -> Result<(), String> {
    let mut registered = REGISTERED.write().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = registered.iter().find(|it| it.definition.name == definition.name) {
        let same = known.definition == *definition;
        let what = || format!("the driver {:?} is described twice, and not alike", definition.name);
        return if same { Ok(()) } else { Err(what()) };
    }
    let templates = definition.templates().map_err(|(_, what)| what)?;
    let names = definition.options.keys().map(|it| -> &'static str { it.clone().leak() });
    let options: Vec<&'static str> = std::iter::once("default").chain(names).collect();
    let (name, definition) = (definition.name.clone().leak(), definition.clone());
    let driver = CommandDriver { name, definition, templates, options: options.leak() };
    registered.push(Box::leak(Box::new(driver)));
    Ok(())
}

/// All described drivers, in the order of their registration.
pub fn registered() -> Vec<&'static dyn Driver> {
    let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    registered.iter().map(|&it| it as &'static dyn Driver).collect()
}

/// The descriptions of those that are called one of `names`.
pub fn definitions_of(names: &[&str]) -> Vec<Definition> {
    let registered = REGISTERED.read().unwrap_or_else(PoisonError::into_inner);
    let named = registered.iter().map(|it| &it.definition).filter(|it| names.contains(&it.name.as_str()));
    named.cloned().collect()
}

fn is_built_in(name: &str) -> bool {
    ALL.iter().any(|it| it.name() == name)
}

/// The program that `name` means: a path as it is, else one on PATH.
fn program(name: &str) -> Option<PathBuf> {
    if name.contains('/') {
        return Path::new(name).canonicalize().ok().filter(|it| it.is_file());
    }
    host::find_program(name)
}

impl CommandDriver {
    /// The command of `arguments`, with `value` for holes and `many` for those of whole arguments.
    fn command(
        arguments: &[Template],
        value: impl Fn(Hole) -> OsString,
        many: impl Fn(Hole) -> Vec<OsString>,
    ) -> Option<Command> {
        let mut filled = arguments.iter().flat_map(|it| match it.many() {
            Some(hole) => many(hole),
            None => vec![it.fill(&value)],
        });
        let mut command = Command::new(filled.next()?);
        command.args(filled);
        Some(command)
    }

    fn mount_command(&self, set: &str, imported: &Imported, branch: &Branch) -> Option<Command> {
        let options = || -> Vec<OsString> {
            self.definition.options.get(set).into_iter().flatten().map(OsString::from).collect()
        };
        let of_layer =
            |template: &Template, layer: &PathBuf| template.fill(|_| layer.clone().into_os_string());
        let lowers = || {
            let texts: Vec<OsString> =
                imported.layers.iter().map(|it| of_layer(&self.templates.lower, it)).collect();
            texts.join(std::ffi::OsStr::new(&self.definition.lowers_separator))
        };
        let each = |layer: &PathBuf| -> Vec<OsString> {
            self.templates.layer_argument.iter().map(|it| of_layer(it, layer)).collect()
        };
        let value = |hole: Hole| match hole {
            Hole::Lowers => lowers(),
            other => place(other, branch),
        };
        let many = |hole: Hole| match hole {
            Hole::Layers => imported.layers.iter().flat_map(each).collect(),
            _ => options(),
        };
        let mut arguments = self.templates.mount.clone();
        if let Ok(own) = Template::parse("{options}", &[Hole::Options])
            && !arguments.contains(&own)
        {
            // Right after the program, where options of a command may always stand.
            arguments.insert(1, own);
        }
        Self::command(&arguments, value, many)
    }

    fn unmount_command(&self, branch: &Branch) -> Option<Command> {
        Self::command(&self.templates.unmount, |hole| place(hole, branch), |_| Vec::new())
    }
}

/// The directory of `branch` that `hole` stands for.
fn place(hole: Hole, branch: &Branch) -> OsString {
    match hole {
        Hole::Upper => branch.upper.clone().into_os_string(),
        Hole::Work => branch.work.clone().into_os_string(),
        Hole::Target => branch.target.clone().into_os_string(),
        Hole::Lowers | Hole::Layer | Hole::Options | Hole::Layers => OsString::new(),
    }
}

impl Driver for CommandDriver {
    fn name(&self) -> &'static str {
        self.name
    }

    fn options(&self) -> &'static [&'static str] {
        self.options
    }

    fn needs(&self, _options: &str) -> Result<(), String> {
        let commands = [&self.definition.mount, &self.definition.unmount];
        let missing = commands.into_iter().filter_map(|it| it.first()).find(|it| program(it).is_none());
        missing.map_or(Ok(()), |it| Err(format!("{it}: no such program; install it, or describe its path")))
    }

    fn import(&self, layers: &LayerStack, _home: &Path) -> Result<Imported> {
        Ok(Imported::stacked(layers))
    }

    fn mount(&self, options: &str, imported: &Imported, branch: Branch) -> Result<View> {
        let none = || BenchErrorKind::Config("its description names no program".to_owned());
        let command = self.mount_command(options, imported, &branch);
        let command = command.ok_or_else(|| BenchError::new("mount", &self.definition.name, none()))?;
        let unmount = self.unmount_command(&branch);
        let child = if self.definition.foreground {
            Some(server::start_child(command, &branch)?)
        } else {
            server::run(command, &branch.home)?;
            await_mount(&branch)?;
            None
        };
        Ok(View::described(branch, self.definition.copies_up, Described { child, unmount }))
    }

    fn has_server(&self) -> bool {
        self.definition.server
    }

    fn version(&self) -> Option<String> {
        let [name, arguments @ ..] = self.definition.version.as_slice() else { return None };
        let program = program(name)?;
        let own = program.file_name()?.to_string_lossy().into_owned();
        let mut command = Command::new(program);
        command.args(arguments);
        version::of_command(command, &own)
    }
}

/// Waits until something is mounted on the target, as long as a process of the command lives.
fn await_mount(branch: &Branch) -> Result<()> {
    let deadline = Instant::now() + Limits::chosen().mount;
    while mount_id(&branch.target)? == mount_id(&branch.home)? {
        if marked::below(&branch.home).is_empty() && mount_id(&branch.target)? == mount_id(&branch.home)? {
            let what = format!(
                "it returned and nothing is mounted: {}",
                server::last_words(&branch.home.join("log"))
            );
            return Err(BenchError::new("mount on", &branch.target, BenchErrorKind::Refused(what)));
        }
        if deadline <= Instant::now() {
            marked::kill_below(&branch.home);
            let kind = BenchErrorKind::timed_out(Limits::chosen().mount);
            return Err(BenchError::new("mount on", &branch.target, kind));
        }
        sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// The mount that shows `path`, without asking its file system.
fn mount_id(path: &Path) -> Result<u64> {
    let flags = AtFlags::STATX_DONT_SYNC;
    let stat = statx(rustix::fs::CWD, path, flags, StatxFlags::MNT_ID).at("stat", path)?;
    Ok(stat.stx_mnt_id)
}
