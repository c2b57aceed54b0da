//! Renames on a union without a mount, with the checks of the VFS.

use std::sync::Arc;

use aufs_union::{Found, RenameMode, Union};
use rustix::fs::{FileType, RenameFlags};
use rustix::io::Errno;

use super::Direct;
use crate::subject::{Final, Outcome};
use crate::walk::{Place, SEARCH, WRITE, errno_of, walk};

/// Renames as `renameat2(2)`.
pub(super) fn rename(
    direct: &Direct,
    union: &Union,
    source: &str,
    target: &str,
    flags: RenameFlags,
) -> Outcome<()> {
    let mode = match flags {
        RenameFlags::NOREPLACE => RenameMode::NoReplace,
        RenameFlags::EXCHANGE => RenameMode::Exchange,
        _ if flags.is_empty() => RenameMode::Replace,
        _ => return Err(Errno::INVAL.into()), // As our server answers RENAME_WHITEOUT.
    };
    let caller = direct.caller;
    let old = walk(union, caller, source, Final::Itself)?;
    let new = walk(union, caller, target, Final::Itself)?;
    let old_name = old.name_or(Errno::BUSY)?.to_owned();
    let new_name = new.name_or(Errno::BUSY)?.to_owned();
    direct.refuse_read_only()?;
    let (old_dir, new_dir) = (old.dir()?.clone(), new.dir()?.clone());
    let moved = old.clone().existing()?;
    match (mode, &new.found) {
        (RenameMode::NoReplace, Some(_)) => return Err(Errno::EXIST.into()),
        (RenameMode::Exchange, None) => return Err(Errno::NOENT.into()),
        _ => {}
    }
    if lies_in(&new, &moved) {
        return Err(Errno::INVAL.into());
    }
    if let Some(taken) = &new.found {
        if lies_in(&old, taken) {
            return Err(if mode == RenameMode::Exchange { Errno::INVAL } else { Errno::NOTEMPTY }.into());
        }
        if Arc::ptr_eq(&taken.node, &moved.node) {
            return Ok(()); // Two names of one file: nothing to do, says rename(2).
        }
    }
    caller.may_delete(&old_dir.attr, &moved.attr)?;
    match &new.found {
        None => caller.may(&new_dir.attr, WRITE | SEARCH)?,
        Some(taken) => {
            caller.may_delete(&new_dir.attr, &taken.attr)?;
            match (is_directory(&moved), is_directory(taken)) {
                _ if mode == RenameMode::Exchange => {}
                (true, false) => return Err(Errno::NOTDIR.into()),
                (false, true) => return Err(Errno::ISDIR.into()),
                _ => {}
            }
        }
    }
    union.rename(&old_dir.node, &old_name, &new_dir.node, &new_name, mode).map_err(errno_of)
}

fn is_directory(found: &Found) -> bool {
    found.node.file_type() == FileType::Directory
}

/// Whether `place` lies in or below the directory `above`.
fn lies_in(place: &Place, above: &Found) -> bool {
    place.dirs.iter().any(|dir| Arc::ptr_eq(&dir.node, &above.node))
}
