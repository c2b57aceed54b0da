//! Branches that hold what aufs never wrote, and branches that others change, fill or remove under a mount.
//!
//! `hostile_branches.rs` and `changed_outside.rs` of aufs-union have the tables; this is the kernel's view of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod host;
mod twin;

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;

use aufs_testkit::hostile::{Kind, Outside, snapshot};
use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has, refused, succeed, wait_until};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use twin::WAYS;

/// Whether an error is one that says what happened to the entry.
fn is_told(error: &std::io::Error) -> bool {
    let told = [
        Errno::ENOENT,
        Errno::ENOTDIR,
        Errno::EISDIR,
        Errno::ENOTEMPTY,
        Errno::ELOOP,
        Errno::ESTALE,
        Errno::EINVAL,
        Errno::ENXIO,
        Errno::EPERM,
        Errno::EXDEV,
        Errno::EEXIST,
        Errno::EOPNOTSUPP,
    ];
    error.raw_os_error().is_some_and(|it| told.contains(&Errno::from_raw(it)))
}

/// The kernel itself waits for the other end of a FIFO that the union shows, and follows its links, unless told not to.
const QUIETLY: i32 = nix::libc::O_NONBLOCK | nix::libc::O_NOFOLLOW;

fn read_some(path: &Path) -> std::io::Result<String> {
    let mut file = OpenOptions::new().read(true).custom_flags(QUIETLY).open(path)?;
    let mut bytes = [0; 64];
    let count = file.read(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes[..count]).into_owned())
}

fn write_some(path: &Path) -> std::io::Result<()> {
    let mut file = OpenOptions::new().append(true).custom_flags(QUIETLY).open(path)?;
    file.write_all(b"!")?;
    file.sync_all()
}

/// Everything about one path; what is not done must be told.
fn use_path(what: &str, path: &Path) {
    let read = read_some(path);
    let stat = fs::symlink_metadata(path);
    // Links are the caller's to follow, or not: the union shows them as they are.
    let is_link = stat.as_ref().is_ok_and(fs::Metadata::is_symlink);
    let mut results = vec![
        ("stat", stat.map(drop)),
        ("write", write_some(path)),
        ("list", fs::read_dir(path).and_then(|mut it| it.try_for_each(|it| it.map(drop)))),
        ("make", if is_link { Ok(()) } else { File::create(path.join("made")).map(drop) }),
        (
            "chmod",
            if is_link { Ok(()) } else { fs::set_permissions(path, fs::Permissions::from_mode(0o700)) },
        ),
        ("rename", fs::rename(path, path.with_extension("new"))),
        ("unlink", fs::remove_file(path)),
        ("rmdir", fs::remove_dir_all(path)),
    ];
    match read {
        Ok(text) => assert!(!text.contains("outside"), "{what}: read from elsewhere: {text}"),
        Err(error) => results.push(("read", Err(error))),
    }
    for (op, result) in results {
        if let Err(error) = result {
            assert!(is_told(&error), "{what}: {op}: {error}");
        }
    }
}

#[test]
fn fuse_root_entries_that_others_replace_under_a_mount_are_errors_at_most() {
    if !has(&[Fuse, Root]) {
        return;
    }
    for way in WAYS {
        let host = Host::new();
        let outside = Outside::new(&host.path("outside")).unwrap();
        let kinds: Vec<_> = Kind::all().into_iter().map(Some).chain([None]).collect();
        let mut cases: Vec<(PathBuf, String, Option<Kind>)> = Vec::new();
        for branch in ["u", "l1"] {
            for (index, kind) in kinds.iter().enumerate() {
                let file = format!("{branch}-f{index}");
                let dir = format!("{branch}-d{index}");
                fs::write(host.path(branch).join(&file), "text").unwrap();
                fs::create_dir(host.path(branch).join(&dir)).unwrap();
                fs::write(host.path(branch).join(&dir).join("in"), "text").unwrap();
                cases.push((host.path(branch).join(&file), file, *kind));
                cases.push((host.path(branch).join(&dir), dir, *kind));
            }
        }
        host.run(&["mount", "-o", &format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{way}"), "@/m"]);
        let mut open = Vec::new();
        for (at, (_, name, _)) in cases.iter().enumerate() {
            // Some are known to the kernel, some open, some not asked for yet.
            match at % 3 {
                0 => drop(fs::metadata(host.path("m").join(name)).unwrap()),
                1 => open.push(File::open(host.path("m").join(name)).unwrap()),
                _ => (),
            }
        }
        for (path, _, kind) in &cases {
            if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
            if let Some(kind) = kind {
                kind.plant(path, &outside).unwrap();
            }
        }
        let below = snapshot(&host.path("l1")).unwrap();
        for (_, name, kind) in &cases {
            use_path(&format!("{way}: {name} is {kind:?} now"), &host.path("m").join(name));
        }
        drop(open);
        assert_eq!(host.read("m/only-l2"), "second", "{way}: the mount works");
        fs::write(host.path("m/new"), "new").unwrap();
        host.run(&["umount", "@/m"]);
        assert!(snapshot(&host.path("l1")).unwrap() == below, "{way}: written below");
        assert!(outside.is_untouched().unwrap(), "{way}: written outside");
        assert_eq!(host.read("u/new"), "new");
    }
}

#[test]
fn fuse_root_a_mount_that_revalidates_shows_what_others_changed() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    for branch in ["u", "l1", "l2"] {
        fs::create_dir(host.path(branch).join("d")).unwrap();
        fs::write(host.path(branch).join("d").join(branch), branch).unwrap();
    }
    host.run(&["mount", "-o", "br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,udba=reval", "@/m"]);
    let names = || {
        let mut names: Vec<_> = fs::read_dir(host.path("m/d"))
            .unwrap()
            .map(|it| it.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    assert_eq!(names(), ["l1", "l2", "u"]);
    fs::remove_dir_all(host.path("l1/d")).unwrap();
    assert_eq!(names(), ["l2", "u"]);
    assert!(!host.path("m/d/l1").exists());
    fs::create_dir(host.path("l1/d")).unwrap();
    fs::write(host.path("l1/d/back"), "back").unwrap();
    assert_eq!(names(), ["back", "l2", "u"]);
    assert_eq!(host.read("m/d/back"), "back");
    fs::write(host.path("u/d/.wh..wh..opq"), "").unwrap();
    assert_eq!(names(), ["u"]);
    fs::remove_dir_all(host.path("u/d")).unwrap();
    assert_eq!(names(), ["back", "l2"]);
    fs::write(host.path("m/d/made"), "made").unwrap();
    assert_eq!(
        (host.read("u/d/made"), names()),
        ("made".into(), vec!["back".into(), "l2".into(), "made".into()])
    );
    fs::write(host.path("l1/d/back"), "changed").unwrap();
    assert_eq!(host.read("m/d/back"), "changed");
    host.run(&["umount", "@/m"]);
}

#[test]
fn fuse_root_a_branch_removed_under_a_mount_leaves_the_others_usable() {
    if !has(&[Fuse, Root]) {
        return;
    }
    for way in WAYS {
        for gone in ["u", "l1"] {
            let host = Host::new();
            let told = format!("{way}, {gone} gone");
            host.run(&["mount", "-o", &format!("br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh,{way}"), "@/m"]);
            assert_eq!(host.read("m/both"), "upper");
            fs::remove_dir_all(host.path(gone)).unwrap();
            assert_eq!(host.read("m/only-l2"), "second", "{told}");
            for name in ["both", "only-u", "only-l1", "new"] {
                use_path(&told, &host.path("m").join(name));
            }
            let made = fs::write(host.path("m/made"), "made");
            assert_eq!(made.is_ok(), gone != "u", "{told}: {made:?}");
            host.run(&["umount", "@/m"]);
            assert!(!host.path(gone).exists(), "{told}: made anew");
            assert_eq!(host.read("l2/only-l2"), "second", "{told}");
        }
    }
}

#[test]
fn fuse_root_a_full_branch_tells_and_works_again_when_there_is_room() {
    if !has(&[Fuse, Root]) {
        return;
    }
    for way in WAYS {
        let host = Host::new();
        // A real disk: unlike tmpfs it has few inodes and a journal, and needs blocks for names.
        let image = host.path("image");
        File::create(&image).unwrap().set_len(8 << 20).unwrap();
        succeed(Command::new("mkfs.ext4").args(["-q", "-N", "128"]).arg(&image));
        fs::create_dir(host.path("disk")).unwrap();
        succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(host.path("disk")));
        fs::write(host.path("l1/big"), vec![b'b'; 1 << 20]).unwrap();
        for n in 0..200 {
            fs::write(host.path("l1").join(format!("f{n}")), "low").unwrap();
        }
        host.run(&["mount", "-o", &format!("br:@/disk=rw:@/l1=ro+wh,{way}"), "@/m"]);
        let below = snapshot(&host.path("l1")).unwrap();
        let filling = host.path("disk/filling");
        let mut file = File::create(&filling).unwrap();
        while file.write_all(&[b'x'; 4096]).and_then(|()| file.sync_data()).is_ok() {}
        drop(file);
        let failed = write_some(&host.path("m/big")).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(nix::libc::ENOSPC), "{way}: {failed}");
        fs::remove_file(&filling).unwrap();
        if !way.contains("noopen") {
            assert_eq!(fs::read(host.path("m/big")).unwrap().len(), 1 << 20, "{way}");
        }
        write_some(&host.path("m/big")).unwrap();

        // No inodes: copies fail, whiteouts are links of one file and need none.
        let mut made = 0;
        while File::create(host.path("disk").join(format!("inode{made}"))).is_ok() {
            made += 1;
        }
        let failed = write_some(&host.path("m/f0")).unwrap_err();
        assert_eq!(failed.raw_os_error(), Some(nix::libc::ENOSPC), "{way}: {failed}");
        for n in 100..200 {
            fs::remove_file(host.path("m").join(format!("f{n}"))).unwrap();
        }
        assert!(!host.path("m/f150").exists(), "{way}");
        for n in 0..made {
            fs::remove_file(host.path("disk").join(format!("inode{n}"))).unwrap();
        }
        write_some(&host.path("m/f0")).unwrap();
        assert!(host.read("m/f0").ends_with('!'), "{way}");
        host.run(&["umount", "@/m"]);
        assert_eq!(fs::read_dir(host.path("disk/.wh..wh.draft")).unwrap().count(), 0, "{way}");
        assert!(snapshot(&host.path("l1")).unwrap() == below, "{way}: written below");
        wait_until("the disk is free", || nix::mount::umount(&host.path("disk")).is_ok());
    }
}

#[test]
fn fuse_root_bookkeeping_of_another_type_refuses_the_mount_by_its_name() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let outside = Outside::new(&host.path("outside")).unwrap();
    for (name, wanted) in [
        (".wh..wh.aufs", "regular file"),
        (".wh..wh.plnk", "directory"),
        (".wh..wh.orph", "directory"),
        (".wh..wh.draft", "directory"),
    ] {
        let path = host.path("u").join(name);
        Kind::LinkToDir.plant(&path, &outside).unwrap();
        let (code, line) = refused(&host.aufs(&["mount", "-o", "br:@/u=rw:@/l1", "@/m"]).output().unwrap());
        let expected = format!(
            "aufs mount: mount @/m: cannot use @/u/{name} of the rw branch: it is no {wanted}; remove it"
        );
        assert_eq!((code, line), (4, host.text(&expected)));
        assert_eq!(host.mounts(), []);
        fs::remove_file(path).unwrap();
    }
    assert!(outside.is_untouched().unwrap());
    // A branch that is only read may hold them.
    Kind::LinkToDir.plant(&host.path("l1/.wh..wh.plnk"), &outside).unwrap();
    mount_and_list(&host);
}

fn mount_and_list(host: &Host) {
    host.run(&["mount", "-o", "br:@/u=rw:@/l1=ro+wh", "@/m"]);
    let mut names: Vec<_> = fs::read_dir(host.path("m")).unwrap().map(|it| it.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names, ["both", "only-l1", "only-u"]);
    host.run(&["umount", "@/m"]);
}

/// The names of a file end where its file system says; ext4 gives 65000.
#[test]
fn fuse_root_more_deletions_than_links_of_one_file_work() {
    const NAMES_MAX: u32 = 70_000;
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let image = host.path("image");
    File::create(&image).unwrap().set_len(64 << 20).unwrap();
    succeed(Command::new("mkfs.ext4").arg("-q").arg(&image));
    fs::create_dir(host.path("disk")).unwrap();
    let none: Option<&str> = None;
    succeed(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(host.path("disk")));
    mount(none, &host.path("disk"), none, MsFlags::MS_PRIVATE, none).unwrap();
    for name in ["u", "spare"] {
        fs::create_dir(host.path("disk").join(name)).unwrap();
    }
    let base = host.path("disk/u/.wh..wh.aufs");
    fs::write(&base, "").unwrap();
    let given =
        (0..NAMES_MAX).find(|n| fs::hard_link(&base, host.path("disk/spare").join(n.to_string())).is_err());
    assert!(given.is_some(), "ext4 gave a file more than {NAMES_MAX} names");
    host.run(&["mount", "-o", "br:@/disk/u=rw:@/l1=ro+wh:@/l2=ro+wh", "@/m"]);
    for name in ["both", "only-l1", "only-l2"] {
        fs::remove_file(host.path("m").join(name)).unwrap();
    }
    assert_eq!(fs::read_dir(host.path("m")).unwrap().count(), 0);
    assert_eq!(std::os::unix::fs::MetadataExt::nlink(&fs::metadata(&base).unwrap()), 4, "a new base");
    host.run(&["umount", "@/m"]);
    nix::mount::umount(&host.path("disk")).unwrap();
}
