//! One listing of a directory with many files: opened, read to its end, closed.

use std::collections::BTreeSet;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::time::Instant;

use super::listing::{list, name_of, open_dir};
use super::{Bed, Chill, Lower, Model, Timing};
use crate::cell::Cache;
use crate::error::Result;
use crate::host::elapsed_ns;
use crate::layers::FileSpec;
use crate::pattern::Extent;
use crate::tree::{Shape, Tree};

/// One listing.
#[derive(Debug)]
pub struct Readdir;

/// Lists the directory and counts its entries.
fn count(bed: &Bed<'_>, file: &FileSpec) -> Result<u32> {
    let dir = open_dir(bed.root(), &file.path, &file.path)?;
    let mut n = 0;
    list(dir.as_fd(), &file.path, |_, _| {
        n += 1;
        Ok(())
    })?;
    Ok(n)
}

impl Model for Readdir {
    fn name(&self) -> &'static str {
        "readdir"
    }

    fn about(&self) -> &'static str {
        "A directory of many files opened, listed and closed: fresh for the first time on this mount, hot again."
    }

    fn lower(&self) -> Lower {
        Lower::Tree(Shape::Flat)
    }

    fn fills_branches(&self) -> bool {
        false
    }

    fn chills(&self) -> Chill {
        Chill::Names
    }

    fn prepare(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<()> {
        if bed.params.cache == Cache::Hot {
            count(bed, file)?;
        }
        Ok(())
    }

    fn sample(&self, bed: &Bed<'_>, file: &FileSpec) -> Result<Timing> {
        let start = Instant::now();
        let n = count(bed, file);
        let elapsed_ns = elapsed_ns(start);
        let n = n?;
        if n != file.entries {
            return Err(bed.incorrect(file, format!("lists {n} entries instead of {}", file.entries)));
        }
        Ok(elapsed_ns.into())
    }

    fn check(&self, bed: &Bed<'_>, file: &FileSpec, _extent: Extent) -> Result<()> {
        let dir = open_dir(bed.root(), &file.path, &file.path)?;
        let mut found = BTreeSet::new();
        list(dir.as_fd(), &file.path, |name, _| {
            found.insert(PathBuf::from(name_of(name)));
            Ok(())
        })?;
        let tree = Tree::new(file, Shape::Flat);
        match (0..file.entries).map(|it| tree.name(it)).find(|name| !found.contains(name)) {
            Some(missing) => Err(bed.incorrect(file, format!("does not list {}", missing.display()))),
            None => Ok(()),
        }
    }
}
