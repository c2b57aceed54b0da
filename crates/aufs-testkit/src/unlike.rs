//! Where a union answers otherwise than a plain directory: the differences that SEMANTICS.md lists, each as narrow as it is.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::mounted::Mounted;
use crate::op::Op;
use crate::scenario::{Seen, StepResult, Tree};
use crate::subject::{Fault, Final, Outcome, Subject};

/// How a union is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "as `data=` has them")]
pub enum Served {
    Passthrough,
    NoOpen,
    Cached,
}

const EVERY: &[Served] = &[Served::Passthrough, Served::NoOpen, Served::Cached];

/// What may differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Attribute {
    ModificationTime,
    SetIdBits,
}

/// Of which entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// All of a type.
    Type(&'static str),
    /// Those to which this was done, until somebody sets the attribute.
    Marked(Mark),
}

/// What was done to a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Mark {
    /// Somebody but root opened it for writing, or wrote it by an open file.
    WrittenByUser,
    /// It was cut to the length it had, or blocks were reserved or freed without a change of the length.
    ChangedWithinItsLength,
}

#[derive(Debug)]
struct Difference {
    served: &'static [Served],
    attribute: Attribute,
    whose: Whose,
    /// For who reads this list.
    _why: &'static str,
}

/// Every difference that random calls come across.
const DIFFERENCES: &[Difference] = &[
    Difference {
        served: EVERY,
        attribute: Attribute::ModificationTime,
        whose: Whose::Type("dir"),
        _why: "a copy-up into a directory moves its time, as on kernel aufs",
    },
    Difference {
        served: EVERY,
        attribute: Attribute::ModificationTime,
        whose: Whose::Type("fifo"),
        _why: "the kernel tells no server of bytes that go through a FIFO",
    },
    Difference {
        served: &[Served::NoOpen],
        attribute: Attribute::ModificationTime,
        whose: Whose::Marked(Mark::ChangedWithinItsLength),
        _why: "the kernel keeps the times of files that it collects writes for, and moves them when the length changes",
    },
    Difference {
        served: &[Served::Passthrough],
        attribute: Attribute::SetIdBits,
        whose: Whose::Marked(Mark::WrittenByUser),
        _why: "bits go when a user opens the file for writing, and stay when he writes by somebody else's descriptor",
    },
];

/// A file of the plain directory: its device and number.
type FileId = (u64, u64);

/// What was done to the files of one process.
#[derive(Debug)]
pub struct Marks {
    served: Served,
    marked: HashMap<Mark, HashSet<FileId>>,
    opened: HashMap<String, FileId>,
}

/// What a call concerns, as it was before the call.
#[derive(Debug, Clone, Copy, Default)]
pub struct Target {
    id: Option<FileId>,
    len_bytes: Option<u64>,
}

impl Target {
    /// With what an open file says of its length.
    #[must_use]
    pub fn of_length(self, len_bytes: Option<u64>) -> Self {
        Self { len_bytes, ..self }
    }
}

impl Marks {
    /// Nothing was done yet.
    pub fn new(served: Served) -> Self {
        Self { served, marked: HashMap::new(), opened: HashMap::new() }
    }

    /// Whether `op` is not to be made at all, since what it leaves behind would differ.
    ///
    /// Copying within one file to where it overlaps is `EINVAL`. In passthrough a reader keeps the file that it
    /// opened before the copy-up, so the two ends of the call are two files for the kernel.
    ///
    /// # Errors
    ///
    /// The kit's own failure.
    pub fn leave_out_call(&self, plain: &mut Mounted, op: &Op) -> Outcome<bool> {
        let Op::CopyRange { src, from, to, length, .. } = op else { return Ok(false) };
        let overlaps = usize::try_from(from.abs_diff(*to)).is_ok_and(|it| it < *length);
        if self.served != Served::Passthrough || !overlaps {
            return Ok(false);
        }
        let source = self.target(plain, &Op::Stat { path: src.clone() })?;
        Ok(source.id.is_some() && source.id == self.target(plain, op)?.id)
    }

    /// Looks at what `op` is about to change in the plain directory.
    ///
    /// # Errors
    ///
    /// The kit's own failure.
    pub fn target(&self, plain: &mut Mounted, op: &Op) -> Outcome<Target> {
        let (path, last) = match op {
            Op::Lstat { path } | Op::CreatExcl { path } => (path, Final::Itself),
            Op::CopyRange { dst, .. } => (dst, Final::Follow),
            Op::Open { path, .. }
            | Op::Stat { path }
            | Op::Chmod { path, .. }
            | Op::Utimens { path, .. }
            | Op::Mtime { path, .. }
            | Op::WriteFile { path, .. }
            | Op::AppendFile { path, .. }
            | Op::Overwrite { path, .. }
            | Op::Truncate { path, .. }
            | Op::Allocate { path, .. }
            | Op::MapWrite { path, .. } => (path, Final::Follow),
            Op::Fstat { h }
            | Op::Fchmod { h, .. }
            | Op::Write { h, .. }
            | Op::Pwrite { h, .. }
            | Op::Ftruncate { h, .. } => {
                return Ok(Target { id: self.opened.get(h).copied(), len_bytes: None });
            }
            _ => return Ok(Target::default()),
        };
        match plain.stat(path, last) {
            Ok(stat) => Ok(Target { id: Some((stat.dev, stat.ino)), len_bytes: Some(stat.size) }),
            Err(Fault::Errno(_)) => Ok(Target::default()),
            Err(fault) => Err(fault),
        }
    }

    /// Notes what a call did that both sides made.
    ///
    /// # Errors
    ///
    /// The kit's own failure.
    pub fn note(
        &mut self,
        plain: &mut Mounted,
        op: &Op,
        by_user: bool,
        before: Target,
        result: &StepResult,
    ) -> Outcome<()> {
        match op {
            Op::Close { h } => drop(self.opened.remove(h)),
            Op::Open { h, .. } if result.err.is_none() => {
                let after = self.target(plain, op)?;
                self.opened.extend(after.id.map(|id| (h.clone(), id)));
            }
            _ => {}
        }
        let Some(id) = before.id else {
            // Of what is new, which may have the number of a file that is gone, nothing is known.
            let made = match op {
                _ if result.err.is_some() => return Ok(()),
                Op::Tmpfile { dst, .. } => self.target(plain, &Op::Lstat { path: dst.clone() })?,
                _ => self.target(plain, op)?,
            };
            self.marked.values_mut().for_each(|files| files.retain(|it| Some(*it) != made.id));
            return Ok(());
        };
        match op {
            Op::Open { .. }
            | Op::WriteFile { .. }
            | Op::AppendFile { .. }
            | Op::Overwrite { .. }
            | Op::Allocate { .. }
            | Op::CopyRange { .. }
            | Op::MapWrite { .. }
            | Op::Write { .. }
            | Op::Pwrite { .. }
            | Op::Ftruncate { .. }
                if by_user =>
            {
                self.mark(Mark::WrittenByUser, id);
            }
            Op::Chmod { .. } | Op::Fchmod { .. } if result.err.is_none() => {
                self.unmark(Mark::WrittenByUser, id);
            }
            Op::Utimens { .. } | Op::Mtime { .. } if result.err.is_none() => {
                self.unmark(Mark::ChangedWithinItsLength, id);
            }
            _ => {}
        }
        let is_within = match op {
            Op::Truncate { length, .. } | Op::Ftruncate { length, .. } => before.len_bytes == Some(*length),
            Op::Allocate { mode, .. } => mode & KEEP_SIZE != 0,
            _ => false,
        };
        if is_within && result.err.is_none() {
            self.mark(Mark::ChangedWithinItsLength, id);
        }
        Ok(())
    }

    fn mark(&mut self, mark: Mark, id: FileId) {
        self.marked.entry(mark).or_default().insert(id);
    }

    fn unmark(&mut self, mark: Mark, id: FileId) {
        if let Some(files) = self.marked.get_mut(&mark) {
            files.remove(&id);
        }
    }

    /// Whether two results differ in nothing but what may.
    pub fn agree(&self, target: Target, wanted: &StepResult, got: &StepResult) -> bool {
        if wanted == got {
            return true;
        }
        let seen = |result: &StepResult| match (&result.err, &result.ret) {
            (None, Value::Object(_)) => serde_json::from_value::<Seen>(result.ret.clone()).ok(),
            _ => None,
        };
        let (Some(mut wanted), Some(mut got)) = (seen(wanted), seen(got)) else { return false };
        let is_marked =
            |mark| target.id.is_some_and(|id| self.marked.get(&mark).is_some_and(|it| it.contains(&id)));
        leave_out(&mut wanted, self.served, is_marked);
        leave_out(&mut got, self.served, is_marked);
        wanted == got
    }

    /// The paths of marked files below the root of `plain`, each put behind `prefix`.
    ///
    /// # Errors
    ///
    /// The kit's own failure.
    pub fn paths(&self, plain: &mut Mounted, prefix: &str) -> Outcome<Vec<(String, Mark)>> {
        let mut found = Vec::new();
        let mut left = vec![".".to_owned()];
        while let Some(dir) = left.pop() {
            for name in plain.list(&dir)? {
                let path = crate::dump::join(&dir, &name);
                let stat = plain.stat(&path, Final::Itself)?;
                if crate::dump::kind_of(stat.mode) == "dir" {
                    left.push(path);
                    continue;
                }
                let id = (stat.dev, stat.ino);
                let marks = self.marked.iter().filter(|(_, files)| files.contains(&id));
                found.extend(marks.map(|(mark, _)| (format!("{prefix}/{path}"), *mark)));
            }
        }
        Ok(found)
    }
}

/// `FALLOC_FL_KEEP_SIZE`.
const KEEP_SIZE: u32 = 1;

/// Takes out of a tree what may differ, for files `marked` by their paths.
pub fn leave_out_of(tree: &mut Tree, served: Served, marked: &[(String, Mark)]) {
    for entry in &mut tree.entries {
        let path = entry.path.clone();
        leave_out(entry, served, |mark| marked.contains(&(path.clone(), mark)));
    }
}

fn leave_out(seen: &mut Seen, served: Served, is_marked: impl Fn(Mark) -> bool) {
    for difference in DIFFERENCES.iter().filter(|it| it.served.contains(&served)) {
        let concerns = match difference.whose {
            Whose::Type(kind) => seen.kind.as_deref() == Some(kind),
            Whose::Marked(mark) => is_marked(mark),
        };
        match difference.attribute {
            _ if !concerns => {}
            Attribute::ModificationTime => seen.mtime = None,
            Attribute::SetIdBits => seen.mode = seen.mode.as_deref().map(without_set_id),
        }
    }
}

/// An octal mode without its set-id bits.
fn without_set_id(mode: &str) -> String {
    u32::from_str_radix(mode, 8).map_or_else(|_| mode.to_owned(), |bits| format!("{:04o}", bits & 0o1777))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_is_listed_may_differ() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("f"), "x").unwrap();
        let mut plain = Mounted::plain(scratch.path().to_owned());
        let result = |mode: &str, mtime: i64, kind: &str| StepResult {
            ret: json!({"type": kind, "mode": mode, "mtime": mtime, "size": 1}),
            err: None,
        };
        let done = StepResult { ret: json!("ok"), err: None };
        let look = Op::Stat { path: "f".to_owned() };
        let write = Op::AppendFile { path: "f".to_owned(), data: "y".to_owned() };
        let chmod = Op::Chmod { path: "f".to_owned(), mode: "4755".to_owned() };
        let (set, unset) = (result("4755", 1, "file"), result("0755", 1, "file"));
        for (served, expected) in
            [(Served::Passthrough, true), (Served::NoOpen, false), (Served::Cached, false)]
        {
            let mut marks = Marks::new(served);
            let target = marks.target(&mut plain, &look).unwrap();
            assert!(!marks.agree(target, &set, &unset));
            marks.note(&mut plain, &write, false, target, &done).unwrap();
            assert!(!marks.agree(target, &set, &unset), "root wrote");
            marks.note(&mut plain, &write, true, target, &done).unwrap();
            assert_eq!(marks.agree(target, &set, &unset), expected, "{served:?}");
            assert!(!marks.agree(target, &set, &result("0700", 1, "file")), "other bits");
            let paths = marks.paths(&mut plain, "s").unwrap();
            assert_eq!(paths, [("s/./f".replace("./", ""), Mark::WrittenByUser)]);
            marks.note(&mut plain, &chmod, false, target, &done).unwrap();
            assert!(!marks.agree(target, &set, &unset), "set since");
            assert!(marks.agree(target, &result("0755", 1, "dir"), &result("0755", 2, "dir")));
            assert!(!marks.agree(target, &result("0755", 1, "file"), &result("0755", 2, "file")));
        }
    }
}
