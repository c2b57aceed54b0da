//! Replays one recorded run on a subject. What each operation means is here.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::fs::{Access, FallocateFlags, Mode, OFlags, RenameFlags, SeekFrom, XattrFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::branches::device_of;
use crate::dump::{Since, dump, join, kind_of, seen_from, snapshot_of};
use crate::kernel_calls;
use crate::op::Op;
use crate::process::{self, Mapping};
use crate::scenario::{BranchSetup, Run, Scenario, StepResult, Tree};
use crate::subject::{Fault, Final, Outcome, Position, Subject};
use crate::text::{bytes_of, name_of, text_of};

/// What a run showed.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Replayed {
    /// The errno if the mount was refused.
    pub mount_err: Option<String>,
    /// A result for each operation.
    pub ops: Vec<StepResult>,
    /// The union after the last operation.
    pub union_after: Option<Tree>,
    /// Every branch after the unmount.
    pub branches_after: BTreeMap<String, Tree>,
    /// Why the subject cannot run this scenario.
    pub unsupported: Option<String>,
}

/// Mounts, replays and unmounts; dumps of the branches are the caller's.
///
/// # Errors
///
/// Only [`Fault::Broken`]; what the subject lacks is [`Replayed::unsupported`].
pub fn replay<S: Subject>(
    subject: &mut S,
    scenario: &Scenario,
    run: &Run,
    since: Since,
) -> Outcome<Replayed> {
    let mut player = Player::new(subject, &scenario.branches, since);
    let mut got = Replayed::default();
    match player.play(run, &mut got) {
        Ok(()) => {}
        Err(Fault::Unsupported(reason)) => got.unsupported = Some(reason.to_owned()),
        Err(fault) => return Err(fault),
    }
    player.finish();
    Ok(got)
}

/// Makes one call that needs no handle, and returns its result.
///
/// # Errors
///
/// Only [`Fault::Broken`] and [`Fault::Unsupported`]; a refusal is a result.
pub fn call<S: Subject>(subject: &mut S, op: &Op, since: &Since) -> Outcome<StepResult> {
    Ok(match refused(apply_to_path(subject, op, since))? {
        Ok(ret) => StepResult { ret, err: None },
        Err(name) => StepResult { ret: Value::Null, err: Some(name) },
    })
}

/// Nanoseconds since the epoch, less a second for coarse clocks.
pub fn start_of_scenario() -> i128 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i128::try_from(now.saturating_sub(Duration::from_secs(1)).as_nanos()).unwrap_or_default()
}

/// Makes calls one by one, and keeps the files and maps that they open.
#[derive(Debug)]
pub struct Player<'a, S: Subject> {
    subject: &'a mut S,
    branches: &'a [BranchSetup],
    since: Since,
    handles: HashMap<String, S::Handle>,
    maps: HashMap<String, Mapping>,
    children: HashMap<String, std::process::Child>,
}

impl<'a, S: Subject> Player<'a, S> {
    /// `branches` are those that `InBranch` asks about.
    pub fn new(subject: &'a mut S, branches: &'a [BranchSetup], since: Since) -> Self {
        Self {
            subject,
            branches,
            since,
            handles: HashMap::new(),
            maps: HashMap::new(),
            children: HashMap::new(),
        }
    }

    /// Makes one call as user and group, or as root; a refusal is a result.
    ///
    /// # Errors
    ///
    /// Only [`Fault::Broken`] and [`Fault::Unsupported`].
    pub fn step(&mut self, op: &Op, caller: Option<(u32, u32)>) -> Outcome<StepResult> {
        if caller.is_some() {
            self.subject.set_caller(caller)?;
        }
        let result = refused(self.apply(op));
        if caller.is_some() {
            self.subject.set_caller(None)?;
        }
        Ok(match result? {
            Ok(ret) => StepResult { ret, err: None },
            Err(name) => StepResult { ret: Value::Null, err: Some(name) },
        })
    }

    fn play(&mut self, run: &Run, got: &mut Replayed) -> Outcome<()> {
        got.mount_err = refused(self.subject.mount())?.err();
        if got.mount_err.is_some() && run.mount_err.is_none() {
            return Ok(());
        }
        for step in run.ops.iter().flatten() {
            got.ops.push(self.step(&step.op, step.caller)?);
        }
        for (_, child) in self.children.drain() {
            process::kill(child)?;
        }
        if run.union_after.is_some() {
            got.union_after = Some(dump(self.subject, ".", &self.since)?);
        }
        Ok(())
    }

    /// Closes everything and unmounts, waiting for whoever still uses the mount.
    fn finish(&mut self) {
        for (_, child) in self.children.drain() {
            // The process is our own child; that it has ended by itself is all that can be wrong.
            drop(process::kill(child));
        }
        self.maps.clear();
        self.handles.clear();
        for _ in 0..40 {
            match self.subject.unmount(0) {
                Err(Fault::Errno(Errno::BUSY)) => std::thread::sleep(Duration::from_millis(50)),
                // A mount that the scenario itself took down is no failure.
                Ok(()) | Err(_) => return,
            }
        }
    }

    fn apply(&mut self, op: &Op) -> Outcome<Value> {
        match op {
            Op::Open { path, flags, h, mode } => {
                let handle = self.subject.open(path, flags_of(flags)?, mode_or(mode.as_ref(), 0o644)?)?;
                self.handles.insert(h.clone(), handle);
            }
            Op::OpenatSelf { h0, flags, h } => {
                let (subject, handle) = self.with(h0)?;
                let handle = subject.reopen(handle, flags_of(flags)?)?;
                self.handles.insert(h.clone(), handle);
            }
            Op::Close { h } => drop(self.handles.remove(h).ok_or(Fault::NoHandle)?),
            Op::Umount {} => self.subject.unmount(self.handles.len())?,
            Op::Mount {} => self.subject.mount()?,
            Op::Remount { options } => self.subject.remount(options)?,
            Op::DropCaches {} => process::drop_caches(self.subject.host_path(".")?.as_path())?,
            Op::Umask { mask } => self.subject.umask(mode_of(mask)?),
            Op::Snapshot { branch } => {
                let root = if branch == "union" { ".".to_owned() } else { format!("@{branch}") };
                return to_value(snapshot_of(dump(self.subject, &root, &self.since)?));
            }
            Op::InBranch { path } => return self.in_branch(path),
            Op::Exec { path, argv } => {
                return process::exec(&self.subject.host_path(path)?, argv.as_deref().unwrap_or_default());
            }
            Op::Spawn { path, argv, h } => {
                let child = process::spawn(&self.subject.host_path(path)?, argv)?;
                self.children.insert(h.clone(), child);
            }
            Op::Kill { h } => process::kill(self.children.remove(h).ok_or(Fault::NoHandle)?)?,
            _ if is_on_handle(op) => return self.apply_to_handle(op),
            _ => return apply_to_path(self.subject, op, &self.since),
        }
        Ok(json!("ok"))
    }

    fn with(&mut self, h: &str) -> Outcome<(&mut S, &mut S::Handle)> {
        let handle = self.handles.get_mut(h).ok_or(Fault::NoHandle)?;
        Ok((self.subject, handle))
    }

    fn apply_to_handle(&mut self, op: &Op) -> Outcome<Value> {
        match op {
            Op::Mmap { h, m, length, .. } => {
                let handle = self.handles.get(h).ok_or(Fault::NoHandle)?;
                self.maps.insert(m.clone(), Mapping::new(self.subject.host_fd(handle)?, *length)?);
                return Ok(json!("ok"));
            }
            Op::Mwrite { m, off, data } => {
                self.maps.get(m).ok_or(Fault::NoHandle)?.write(*off, &bytes_of(data))?;
                return Ok(json!("ok"));
            }
            Op::Msync { m } => {
                self.maps.get(m).ok_or(Fault::NoHandle)?.sync()?;
                return Ok(json!("ok"));
            }
            _ => {}
        }
        let since = self.since.clone();
        let Some(h) = handle_of(op) else { return Err(Fault::Broken(format!("no handle: {op:?}"))) };
        let (on, handle) = self.with(h)?;
        match op {
            Op::Read { n, .. } => return Ok(text_of(&on.read(handle, *n, Position::Current)?).into()),
            Op::Pread { n, off, .. } => return Ok(text_of(&on.read(handle, *n, Position::At(*off))?).into()),
            Op::Write { data, .. } => {
                return Ok(on.write(handle, &bytes_of(data), Position::Current)?.into());
            }
            Op::Pwrite { data, off, .. } => {
                return Ok(on.write(handle, &bytes_of(data), Position::At(*off))?.into());
            }
            Op::Lseek { off, whence, .. } => return Ok(on.seek(handle, seek_of(*off, *whence)?)?.into()),
            Op::Fstat { .. } => return to_value(seen_from(&on.fstat(handle)?, &since)),
            Op::OpendirFdRead { .. } => return Ok(on.list_handle(handle)?.into()),
            Op::Getflags { .. } => return Ok((on.getflags(handle)? & 0x30).into()),
            Op::Ftruncate { length, .. } => on.ftruncate(handle, *length)?,
            Op::Fchmod { mode, .. } => on.fchmod(handle, mode_of(mode)?)?,
            Op::Fchown { uid, gid, .. } => on.fchown(handle, *uid, *gid)?,
            Op::Futimens { t, .. } => on.futimens(handle, *t)?,
            Op::Fsync { .. } => on.fsync(handle)?,
            Op::Fdatasync { .. } => on.fdatasync(handle)?,
            Op::Fsetxattr { name, value, .. } => on.fsetxattr(handle, name, &bytes_of(value))?,
            Op::Fallocate { mode, off, length, .. } => {
                on.fallocate(handle, FallocateFlags::from_bits_retain(*mode), *off, *length)?;
            }
            Op::Setflags { val, .. } => on.setflags(handle, *val)?,
            Op::LinkFd { dst, .. } => on.link_handle(handle, dst)?,
            Op::Setlk { how, .. } => process::lock(on.host_fd(handle)?, how)?,
            Op::SetlkChild { how, .. } => return process::lock_in_child(on.host_fd(handle)?, how),
            _ => return Err(Fault::Broken(format!("not on a handle: {op:?}"))),
        }
        Ok(json!("ok"))
    }

    fn in_branch(&mut self, path: &str) -> Outcome<Value> {
        let mut holding = Vec::new();
        for branch in self.branches {
            let at = join(&format!("@{}", branch.name), path);
            if refused(self.subject.stat(&at, Final::Itself))?.is_ok() {
                holding.push(branch.name.clone());
            }
        }
        Ok(holding.into())
    }
}

fn apply_to_path<S: Subject>(on: &mut S, op: &Op, since: &Since) -> Outcome<Value> {
    match op {
        Op::Stat { path } | Op::Lstat { path } => {
            let last = if matches!(op, Op::Stat { .. }) { Final::Follow } else { Final::Itself };
            let mut seen = seen_from(&on.stat(path, last)?, since);
            if path == "." {
                seen.mtime = None;
            }
            return to_value(seen);
        }
        Op::Exists { path } => return Ok(refused(on.stat(path, Final::Itself))?.is_ok().into()),
        Op::Access { path, mode } => {
            let access = Access::from_bits_retain((*mode).into());
            return Ok(refused(on.access(path, access))?.is_ok().into());
        }
        Op::ReadFile { path, n } => {
            let mut handle = on.open(path, OFlags::RDONLY | OFlags::NONBLOCK, Mode::empty())?;
            return Ok(text_of(&on.read(&mut handle, n.unwrap_or(4096), Position::Current)?).into());
        }
        Op::WriteFile { path, data, mode } => {
            let flags = OFlags::CREATE | OFlags::TRUNC | OFlags::WRONLY | OFlags::NONBLOCK;
            let mut handle = on.open(path, flags, mode_or(mode.as_ref(), 0o644)?)?;
            return Ok(on.write(&mut handle, &bytes_of(data), Position::Current)?.into());
        }
        Op::AppendFile { path, data } => {
            let mut handle =
                on.open(path, OFlags::WRONLY | OFlags::APPEND | OFlags::NONBLOCK, Mode::empty())?;
            return Ok(on.write(&mut handle, &bytes_of(data), Position::Current)?.into());
        }
        Op::Overwrite { path, data, off } => {
            let mut handle = on.open(path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())?;
            let at = Position::At(off.unwrap_or(0));
            return Ok(on.write(&mut handle, &bytes_of(data), at)?.into());
        }
        Op::Getxattr { path, name } => return Ok(text_of(&on.getxattr(path, name)?).into()),
        Op::Listxattr { path } => return Ok(on.listxattr(path)?.into()),
        Op::Readlink { path } => return Ok(on.readlink(path)?.into()),
        Op::Ls { path } => return Ok(on.list(path)?.into()),
        Op::Readdir { path } => return list_with_kinds(on, path),
        Op::Lsr { path } => {
            let mut found = Vec::new();
            list_below(on, path, "", &mut found)?;
            found.sort();
            return Ok(found.into());
        }
        Op::CopyRange { src, dst, from, to, length } => {
            return Ok(kernel_calls::copy_range(on, (src, *from), (dst, *to), *length)?.into());
        }
        Op::MapWrite { path, off, data } => {
            return Ok(kernel_calls::map_write(on, path, *off, &bytes_of(data))?.into());
        }
        Op::Pathconf { path, name } if name == "PC_NAME_MAX" => return Ok(on.name_max(path)?.into()),
        Op::Fill { path, size } => return fill(on, path, *size),
        _ => change(on, op)?,
    }
    Ok(json!("ok"))
}

/// Operations that change something and return nothing.
fn change<S: Subject>(on: &mut S, op: &Op) -> Outcome<()> {
    match op {
        Op::CreatExcl { path } => {
            let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY;
            on.open(path, flags, Mode::from_raw_mode(0o644)).map(drop)
        }
        Op::Truncate { path, length } => on.truncate(path, *length),
        Op::Chmod { path, mode } => on.chmod(path, mode_of(mode)?),
        Op::Chown { path, uid, gid } => on.chown(path, *uid, *gid, Final::Follow),
        Op::Lchown { path, uid, gid } => on.chown(path, *uid, *gid, Final::Itself),
        Op::Utimens { path, t } => on.utimens(path, *t),
        Op::Mtime { path, t } => kernel_calls::set_mtime(on, path, *t),
        Op::Allocate { path, mode, off, length } => {
            let handle = on.open(path, OFlags::WRONLY | OFlags::NONBLOCK, Mode::empty())?;
            on.fallocate(&handle, FallocateFlags::from_bits_retain(*mode), *off, *length)
        }
        Op::Tmpfile { dir, dst, data } => {
            let mut handle = on.open(dir, OFlags::TMPFILE | OFlags::RDWR, Mode::from_raw_mode(0o640))?;
            on.write(&mut handle, &bytes_of(data), Position::Current)?;
            on.link_handle(&handle, dst)
        }
        Op::Setxattr { path, name, value, flags } => {
            on.setxattr(path, name, &bytes_of(value), XattrFlags::from_bits_retain(flags.unwrap_or(0)))
        }
        Op::Removexattr { path, name } => on.removexattr(path, name),
        Op::Link { src, dst } => on.link(src, dst),
        Op::Symlink { target, path } => on.symlink(target, path),
        Op::Mkfifo { path, mode } => on.mknod(path, 0o010_000 | mode_or(mode.as_ref(), 0o644)?.bits(), 0),
        Op::Mksock { path } => on.mknod(path, 0o140_777, 0),
        Op::Mknod { path, kind, rdev, mode } => {
            let bits = if kind == "chr" { 0o020_000 } else { 0o060_000 };
            let rdev = device_of(rdev).ok_or_else(|| Fault::Broken(format!("device number {rdev}")))?;
            on.mknod(path, bits | mode_or(mode.as_ref(), 0o600)?.bits(), rdev)
        }
        Op::Mkdir { path, mode } => on.mkdir(path, mode_or(mode.as_ref(), 0o755)?),
        Op::Rmdir { path } => on.rmdir(path),
        Op::Unlink { path } => on.unlink(path),
        Op::Rename { src, dst } => on.rename(src, dst, RenameFlags::empty()),
        Op::Renameat2 { src, dst, flag } => on.rename(src, dst, rename_flag(flag)?),
        _ => Err(Fault::Broken(format!("not an operation on a path: {op:?}"))),
    }
}

fn is_on_handle(op: &Op) -> bool {
    handle_of(op).is_some() || matches!(op, Op::Mwrite { .. } | Op::Msync { .. })
}

fn handle_of(op: &Op) -> Option<&str> {
    match op {
        Op::Read { h, .. }
        | Op::Pread { h, .. }
        | Op::Write { h, .. }
        | Op::Pwrite { h, .. }
        | Op::Lseek { h, .. }
        | Op::Ftruncate { h, .. }
        | Op::Fstat { h }
        | Op::Fchmod { h, .. }
        | Op::Fchown { h, .. }
        | Op::Futimens { h, .. }
        | Op::Fsync { h }
        | Op::Fdatasync { h }
        | Op::Fsetxattr { h, .. }
        | Op::Fallocate { h, .. }
        | Op::Setlk { h, .. }
        | Op::SetlkChild { h, .. }
        | Op::Getflags { h }
        | Op::Setflags { h, .. }
        | Op::Mmap { h, .. }
        | Op::LinkFd { h, .. }
        | Op::OpendirFdRead { h } => Some(h),
        _ => None,
    }
}

fn fill<S: Subject>(on: &mut S, path: &str, size: usize) -> Outcome<Value> {
    let mut handle = on.open(path, OFlags::CREATE | OFlags::WRONLY, Mode::from_raw_mode(0o644))?;
    let mut written = 0;
    while written < size {
        let chunk = vec![b'x'; (size - written).min(65536)];
        match refused(on.write(&mut handle, &chunk, Position::Current))? {
            Ok(n) => written += n,
            Err(error) => return Ok(format!("{written} then {error}").into()),
        }
    }
    Ok(written.into())
}

fn list_with_kinds<S: Subject>(on: &mut S, path: &str) -> Outcome<Value> {
    let mut found = Vec::new();
    for name in on.list(path)? {
        let kind = match kind_of(on.stat(&join(path, &name), Final::Itself)?.mode) {
            "dir" => "d",
            "symlink" => "l",
            _ => "o",
        };
        found.push(json!([name, kind]));
    }
    Ok(found.into())
}

/// Paths below `path`; directories that cannot be listed count as empty.
fn list_below<S: Subject>(on: &mut S, path: &str, prefix: &str, found: &mut Vec<String>) -> Outcome<()> {
    for name in refused(on.list(path))?.unwrap_or_default() {
        let (below, shown) = (join(path, &name), format!("{prefix}{name}"));
        if let Ok(stat) = refused(on.stat(&below, Final::Itself))?
            && kind_of(stat.mode) == "dir"
        {
            list_below(on, &below, &format!("{shown}/"), found)?;
        }
        found.push(shown);
    }
    Ok(())
}

/// Turns what the subject refused into the name a recording has for it.
fn refused<T>(outcome: Outcome<T>) -> Outcome<Result<T, String>> {
    match outcome {
        Ok(value) => Ok(Ok(value)),
        Err(Fault::Errno(errno)) => Ok(Err(name_of(errno))),
        Err(Fault::NoHandle) => Ok(Err("NOHANDLE".to_owned())),
        Err(fault) => Err(fault),
    }
}

fn to_value<T: Serialize>(value: T) -> Outcome<Value> {
    serde_json::to_value(value).map_err(|error| Fault::Broken(error.to_string()))
}

fn mode_of(text: &str) -> Outcome<Mode> {
    let bits = u32::from_str_radix(text, 8).map_err(|_| Fault::Broken(format!("mode {text}")))?;
    Ok(Mode::from_raw_mode(bits))
}

fn mode_or(text: Option<&String>, default: u32) -> Outcome<Mode> {
    text.map_or_else(|| Ok(Mode::from_raw_mode(default)), |text| mode_of(text))
}

fn seek_of(offset: i64, whence: u8) -> Outcome<SeekFrom> {
    let start = offset.cast_unsigned();
    Ok(match whence {
        0 => SeekFrom::Start(start),
        1 => SeekFrom::Current(offset),
        2 => SeekFrom::End(offset),
        3 => SeekFrom::Data(start),
        4 => SeekFrom::Hole(start),
        _ => return Err(Fault::Broken(format!("whence {whence}"))),
    })
}

fn rename_flag(name: &str) -> Outcome<RenameFlags> {
    Ok(match name {
        "NOREPLACE" => RenameFlags::NOREPLACE,
        "EXCHANGE" => RenameFlags::EXCHANGE,
        "WHITEOUT" => RenameFlags::WHITEOUT,
        _ => return Err(Fault::Broken(format!("rename flag {name}"))),
    })
}

fn flags_of(text: &str) -> Outcome<OFlags> {
    let mut flags = OFlags::empty();
    for name in text.split('|') {
        flags |= match name {
            "O_RDONLY" => OFlags::RDONLY,
            "O_WRONLY" => OFlags::WRONLY,
            "O_RDWR" => OFlags::RDWR,
            "O_CREAT" => OFlags::CREATE,
            "O_EXCL" => OFlags::EXCL,
            "O_TRUNC" => OFlags::TRUNC,
            "O_APPEND" => OFlags::APPEND,
            "O_DIRECTORY" => OFlags::DIRECTORY,
            "O_NOFOLLOW" => OFlags::NOFOLLOW,
            "O_NONBLOCK" => OFlags::NONBLOCK,
            "O_PATH" => OFlags::PATH,
            "O_TMPFILE" => OFlags::TMPFILE,
            "O_DIRECT" => OFlags::DIRECT,
            "O_SYNC" => OFlags::SYNC,
            _ => return Err(Fault::Broken(format!("open flag {name}"))),
        };
    }
    Ok(flags)
}

/// The digest of the running program, for scenarios that put it into a branch.
///
/// # Errors
///
/// The program cannot be read.
pub fn exe_digest() -> Outcome<String> {
    use sha2::Digest;
    let bytes = std::fs::read(Path::new("/proc/self/exe"))?;
    Ok(crate::dump::hex(&sha2::Sha256::digest(&bytes)))
}
