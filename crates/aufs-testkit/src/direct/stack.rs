//! Opens a union from the option string of a scenario.

use std::path::PathBuf;

use aufs_union::branch::{BranchPerm, BranchSpec};
use aufs_union::{Affected, BranchChange, Union, UnionOptions, Users};

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

/// Makes the changes of `append:PATH=PERM`, `prepend:`, `add:N:`, `ins:N:`, `del:PATH` and `mod:PATH=PERM`.
///
/// # Errors
///
/// What [`Union::change_branches`] reports; other words are [`Fault::Unsupported`].
pub fn change_branches(union: &mut Union, options: &str) -> Outcome<()> {
    for word in options.split(',') {
        let (name, rest) = word.split_once(':').ok_or(OTHER_OPTIONS)?;
        let add = |position, branch: &str| -> Outcome<BranchChange> {
            let is_plain = !branch.contains('=');
            let spec = branch_of(&if is_plain { format!("{branch}=ro") } else { branch.to_owned() })?;
            Ok(BranchChange::Add { position, spec })
        };
        let change = match name {
            "append" => add(None, rest)?,
            "prepend" => add(Some(0), rest)?,
            "add" | "ins" => {
                let (position, branch) = rest.split_once(':').ok_or(OTHER_OPTIONS)?;
                add(Some(position.parse().map_err(|_| OTHER_OPTIONS)?), branch)?
            }
            "del" => BranchChange::Remove { path: PathBuf::from(rest) },
            "mod" => {
                let BranchSpec { path, perm } = branch_of(rest)?;
                BranchChange::Modify { path, perm }
            }
            _ => return Err(OTHER_OPTIONS),
        };
        // Scenarios that change branches keep nothing open.
        let nobody = |_: &Affected<'_>| Users::default();
        union.change_branches(&change, nobody).map_err(|error| Fault::Errno(error.errno()))?;
    }
    Ok(())
}

fn branch_of(text: &str) -> Outcome<BranchSpec> {
    let (path, perm) = text.rsplit_once('=').ok_or(OTHER_OPTIONS)?;
    let perm = perm.parse::<BranchPerm>().map_err(|_| OTHER_OPTIONS)?;
    Ok(BranchSpec { path: PathBuf::from(path), perm })
}
