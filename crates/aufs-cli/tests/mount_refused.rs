//! Wrong input: one line that names the thing and the remedy, a documented exit
//! code, nothing mounted, nothing written.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

mod host;

use std::fs;
use std::os::unix::ffi::OsStrExt;

use host::{Host, refused};

const USAGE: i32 = 2;
const UNSUPPORTED: i32 = 3;
const REFUSED: i32 = 4;

/// Runs `aufs` with arguments that must be refused, and checks that nothing happened.
fn refusal(host: &Host, args: &[&str]) -> (i32, String) {
    let before = host.snapshot("");
    let found = refused(&host.aufs(args).output().unwrap());
    assert!(host.snapshot("") == before, "{args:?} changed a file");
    assert_eq!(host.mounts(), [], "{args:?} left a mount");
    found
}

#[test]
fn each_refusal_names_the_thing_and_the_remedy() {
    let host = Host::new();
    fs::create_dir(host.path("l1/in")).unwrap();
    fs::write(host.path("file"), "").unwrap();
    for (args, code, expected) in [
        (
            &["mount", "-o", "br:@/u=rw:@/no=ro", "@/m"][..],
            REFUSED,
            "branch @/no: no such directory; create it or correct the path",
        ),
        (
            &["mount", "-o", "br:@/u=rw:@/file=ro", "@/m"],
            REFUSED,
            "branch @/file: not a directory; name a directory",
        ),
        (
            &["mount", "-b", "@/u=rw", "-b", "@/l1", "-b", "@/u/../l1=ro", "@/m"],
            REFUSED,
            "branch @/l1: the same directory as branch @/l1; name each directory once",
        ),
        (
            &["mount", "-o", "br:@/u:@/l1:@/l1/in", "@/m"],
            REFUSED,
            "branch @/l1/in: lies inside branch @/l1; branches must not contain each other",
        ),
        (
            &["mount", "-o", "br:@/u:@/l1", "@/no"],
            REFUSED,
            "mount point @/no: no such directory; create it or correct the path",
        ),
        (
            &["mount", "-o", "br:@/u:@/l1", "@/file"],
            REFUSED,
            "mount point @/file: not a directory; name a directory",
        ),
        (
            &["mount", "-o", "br:@/u:@/l1", "@/l1/in"],
            REFUSED,
            "mount point @/l1/in: lies inside branch @/l1; mount outside of every branch",
        ),
        (
            &["mount", "-o", "br:@/u:@/l1/in", "@/l1"],
            REFUSED,
            "mount point @/l1: contains branch @/l1/in; mount outside of every branch",
        ),
        (&["mount", "-o", "br:@/u:@/l1,bogus", "@/m"], USAGE, "option bogus: unknown"),
        (
            &["mount", "-o", "br:@/u:@/l1,dtaa=auto", "@/m"],
            USAGE,
            "option dtaa=auto: unknown; did you mean data?",
        ),
        (
            &["mount", "-o", "br:@/u=rx", "@/m"],
            USAGE,
            "option br:@/u=rx: unknown branch permission \"rx\", expected rw, ro[+wh] or rr[+wh]; a = that belongs to the path is written \\=",
        ),
        (
            &["mount", "-o", "br:@/u,nodirperm1", "@/m"],
            USAGE,
            "option nodirperm1: not offered; the permissions of the topmost branch always decide (dirperm1)",
        ),
        (
            &["mount", "-o", "br:@/u,mod:@/u=ro", "@/m"],
            USAGE,
            "option mod:@/u=ro: changes a live mount; add remount to the options",
        ),
        (
            &["mount", "@/m"],
            USAGE,
            "mount @/m: no branches given; name them with -o br:PATH=PERM or --branch PATH=PERM",
        ),
        (
            &["mount", "-o", "br:@/u:@/l1,workdir=/proc", "@/m"],
            REFUSED,
            "workdir /proc: on another file system than the writable branch @/u; choose a directory beside it",
        ),
        (
            &["mount", "--branches-from", "@/no", "@/m"],
            USAGE,
            "--branches-from @/no: No such file or directory (os error 2)",
        ),
        (
            &["mount", "--mounter", "magic", "-o", "br:@/u", "@/m"],
            USAGE,
            "invalid value 'magic' for '--mounter <kernel|fuse>': unknown mounter \"magic\", expected kernel or fuse; see --help",
        ),
        (&["mount", "-o", "remount,ro", "@/m"], REFUSED, "remount @/m: not mounted"),
        (
            &["mount", "-o", "remount,br:@/u", "@/m"],
            USAGE,
            "remount @/m: a remount changes flags such as ro, and single branches by append:, add:, del: and mod:; \
             unmount and mount again to change all branches",
        ),
        (&["umount", "@/m"], REFUSED, "unmount @/m: not mounted"),
        (&["umount", "@/no"], REFUSED, "unmount @/no: no such directory; create it or correct the path"),
    ] {
        let expected = format!("aufs {}: {}", args[0], host.text(expected));
        // clap reports before a verb is known.
        let (found, line) = refusal(&host, args);
        assert_eq!((found, line.replacen("aufs: ", "aufs mount: ", 1)), (code, expected), "{args:?}");
    }
}

#[test]
fn a_command_line_that_is_wrong_is_one_line_too() {
    let host = Host::new();
    for args in
        [&["mount"][..], &["umount"], &["bogus"], &[], &["mount", "--bogus", "@/m"], &["mount", "-0", "@/m"]]
    {
        let output = host.aufs(args).output().unwrap();
        let (code, line) = refused(&output);
        assert_eq!(code, USAGE, "{line}");
        assert!(line.starts_with("aufs: ") && line.contains("--help"), "{line}");
    }
}

#[test]
fn kernel_aufs_is_refused_where_there_is_none() {
    let listed = fs::read_to_string("/proc/filesystems").unwrap();
    if listed.lines().any(|it| it == "nodev\taufs") {
        println!("skipped: this kernel has aufs");
        return;
    }
    let host = Host::new();
    let (code, line) = refusal(&host, &["mount", "--mounter", "kernel", "-o", "br:@/u:@/l1", "@/m"]);
    let expected = "aufs mount: mount @/m: no aufs in /proc/filesystems; load it with modprobe aufs, or use --mounter fuse";
    assert_eq!((code, line), (UNSUPPORTED, host.text(expected)));
}

#[test]
fn a_text_beyond_the_limit_points_to_the_file() {
    let host = Host::new();
    let long = format!("br:{}", "@/l1=ro:".repeat(4000));
    let (code, line) =
        refusal(&host, &["mount", "-o", &long[..long.len() - 1], "-o", &long[..long.len() - 1], "@/m"]);
    assert_eq!(code, USAGE);
    assert!(line.ends_with("are more than 131072; use --branches-from FILE"), "{line}");
}

#[test]
fn names_that_are_not_utf8_stay_in_one_line() {
    let host = Host::new();
    let option = host::bytes(&[b"br:", host.path("no").as_os_str().as_bytes(), b"\xff\n=rw"]);
    let output = host.aufs(&["mount", "-o"]).arg(option).arg(host.path("m")).output().unwrap();
    let (code, line) = refused(&output);
    assert_eq!(code, REFUSED);
    assert!(line.contains("no such directory"), "{line}");
}

#[test]
fn a_wrong_entry_of_a_branch_list_is_named_by_its_number() {
    let host = Host::new();
    fs::write(host.path("list"), host.text("@/u=rw\n\n@/l1=rx\n")).unwrap();
    let (code, line) = refusal(&host, &["mount", "--branches-from", "@/list", "@/m"]);
    let expected = "aufs mount: --branches-from @/list, entry 3: option @/l1=rx: unknown branch permission";
    assert_eq!(code, USAGE);
    assert!(line.starts_with(&host.text(expected)), "{line}");
}
