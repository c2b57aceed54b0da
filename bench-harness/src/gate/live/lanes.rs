//! Both arms mounted for one block: fresh servers on fresh branches over the same layers.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags, openat};

use crate::cell::{Params, Stack, TreeKey};
use crate::driver::{Imported, Limits, View, Watchdog};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::gate::arm::ArmSpec;
use crate::gate::interleave::Arm;
use crate::matrix::expand::PlannedCell;
use crate::model::{Bed, Mounting};
use crate::run::bench::Bench;
use crate::run::checked;
use crate::run::interrupt::Interrupt;

/// A backing, and which of its layers.
type Place = (String, TreeKey);

/// What is the same in all blocks.
#[derive(Debug)]
pub struct Ground<'a> {
    /// Backings and layers.
    pub bench: Bench,
    /// Base and head.
    arms: &'a [ArmSpec; 2],
    /// The layers in the form of each arm's driver, or of each lane's where both arms have one driver.
    imports: BTreeMap<(usize, Place), Imported>,
}

/// The index of `arm` in pairs of things.
pub fn index_of(arm: Arm) -> usize {
    match arm {
        Arm::Base => 0,
        Arm::Head => 1,
    }
}

fn place_of(params: &Params) -> Place {
    (params.backing.clone(), params.tree())
}

impl<'a> Ground<'a> {
    /// Builds the layers of `cells`, and imports them.
    ///
    /// # Errors
    ///
    /// Any I/O error, a full disk most likely; or a signal came.
    pub fn build(
        mut bench: Bench,
        arms: &'a [ArmSpec; 2],
        cells: &[PlannedCell],
        interrupt: &Interrupt,
    ) -> Result<Self> {
        let stacks: BTreeMap<Place, Stack> =
            cells.iter().map(|it| (place_of(&it.cell.params), it.cell.stack())).collect();
        let mut imports = BTreeMap::new();
        for (place, stack) in stacks {
            bench.build_layers(&stack, cells)?;
            for (lane, arm) in arms.iter().enumerate() {
                interrupt.check()?;
                let home = bench.import_home(&stack, &lane.to_string())?;
                let imported = arm.driver.import(bench.layers_of(&stack)?, &home)?;
                imports.insert((lane, place.clone()), imported);
            }
        }
        bench.settle()?;
        Ok(Self { bench, arms, imports })
    }

    /// The import that `arm` shows in `lane`.
    ///
    /// Identical arms must be exchangeable: what one of two equal drivers has on disk
    /// thus belongs to the lane, which a coin gives to one or the other in each block.
    fn import(&self, arm: Arm, lane: usize, place: &Place) -> Result<Imported> {
        let one_driver = self.arms[0].driver.name() == self.arms[1].driver.name();
        let whose = if one_driver { lane } else { index_of(arm) };
        let missing = || BenchErrorKind::Config("its layers were not built".to_owned());
        let imported = self.imports.get(&(whose, place.clone()));
        let imported = imported.ok_or_else(|| BenchError::new("find layers on", &place.0, missing()))?;
        Ok(Imported { program: self.arms[index_of(arm)].program.clone(), ..imported.clone() })
    }
}

/// A mounted stack.
#[derive(Debug)]
struct Mounted {
    // Closed before the view is unmounted, since it keeps the mount busy.
    root: OwnedFd,
    view: View,
    imported: Imported,
    home: PathBuf,
}

/// Both arms of a block.
#[derive(Debug)]
pub struct Lanes<'a> {
    ground: &'a Ground<'a>,
    block: u32,
    /// Which arm was given the first lane.
    pub first: Arm,
    interrupt: &'a Interrupt,
    mounted: BTreeMap<(usize, Place), Mounted>,
}

impl<'a> Lanes<'a> {
    /// Mounts both arms for `cells`; `first` takes the first lane.
    ///
    /// # Errors
    ///
    /// A mount fails, another program than the arm's serves it, or a signal came.
    pub fn mount(
        ground: &'a Ground<'a>,
        block: u32,
        first: Arm,
        cells: &[&Params],
        interrupt: &'a Interrupt,
    ) -> Result<Self> {
        let mut own = Self { ground, block, first, interrupt, mounted: BTreeMap::new() };
        let places: BTreeSet<Place> = cells.iter().map(|it| place_of(it)).collect();
        for (number, place) in places.into_iter().enumerate() {
            let home = ground.bench.branch_home(&place.0, block)?;
            for (lane, arm) in [first, first.other()].into_iter().enumerate() {
                interrupt.check()?;
                let mounted = own.mount_one(arm, lane, &place, home.join(format!("{number}-{lane}")))?;
                own.mounted.insert((index_of(arm), place.clone()), mounted);
            }
        }
        ground.bench.settle()?;
        Ok(own)
    }

    fn mount_one(&self, arm: Arm, lane: usize, place: &Place, home: PathBuf) -> Result<Mounted> {
        let spec = &self.ground.arms[index_of(arm)];
        let imported = self.ground.import(arm, lane, place)?;
        let guard = self.ground.bench.watchdog.guard(&home, Limits::chosen().mount);
        let view = guard.end(checked::mount(spec.driver, &spec.options, &imported, &home))?;
        if let Some(wanted) = &spec.program {
            check_server(wanted, view.server_program().as_deref())
                .map_err(|kind| BenchError::new("check mount", &view.root, kind))?;
        }
        let root = openat(rustix::fs::CWD, &view.root, OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty());
        Ok(Mounted { root: root.at("open", &view.root)?, view, imported, home })
    }

    /// Where `arm` is measured with `params`.
    ///
    /// # Errors
    ///
    /// The arm is not mounted, or no descriptor is left.
    pub fn bed<'b>(&'b self, arm: Arm, params: &'b Params) -> Result<Bed<'b>> {
        let spec = &self.ground.arms[index_of(arm)];
        let missing = || BenchErrorKind::Config("it is not mounted".to_owned());
        let mounted = self.mounted.get(&(index_of(arm), place_of(params)));
        let Mounted { root, view, imported, home } =
            mounted.ok_or_else(|| BenchError::new("find mount of", spec.driver.name(), missing()))?;
        let stack = Stack { subject: spec.subject(), backing: params.backing.clone(), tree: params.tree() };
        Ok(Bed {
            view,
            // The same open directory, so that taking it wakes no server.
            root: root.try_clone().at("clone root of", &view.root)?,
            layers: self.ground.bench.layers_of(&stack)?,
            pattern: &self.ground.bench.pattern,
            params,
            block: self.block,
            mounting: Mounting { driver: spec.driver, options: &spec.options, imported, home },
            interrupt: self.interrupt,
        })
    }

    /// Unmounts all, and empties the branches.
    ///
    /// # Errors
    ///
    /// A mount stays busy or its server does not end in order; the others are ended all the same.
    pub fn close(self) -> Result<()> {
        let watchdog = &self.ground.bench.watchdog;
        let closed: Vec<Result<()>> = self.mounted.into_values().map(|it| it.close(watchdog)).collect();
        closed.into_iter().collect::<Result<()>>()?;
        self.ground.bench.remove_branches(self.block)
    }
}

impl Mounted {
    fn close(mut self, watchdog: &Watchdog) -> Result<()> {
        drop(self.root);
        let guard = watchdog.guard(&self.home, Limits::chosen().mount);
        guard.end(self.view.close())
    }
}

/// Refuses a mount that another program than `wanted` serves, or one of which nobody says who does.
fn check_server(wanted: &Path, serving: Option<&Path>) -> Result<(), BenchErrorKind> {
    // A script may start whatever it likes.
    if serving == Some(wanted) || is_script(wanted)? {
        return Ok(());
    }
    let who = serving.map_or("no server that it names".to_owned(), |it| it.display().to_string());
    Err(BenchErrorKind::Incorrect(format!("{who} serves it instead of {}", wanted.display())))
}

fn is_script(program: &Path) -> std::io::Result<bool> {
    let mut start = [0; 2];
    let read = File::open(program)?.read(&mut start)?;
    Ok(start[..read] == *b"#!")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_wanted_program_or_a_script_may_serve() {
        let dir = tempfile::tempdir().unwrap();
        let [binary, script] = ["binary", "script"].map(|it| dir.path().join(it));
        std::fs::write(&binary, b"\x7fELF").unwrap();
        std::fs::write(&script, "#!/bin/sh\n").unwrap();
        let other = Path::new("/usr/bin/other");
        for (wanted, serving, is_right) in [
            (&binary, Some(binary.as_path()), true),
            (&binary, Some(other), false),
            (&binary, None, false),
            (&script, Some(other), true),
            (&script, None, true),
        ] {
            assert_eq!(check_server(wanted, serving).is_ok(), is_right, "{wanted:?} {serving:?}");
        }
    }
}
