//! Opens a union from the option string of a scenario.

use std::path::PathBuf;

use aufs_union::branch::{BranchPerm, BranchSpec};
use aufs_union::{Union, UnionOptions};

use crate::subject::{Fault, Outcome};

const OTHER_OPTIONS: Fault = Fault::Unsupported("the grammar of options is not the union's");

/// Opens the branches of `br:PATH=PERM:…[,udba=none|reval][,dirperm1]`.
///
/// # Errors
///
/// What [`Union::open`] reports; other options are [`Fault::Unsupported`].
pub fn open_union(options: &str) -> Outcome<Union> {
    let mut parts = options.split(',');
    let Some(stack) = parts.next().and_then(|it| it.strip_prefix("br:")) else {
        return Err(OTHER_OPTIONS);
    };
    let mut options = UnionOptions::default();
    for part in parts {
        match part {
            "udba=reval" => options.revalidate = true,
            "diropq=a" => options.always_opaque = true,
            "diropq=w" => options.always_opaque = false,
            "udba=none" | "dirperm1" => {}
            _ => return Err(OTHER_OPTIONS),
        }
    }
    options.stack = stack.split(':').map(branch_of).collect::<Outcome<Vec<BranchSpec>>>()?;
    Union::open(&options).map_err(|error| Fault::Errno(error.errno()))
}

fn branch_of(text: &str) -> Outcome<BranchSpec> {
    let (path, perm) = text.rsplit_once('=').ok_or(OTHER_OPTIONS)?;
    let perm = perm.parse::<BranchPerm>().map_err(|_| OTHER_OPTIONS)?;
    Ok(BranchSpec { path: PathBuf::from(path), perm })
}
