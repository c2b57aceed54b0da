//! What a run works on: backings, layers, drivers that can run, and their imports.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use tracing::warn;

use crate::backing::{self, Backing};
use crate::cell::{Cache, Params, Stack, Subject, TreeKey};
use crate::driver::{self, Driver, Imported, Limits, Watchdog};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::layers::{self, LayerStack};
use crate::matrix::expand::PlannedCell;
use crate::model::{self, Model};
use crate::pattern::Pattern;
use crate::run::cold::{self, Cooling};
use crate::run::interrupt::Interrupt;
use crate::run::journal::Skip;

/// Everything that is prepared once for all blocks.
///
/// Fields drop in order: mounts of backings before the scratch directory below them.
#[derive(Debug)]
pub struct Bench {
    /// Contents of files.
    pub pattern: Pattern,
    /// Backings by name.
    pub backings: BTreeMap<String, Backing>,
    /// Layers by backing and height.
    pub layers: BTreeMap<(String, TreeKey), LayerStack>,
    /// How far cold cells may go.
    pub cooling: Cooling,
    imports: BTreeMap<(String, TreeKey, String), Imported>,
    /// Ends drivers that hang.
    pub watchdog: Watchdog,
    scratch: TempDir,
    /// Sessions whose trees still lie in backings that keep inodes.
    n_shelved: u32,
}

/// Cells that can be measured, and what cannot.
#[derive(Debug, Default)]
pub struct Feasible {
    /// Cells of drivers that run here.
    pub cells: Vec<PlannedCell>,
    /// The rest, by driver and backing.
    pub skips: Vec<Skip>,
}

impl Drop for Bench {
    /// Removes the many files of kept branches in parallel; the rest goes with the scratch directory.
    fn drop(&mut self) {
        let trees: Vec<PathBuf> = self.backings.values().flat_map(|it| trees_below(&it.dir)).collect();
        if let Err(error) = driver::remove_trees(&trees) {
            warn!(error = error.line(), "scratch files stay behind");
        }
    }
}

impl Bench {
    /// Opens the backings of `cells` below `parent`.
    ///
    /// # Errors
    ///
    /// A backing cannot be made, or has too little room.
    pub fn open(cells: &[PlannedCell], parent: &Path) -> Result<Self> {
        Self::open_noted(cells, parent, |_| ())
    }

    /// As [`open`](Self::open), telling `note` of the directory that holds all of it before anything is in it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_noted(cells: &[PlannedCell], parent: &Path, note: impl FnOnce(&Path)) -> Result<Self> {
        let scratch = backing::scratch(parent)?;
        note(scratch.path());
        let (layers, imports, backings, cooling) = Default::default();
        let watchdog = Watchdog::start(Limits::chosen())?;
        let pattern = Pattern::default();
        let mut bench = Self { pattern, backings, layers, cooling, imports, watchdog, scratch, n_shelved: 0 };
        bench.open_backings(cells)?;
        Ok(bench)
    }

    /// The directory that holds all of it.
    pub fn scratch(&self) -> &Path {
        self.scratch.path()
    }

    /// Gives up all layers, imports and backings, and opens new backings at the same paths.
    ///
    /// A directory of ext4 without a journal stays, with its trees emptied and
    /// moved aside: removing them would cost the next session's copies; see [`Backing::keeps_inodes`].
    ///
    /// # Errors
    ///
    /// Any I/O error, or too little room.
    pub fn renew(&mut self, cells: &[PlannedCell]) -> Result<()> {
        self.layers.clear();
        self.imports.clear();
        self.n_shelved += 1;
        for (_, backing) in std::mem::take(&mut self.backings) {
            if backing.keeps_inodes {
                shelve(&backing.dir, self.n_shelved)?;
                self.backings.insert(backing.facts.name.clone(), backing);
                continue;
            }
            let home = self.home(&backing.facts.name, cells);
            driver::remove_trees(&trees_below(&backing.dir))?;
            drop(backing);
            driver::remove_trees(&[home])?;
        }
        self.open_backings(cells)
    }

    /// Where the backing `name` of `cells` lies.
    fn home(&self, name: &str, cells: &[PlannedCell]) -> PathBuf {
        let index = names(cells).iter().position(|it| *it == name).unwrap_or_default();
        self.scratch.path().join(index.to_string())
    }

    fn open_backings(&mut self, cells: &[PlannedCell]) -> Result<()> {
        let names = names(cells);
        // An eighth for what file systems need besides.
        let needed =
            |name: &str| (layers::planned_bytes(cells, name) / 8).saturating_mul(9).saturating_add(64 << 20);
        // Images are sparse: each would find room in itself that the host does not have for all.
        let in_images = names.iter().filter(|it| backing::is_image(it)).map(|it| needed(it));
        let in_images = in_images.fold(0, u64::saturating_add);
        backing::check_room(self.scratch.path(), in_images)?;
        for name in names {
            if self.backings.contains_key(name) {
                continue;
            }
            let home = self.home(name, cells);
            fs::create_dir(&home).at("create", &home)?;
            self.backings.insert(name.clone(), Backing::open(name, &home, needed(name))?);
        }
        Ok(())
    }

    /// The backing called `name`.
    ///
    /// # Errors
    ///
    /// `Config`: this run has none.
    pub fn backing(&self, name: &str) -> Result<&Backing> {
        let missing = || BenchErrorKind::Config("no such backing in this run".to_owned());
        self.backings.get(name).ok_or_else(|| BenchError::new("find", name, missing()))
    }

    /// Tries each driver on each backing, and sorts out what cannot be measured.
    ///
    /// # Errors
    ///
    /// A signal came.
    pub fn feasible(&self, cells: &[PlannedCell], interrupt: &Interrupt) -> Result<Feasible> {
        let mut reasons: BTreeMap<(Subject, String), Result<(), String>> = BTreeMap::new();
        let mut refused = BTreeSet::new();
        let mut feasible = Feasible::default();
        for planned in cells {
            let (subject, params) = (planned.cell.subject(), &planned.cell.params);
            let key = (subject.clone(), params.backing.clone());
            let Some(driver) = driver::by_name(&subject.driver) else { continue };
            if !reasons.contains_key(&key) {
                interrupt.check()?;
                let tried = driver::probe(driver, &subject.options, &self.backing(&params.backing)?.dir);
                if let Err(reason) = &tried {
                    feasible.skips.push(skip(&key, None, reason));
                }
                reasons.insert(key.clone(), tried);
            }
            if reasons.get(&key).is_some_and(|it| it.is_err()) {
                continue;
            }
            let Some(model) = model::by_name(&params.model) else { continue };
            let whole = model.refuses(driver).map(|reason| (params.model.clone(), reason));
            let cold = || Some((format!("{} (cold)", params.model), self.refuses_cold(params, model)?));
            match whole.or_else(cold) {
                None => feasible.cells.push(planned.clone()),
                Some((what, reason)) if refused.insert((key.clone(), what.clone())) => {
                    feasible.skips.push(skip(&key, Some(what), reason));
                }
                Some(_) => {}
            }
        }
        Ok(feasible)
    }

    /// Why `params` cannot be measured cold, if that is what they ask for.
    fn refuses_cold(&self, params: &Params, model: &dyn Model) -> Option<&'static str> {
        let fs_type = &self.backings.get(&params.backing)?.facts.fs_type;
        let refuses = || self.cooling.refuses(model.chills(), fs_type).or_else(cold::cannot_verify);
        (params.cache == Cache::Cold).then(refuses).flatten()
    }

    /// Reads all layers and imports again, after the caches of the host were dropped.
    ///
    /// # Errors
    ///
    /// Any I/O error.
    pub fn warm_again(&self) -> Result<()> {
        let layers = self.layers.values().flat_map(|it| it.dirs.iter().cloned());
        let copies = self.imports.values().filter_map(|it| it.flat.clone());
        cold::warm_again(&layers.chain(copies).collect::<Vec<_>>())
    }

    /// Builds the layers of `cells`, and each driver's import of them.
    ///
    /// # Errors
    ///
    /// Any I/O error, a full disk most likely; or a signal came.
    pub fn build(&mut self, cells: &[PlannedCell], interrupt: &Interrupt) -> Result<()> {
        let stacks: BTreeSet<Stack> = cells.iter().map(|it| it.cell.stack()).collect();
        for stack in &stacks {
            interrupt.check()?;
            self.build_layers(stack, cells)?;
            let (driver, layers) = (known(&stack.subject.driver)?, self.layers_of(stack)?);
            let import_key = (stack.backing.clone(), stack.tree, stack.subject.driver.clone());
            if !self.imports.contains_key(&import_key) {
                let home = self.import_home(stack, &stack.subject.driver)?;
                let imported = driver.import(layers, &home)?;
                self.imports.insert(import_key, imported);
            }
        }
        self.settle()
    }

    /// Builds the layers behind `stack`, with the files of `cells`, unless they are there.
    ///
    /// # Errors
    ///
    /// Any I/O error, a full disk most likely.
    pub fn build_layers(&mut self, stack: &Stack, cells: &[PlannedCell]) -> Result<()> {
        let key = (stack.backing.clone(), stack.tree);
        if !self.layers.contains_key(&key) {
            let root = self.backing(&stack.backing)?.dir.join(format!("l{}", name_of(stack.tree)));
            let files = layers::plan(cells, &stack.backing, stack.tree);
            self.layers.insert(key, LayerStack::build(&root, stack.tree, files, &self.pattern)?);
        }
        Ok(())
    }

    /// A new directory for the import of the layers behind `stack` by `whom`.
    ///
    /// # Errors
    ///
    /// It exists, or cannot be created.
    pub fn import_home(&self, stack: &Stack, whom: &str) -> Result<PathBuf> {
        let home = self.backing(&stack.backing)?.dir.join(format!("i{}-{whom}", name_of(stack.tree)));
        fs::create_dir(&home).at("create", &home)?;
        Ok(home)
    }

    /// The layers behind `stack`.
    ///
    /// # Errors
    ///
    /// They were not built.
    pub fn layers_of(&self, stack: &Stack) -> Result<&LayerStack> {
        let built = self.layers.get(&(stack.backing.clone(), stack.tree));
        built.ok_or_else(|| not_built(stack))
    }

    /// The driver's form of them.
    ///
    /// # Errors
    ///
    /// They were not built.
    pub fn import_of(&self, stack: &Stack) -> Result<&Imported> {
        let key = (stack.backing.clone(), stack.tree, stack.subject.driver.clone());
        self.imports.get(&key).ok_or_else(|| not_built(stack))
    }

    /// A directory for the branches of `block`.
    ///
    /// # Errors
    ///
    /// It cannot be created.
    pub fn branch_home(&self, backing: &str, block: u32) -> Result<PathBuf> {
        let backing = self.backing(backing)?;
        let home = backing.dir.join(format!("b{block}"));
        fs::create_dir_all(&home).at("create", &home)?;
        backing.spread(&home)?;
        Ok(home)
    }

    /// Empties or removes the branches of `block`; see [`Backing::keeps_inodes`].
    ///
    /// # Errors
    ///
    /// Any I/O error.
    pub fn remove_branches(&self, block: u32) -> Result<()> {
        for (name, backing) in &self.backings {
            let home = self.branch_home(name, block)?;
            let entries = fs::read_dir(&home).at("read directory", &home)?;
            let branches: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
            if backing.keeps_inodes {
                driver::empty_trees(&branches)?;
            } else {
                driver::remove_trees(&branches)?;
                driver::remove_trees(&[home])?;
                if let Err(error) = backing.trim() {
                    warn!(backing = name, error = error.line(), "an image keeps the blocks of removed files");
                }
            }
        }
        Ok(())
    }

    /// Writes what is dirty on all backings.
    ///
    /// # Errors
    ///
    /// What `syncfs(2)` reports.
    pub fn settle(&self) -> Result<()> {
        self.backings.values().try_for_each(Backing::settle)
    }
}

fn name_of(tree: TreeKey) -> String {
    format!("{}{:?}", tree.n_layers, tree.content)
}

/// The model of checked parameters.
///
/// # Errors
///
/// `Config`: there is none of that name.
pub fn known_model(params: &Params) -> Result<&'static dyn Model> {
    let unknown = || crate::suggest::unknown("model", &params.model, &model::names());
    model::by_name(&params.model)
        .ok_or_else(|| BenchError::new("find", &params.model, BenchErrorKind::Config(unknown())))
}

/// The backings of `cells`.
fn names(cells: &[PlannedCell]) -> BTreeSet<&String> {
    cells.iter().map(|it| &it.cell.params.backing).collect()
}

/// The directories two levels below `dir`: layers, imports and branches, many enough to be removed in parallel.
fn trees_below(dir: &Path) -> Vec<PathBuf> {
    let inner = |dir: &Path| fs::read_dir(dir).into_iter().flatten().flatten().map(|it| it.path());
    let trees: Vec<PathBuf> = inner(dir).collect();
    trees.iter().flat_map(|it| inner(it)).filter(|it| it.is_dir()).collect()
}

/// Empties all trees in `dir` and moves them aside, so that their names are free and their inodes are not.
fn shelve(dir: &Path, session: u32) -> Result<()> {
    let entries = fs::read_dir(dir).at("read directory", dir)?;
    let old: Vec<PathBuf> = entries.flatten().map(|it| it.path()).collect();
    let shelf = dir.join(format!("old{session}"));
    fs::create_dir(&shelf).at("create", &shelf)?;
    let is_shelf =
        |it: &PathBuf| it.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"old"));
    for tree in old.iter().filter(|it| !is_shelf(it)) {
        let aside = shelf.join(tree.file_name().unwrap_or_default());
        fs::rename(tree, &aside).at("move aside", tree)?;
    }
    driver::empty_trees(&[shelf])
}

/// The driver of a checked matrix.
///
/// # Errors
///
/// `Config`: there is none of that name.
pub fn known(name: &str) -> Result<&'static dyn Driver> {
    let unknown = || crate::suggest::unknown("driver", name, &driver::names());
    driver::by_name(name).ok_or_else(|| BenchError::new("find", name, BenchErrorKind::Config(unknown())))
}

fn not_built(stack: &Stack) -> BenchError {
    let reason = BenchErrorKind::Config("its layers were not built".to_owned());
    BenchError::new("find layers of", &stack.subject.driver, reason)
}

fn skip(key: &(Subject, String), model: Option<String>, reason: &str) -> Skip {
    Skip { subject: key.0.clone(), backing: key.1.clone(), model, reason: reason.to_owned() }
}
