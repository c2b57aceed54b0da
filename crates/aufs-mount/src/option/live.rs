//! Words that change a stack: `append:PATH`, `add:INDEX:PATH=PERM`, `del:PATH`, `mod:PATH=PERM`.
//!
//! With `remount` they change a live mount. Without, those that add do so to the
//! stack that is to be mounted; there is nothing yet that the others could change.

use std::path::Path;

use aufs_union::BranchChange;
use aufs_union::branch::{BranchPerm, BranchSpec};

use super::parse::{OptionErrorKind, path_of};
use super::split;

/// What such a word does, in aufs's own words.
///
/// Source: aufs.5, the branch manipulation options.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChangeWord {
    /// `add` or `ins`: puts a branch at a position.
    Add,
    /// `append`: puts it below all others.
    Append,
    /// `prepend`: puts it above all others.
    Prepend,
    /// `del`: takes it away.
    Del,
    /// `mod`: gives it another permission.
    Mod,
}

impl ChangeWord {
    /// Reads what follows the word; `read_perm` takes what follows the last `=` of a branch.
    pub(super) fn read(
        self,
        value: &[u8],
        read_perm: impl FnOnce(&str) -> Result<BranchPerm, OptionErrorKind>,
    ) -> Result<BranchChange, OptionErrorKind> {
        let (position, branch) = match self {
            Self::Add => {
                let (index, branch) = index_of(value).ok_or(OptionErrorKind::NeedsIndex)?;
                (Some(index), branch)
            }
            Self::Prepend => (Some(0), value),
            Self::Append | Self::Del | Self::Mod => (None, value),
        };
        if self == Self::Del {
            return Ok(BranchChange::Remove { path: path_of(branch)? });
        }
        let (path, perm) = split::split_perm(branch);
        let path = path_of(path)?;
        let perm = perm.map(|it| read_perm(&String::from_utf8_lossy(it))).transpose()?;
        if self == Self::Mod {
            return Ok(BranchChange::Modify { path, perm: perm.ok_or(OptionErrorKind::NeedsPerm)? });
        }
        let perm = perm.unwrap_or_else(|| default_perm(position));
        Ok(BranchChange::Add { position, spec: BranchSpec { path, perm } })
    }
}

/// The permission of a branch that was given none: the topmost can be written.
pub fn default_perm(position: Option<usize>) -> BranchPerm {
    if position == Some(0) { BranchPerm::ReadWrite } else { BranchPerm::ReadOnly { whiteouts: false } }
}

/// Makes a change to a stack that is not mounted yet.
pub(super) fn stack(branches: &mut Vec<BranchSpec>, change: BranchChange) -> Result<(), OptionErrorKind> {
    let BranchChange::Add { position, spec } = change else { return Err(OptionErrorKind::NeedsRemount) };
    let count = branches.len();
    let position = position.unwrap_or(count);
    if count < position {
        return Err(OptionErrorKind::NoSuchIndex { position, count });
    }
    branches.insert(position, spec);
    Ok(())
}

/// Splits `INDEX:BRANCH`.
fn index_of(value: &[u8]) -> Option<(usize, &[u8])> {
    let colon = value.iter().position(|it| *it == b':')?;
    let digits = std::str::from_utf8(&value[..colon]).ok()?;
    let is_number = !digits.is_empty() && digits.bytes().all(|it| it.is_ascii_digit());
    Some((is_number.then(|| digits.parse().ok())??, &value[colon + 1..]))
}

/// Writes the word that makes a change; `escape` writes its path.
pub(crate) fn word_of(change: &BranchChange, escape: impl Fn(&Path) -> Vec<u8>) -> Vec<u8> {
    let branch =
        |path: &Path, perm: BranchPerm| [escape(path).as_slice(), b"=", perm.to_string().as_bytes()].concat();
    let (word, rest) = match change {
        BranchChange::Add { position: None, spec } => ("append:".to_owned(), branch(&spec.path, spec.perm)),
        BranchChange::Add { position: Some(index), spec } => {
            (format!("add:{index}:"), branch(&spec.path, spec.perm))
        }
        BranchChange::Remove { path } => ("del:".to_owned(), escape(path)),
        BranchChange::Modify { path, perm } => ("mod:".to_owned(), branch(path, *perm)),
    };
    [word.into_bytes(), rest].concat()
}

#[cfg(test)]
mod tests {
    use super::super::{Dialect, MountOptions, parse};
    use super::*;

    fn read(text: &str) -> MountOptions {
        parse(text.as_ref(), Dialect::Own).unwrap().options
    }

    fn spec(path: &str, perm: &str) -> BranchSpec {
        BranchSpec { path: path.into(), perm: perm.parse().unwrap() }
    }

    #[test]
    fn words_of_a_remount_come_in_their_order() {
        let text = r"remount,del:/gone,append:/a,prepend=/b,add:1:/c=ro+wh,ins:0:/d\,d,mod:/e\=e=rr,noatime";
        let add = |position, path, perm| BranchChange::Add { position, spec: spec(path, perm) };
        let expected = vec![
            BranchChange::Remove { path: "/gone".into() },
            add(None, "/a", "ro"),
            add(Some(0), "/b", "rw"),
            add(Some(1), "/c", "ro+wh"),
            add(Some(0), "/d,d", "rw"),
            BranchChange::Modify { path: "/e=e".into(), perm: "rr".parse().unwrap() },
        ];
        let options = read(text);
        assert_eq!(
            (options.changes, options.branches, options.flags.no_atime),
            (expected, vec![], Some(true))
        );
    }

    #[test]
    fn without_a_remount_they_build_the_stack() {
        let options = read("append:/low=ro+wh,br:/up,prepend:/top=rw,add:1:/mid");
        let expected = [spec("/top", "rw"), spec("/mid", "ro"), spec("/up", "rw"), spec("/low", "ro+wh")];
        assert_eq!((&options.branches[..], &options.changes[..]), (&expected[..], &[][..]));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for (text, expected) in [
            ("remount,append", "option append: needs a value"),
            ("remount,append:=ro", "option append:=ro: names no path"),
            ("remount,del:", "option del:: needs a value"),
            ("remount,mod:/a", "option mod:/a: needs a permission, as in mod:/branch=ro"),
            ("remount,mod:/a=xx", "option mod:/a=xx: "),
            ("remount,add:/a", "option add:/a: needs a position and a path, as in add:1:/branch=ro"),
            ("remount,add:-1:/a", "option add:-1:/a: needs a position"),
            ("remount,add:+1:/a", "option add:+1:/a: needs a position"),
            ("remount,add:99999999999999999999:/a", "option add:99999999999999999999:/a: needs a position"),
            ("remount,add:1:", "option add:1:: names no path"),
            ("br:/a,del:/a", "option del:/a: changes a live mount; add remount to the options"),
            ("br:/a,add:2:/b", "option add:2:/b: there is no position 2 among 1 branches"),
            ("remount,idel:0", "option idel:0: unknown"),
        ] {
            let error = parse(text.as_ref(), Dialect::Own).unwrap_err();
            let source = std::error::Error::source(&error).unwrap();
            let told = format!("{error}: {source}");
            assert!(told.starts_with(expected), "{text}: {told}");
        }
    }
}
