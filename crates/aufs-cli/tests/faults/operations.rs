//! The operations that are to fail, each on branches where it has most to do.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use nix::fcntl::{AT_FDCWD, AtFlags, FallocateFlags, OFlag, fallocate, open};
use nix::sys::stat::{Mode, SFlag, mknod};
use nix::unistd::{Gid, Uid, setfsgid, setfsuid};
use rustix::fs::{CWD, RenameFlags, XattrFlags, renameat_with};

use crate::host::succeed;

/// Makes `u0`, which the writable branch begins as, and the lower branches `l1` and `l2`.
const PLANT: &str = r"
umask 022
mkdir -p l1/dir/sub l1/gone l1/empty l1/merged l1/list l1/open/none l1/open/gone l1/emptied l2/dir l2/gone u0/merged u0/made u0/emptied u0/list
printf 'lower content' > l1/dir/sub/file
chmod 640 l1/dir/sub/file; chown 1000:1001 l1/dir/sub/file
chmod 2750 l1/dir/sub; chown 1000:1001 l1/dir/sub
touch -d '2001-02-03 04:05:06.7' l1/dir/sub/file l1/dir/sub
head -c 70000 /dev/zero | tr '\0' 'b' > l1/dir/sub/big
truncate -s 80000 l1/dir/sub/sparse; printf middle | dd of=l1/dir/sub/sparse bs=1 seek=70000 conv=notrunc status=none
printf linked > l1/dir/sub/one; ln l1/dir/sub/one l1/dir/sub/two
ln -s file l1/dir/sub/symlink; mkfifo l1/dir/sub/fifo
printf inside > l1/gone/inside; printf deeper > l2/gone/deeper
printf x > l1/merged/x; printf y > l1/merged/y; printf e > l1/emptied/e
printf 'first' > l1/both; printf 'second' > l2/both; printf 'only' > l2/only
printf a > l1/list/a; printf b > l1/list/b; printf c > l2/dir/c
printf t > l1/taken; chmod 777 l1/open; printf 'left' > l1/left
touch -d '2002-02-03 04:05:06.7' l1/both l2/only l1/taken l1/dir/sub/one l1/dir/sub/big
mkdir -m 777 u0/open
for it in u0/.wh.gone u0/open/.wh.gone u0/.wh.left u0/merged/.wh.x u0/merged/.wh.y u0/emptied/.wh.e u0/list/.wh.a; do
    : > $it; chmod 444 $it
done
printf upper > u0/both; printf upper > u0/upper; printf more > u0/made/more; printf d > u0/list/d
printf set-id > l1/open/set-id; printf set-id > u0/set-id
chown 1234:1235 l1/open/set-id u0/set-id; chmod 6755 l1/open/set-id u0/set-id
touch -d '2003-02-03 04:05:06.7' u0/both u0/upper u0/made/more u0/set-id l1/open/set-id
";

/// Makes the directories `u0`, `l1`, `l2` in `dir` that the operations work on.
pub fn plant(dir: &Path) {
    succeed(Command::new("sh").args(["-ec", PLANT]).current_dir(dir));
    for (name, value) in [("l1/dir/sub/file", "kept"), ("l1/dir/sub", "dir")] {
        rustix::fs::setxattr(dir.join(name), "user.note", value.as_bytes(), XattrFlags::empty()).unwrap();
    }
}

/// Something a program does to the union at a path.
pub struct Operation {
    pub name: &'static str,
    pub act: fn(&Path) -> io::Result<()>,
    /// Whether the data mode makes a difference.
    pub depends_on_mode: bool,
    /// Files whose bytes are written after the file was opened: an error of that, which may come
    /// late, leaves the old bytes or the new ones.
    pub writes: &'static [&'static str],
    /// Whether the program hears of a late error by `close(2)`, where the kernel tells `EIO` and `ENOSPC` apart only.
    pub hears_at_close: bool,
    /// Files that change where they are, in two steps between which a killed server stops: set-id bits go
    /// before the bytes do.
    pub in_steps: &'static [&'static str],
    /// Files with another name that is hidden afterwards, which a later mount counts along.
    pub with_hidden_names: &'static [&'static str],
    /// Whether it copies a file up that has other names below: a union that may not write shows those apart.
    pub links: bool,
}

impl Operation {
    const fn on_links(self, with_hidden_names: &'static [&'static str]) -> Self {
        Self { with_hidden_names, links: true, ..self }
    }

    const fn in_steps(self, in_steps: &'static [&'static str]) -> Self {
        Self { in_steps, ..self }
    }

    const fn heard_at_close(self) -> Self {
        Self { hears_at_close: true, ..self }
    }
}

const fn operation(name: &'static str, act: fn(&Path) -> io::Result<()>) -> Operation {
    Operation {
        name,
        act,
        depends_on_mode: false,
        writes: &[],
        hears_at_close: false,
        in_steps: &[],
        with_hidden_names: &[],
        links: false,
    }
}

const fn on_data(
    name: &'static str,
    writes: &'static [&'static str],
    act: fn(&Path) -> io::Result<()>,
) -> Operation {
    Operation { depends_on_mode: true, writes, ..operation(name, act) }
}

/// All of them.
pub fn all() -> Vec<Operation> {
    let mut all = on_files();
    all.extend(removals());
    all.extend(creations());
    all.extend(renames());
    all
}

fn on_files() -> Vec<Operation> {
    vec![
        on_data("extend a lower file", &["dir/sub/file"], |m| extend(m, "dir/sub/file", 13)),
        on_data("extend a long lower file", &["dir/sub/big"], |m| extend(m, "dir/sub/big", 70000)),
        on_data("extend a sparse lower file", &["dir/sub/sparse"], |m| extend(m, "dir/sub/sparse", 80000)),
        on_data("extend a lower hard link", &["dir/sub/one", "dir/sub/two"], |m| extend(m, "dir/sub/one", 6))
            .on_links(&[]),
        on_data("extend an upper file", &["upper"], |m| extend(m, "upper", 5)),
        on_data("extend a lower file and close it", &["dir/sub/file"], |m| {
            let file = OpenOptions::new().write(true).open(m.join("dir/sub/file"))?;
            file.write_all_at(b" more", 13)?;
            Ok(nix::unistd::close(file)?)
        })
        .heard_at_close(),
        on_data("truncate a lower file", &[], |m| Ok(nix::unistd::truncate(&m.join("dir/sub/file"), 3)?)),
        on_data("open a lower file with O_TRUNC", &[], |m| File::create(m.join("dir/sub/file")).map(drop)),
        on_data("truncate a lower set-id file as its owner", &[], |m| {
            as_other(|| Ok(nix::unistd::truncate(&m.join("open/set-id"), 3)?))
        }),
        on_data("truncate an upper set-id file as its owner", &[], |m| {
            as_other(|| Ok(nix::unistd::truncate(&m.join("set-id"), 3)?))
        })
        .in_steps(&["set-id"]),
        on_data("open a lower set-id file with O_TRUNC as its owner", &[], |m| {
            as_other(|| File::create(m.join("open/set-id")).map(drop))
        }),
        on_data("open an upper set-id file with O_TRUNC as its owner", &[], |m| {
            as_other(|| File::create(m.join("set-id")).map(drop))
        })
        .in_steps(&["set-id"]),
        on_data("truncate an upper file", &[], |m| Ok(nix::unistd::truncate(&m.join("upper"), 3)?)),
        on_data("open an upper file with O_TRUNC", &[], |m| File::create(m.join("upper")).map(drop)),
        on_data("allocate in a lower file", &[], |m| {
            let file = OpenOptions::new().write(true).open(m.join("dir/sub/file"))?;
            Ok(fallocate(&file, FallocateFlags::empty(), 0, 100)?)
        }),
        on_data("read a lower file", &[], |m| expect(fs::read(m.join("dir/sub/file"))?, b"lower content")),
        operation("chmod a lower file", |m| {
            fs::set_permissions(m.join("dir/sub/file"), fs::Permissions::from_mode(0o604))
        }),
        operation("chmod a hard link below", |m| {
            fs::set_permissions(m.join("dir/sub/one"), fs::Permissions::from_mode(0o604))
        })
        .on_links(&[]),
        operation("chmod a lower directory", |m| {
            fs::set_permissions(m.join("dir/sub"), fs::Permissions::from_mode(0o705))
        }),
        operation("chmod a lower FIFO", |m| {
            fs::set_permissions(m.join("dir/sub/fifo"), fs::Permissions::from_mode(0o604))
        }),
        operation("chown a lower file", |m| {
            std::os::unix::fs::chown(m.join("dir/sub/file"), Some(7), Some(8))
        }),
        operation("chown a lower symlink", |m| {
            std::os::unix::fs::lchown(m.join("dir/sub/symlink"), Some(7), Some(8))
        }),
        operation("set the time of a lower file", |m| {
            let file = File::open(m.join("dir/sub/file"))?;
            file.set_modified(std::time::UNIX_EPOCH)
        }),
        operation("set an attribute of a lower file", |m| {
            let flags = XattrFlags::empty();
            Ok(rustix::fs::setxattr(m.join("dir/sub/file"), "user.new", b"value", flags)?)
        }),
        operation("remove an attribute of a lower file", |m| {
            Ok(rustix::fs::removexattr(m.join("dir/sub/file"), "user.note")?)
        }),
        operation("list a merged directory", |m| {
            let mut names = Vec::new();
            for entry in fs::read_dir(m.join("list"))? {
                names.push(entry?.file_name());
            }
            names.sort();
            if names == ["b", "d"] { Ok(()) } else { Err(io::Error::other(format!("listed {names:?}"))) }
        }),
    ]
}

fn removals() -> Vec<Operation> {
    vec![
        operation("unlink a lower file", |m| fs::remove_file(m.join("dir/sub/file"))),
        operation("unlink a lower hard link", |m| fs::remove_file(m.join("dir/sub/one")))
            .on_links(&["dir/sub/two"]),
        operation("unlink an upper file", |m| fs::remove_file(m.join("upper"))),
        operation("unlink a file of three branches", |m| fs::remove_file(m.join("both"))),
        operation("rmdir an empty lower directory", |m| fs::remove_dir(m.join("empty"))),
        operation("rmdir a directory emptied by whiteouts", |m| fs::remove_dir(m.join("merged"))),
    ]
}

fn creations() -> Vec<Operation> {
    vec![
        on_data("create a file below a lower directory", &[], |m| {
            OpenOptions::new().write(true).create_new(true).open(m.join("dir/sub/new")).map(drop)
        }),
        on_data("create a file over a whiteout", &[], |m| {
            OpenOptions::new().write(true).create_new(true).open(m.join("left")).map(drop)
        }),
        operation("mkdir over a whiteout", |m| fs::create_dir(m.join("gone"))),
        operation("mkdir below a lower directory", |m| fs::create_dir(m.join("dir/sub/new"))),
        operation("symlink over a whiteout", |m| symlink("target", m.join("left"))),
        operation("mknod over a whiteout", |m| {
            Ok(mknod(&m.join("left"), SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0)?)
        }),
        on_data("create as another user", &[], |m| {
            as_other(|| OpenOptions::new().write(true).create_new(true).open(m.join("open/new")).map(drop))
        }),
        operation("mkdir as another user", |m| as_other(|| fs::create_dir(m.join("open/new")))),
        operation("mkdir over a whiteout as another user", |m| {
            as_other(|| fs::create_dir(m.join("open/gone")))
        }),
        operation("symlink as another user", |m| as_other(|| symlink("target", m.join("open/new")))),
        operation("mknod as another user", |m| {
            as_other(|| Ok(mknod(&m.join("open/new"), SFlag::S_IFIFO, Mode::from_bits_truncate(0o600), 0)?))
        }),
        operation("name a nameless file", |m| {
            let flags = OFlag::O_TMPFILE | OFlag::O_RDWR;
            let file = open(&m.join("dir/sub"), flags, Mode::from_bits_truncate(0o600))?;
            let old = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
            let new = m.join("dir/sub/named");
            Ok(nix::unistd::linkat(AT_FDCWD, old.as_str(), AT_FDCWD, &new, AtFlags::AT_SYMLINK_FOLLOW)?)
        }),
        operation("link a lower file over a whiteout", |m| {
            fs::hard_link(m.join("dir/sub/file"), m.join("left"))
        }),
        operation("link an upper file", |m| fs::hard_link(m.join("upper"), m.join("dir/sub/linked"))),
    ]
}

fn renames() -> Vec<Operation> {
    vec![
        operation("rename a lower file", |m| rename(m, "dir/sub/file", "dir/sub/new")),
        operation("rename a lower file over a whiteout", |m| rename(m, "dir/sub/file", "left")),
        operation("rename a lower hard link", |m| rename(m, "dir/sub/two", "made/two")).on_links(&[]),
        operation("rename a lower symlink over a whiteout", |m| rename(m, "dir/sub/symlink", "left")),
        operation("rename an upper file over a lower", |m| rename(m, "upper", "dir/sub/file")),
        operation("rename an upper file over a lower hard link", |m| rename(m, "upper", "dir/sub/one"))
            .on_links(&["dir/sub/two"]),
        operation("rename a lower file over a lower", |m| rename(m, "only", "taken")),
        operation("rename a lower file over an upper", |m| rename(m, "only", "made/more")),
        operation("rename an upper directory over a whiteout", |m| rename(m, "made", "gone")),
        operation("rename an upper directory over an emptied one", |m| rename(m, "made", "emptied")),
        operation("rename an upper directory over an empty lower one", |m| rename(m, "made", "empty")),
        operation("rename an empty lower directory over another", |m| rename(m, "open/none", "empty")),
        operation("rename an empty lower directory", |m| rename(m, "empty", "dir/sub/empty")),
        operation("rename without replacing", |m| {
            Ok(renameat_with(CWD, m.join("only"), CWD, m.join("left"), RenameFlags::NOREPLACE)?)
        }),
        operation("exchange two lower files", |m| {
            Ok(renameat_with(CWD, m.join("only"), CWD, m.join("dir/sub/file"), RenameFlags::EXCHANGE)?)
        }),
        operation("exchange a lower hard link and a lower file", |m| {
            let (one, only) = (m.join("dir/sub/one"), m.join("only"));
            Ok(renameat_with(CWD, one, CWD, only, RenameFlags::EXCHANGE)?)
        })
        .on_links(&[]),
        operation("exchange a directory and a file", |m| {
            Ok(renameat_with(CWD, m.join("made"), CWD, m.join("both"), RenameFlags::EXCHANGE)?)
        }),
    ]
}

fn rename(m: &Path, from: &str, to: &str) -> io::Result<()> {
    fs::rename(m.join(from), m.join(to))
}

/// Writes behind the `len_bytes` that the file has, and waits until that is on the branch: where the
/// kernel writes back later, errors come then.
fn extend(m: &Path, name: &str, len_bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(m.join(name))?;
    file.write_all_at(b" more", len_bytes)?;
    file.sync_all()
}

fn expect(found: Vec<u8>, expected: &[u8]) -> io::Result<()> {
    if found == expected {
        Ok(())
    } else {
        Err(io::Error::other(format!("read {:?}", found.escape_ascii().to_string())))
    }
}

/// Runs `act` with the rights of an ordinary user, in a thread of its own.
fn as_other(act: impl FnOnce() -> io::Result<()> + Send) -> io::Result<()> {
    let run = || {
        setfsgid(Gid::from_raw(1235));
        setfsuid(Uid::from_raw(1234));
        act()
    };
    std::thread::scope(|scope| scope.spawn(run).join())
        .unwrap_or_else(|_| Err(io::Error::other("the thread of the other user panicked")))
}
