//! The option grammar: cases as a table, hostile texts, and printing against parsing.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use aufs_mount::option::{
    DataMode, Dialect, GenericFlags, MountOptions, OPTIONS_LEN_MAX, OptionParser, Transport, Udba, Warning,
    parse,
};
use aufs_union::BranchChange;
use aufs_union::branch::{BranchPerm, BranchSpec};
use proptest::prelude::*;

fn own(text: &str) -> Result<MountOptions, String> {
    parsed(text.as_ref(), Dialect::Own).map(|it| it.0)
}

fn parsed(text: &OsStr, dialect: Dialect) -> Result<(MountOptions, Vec<String>), String> {
    match parse(text, dialect) {
        Ok(it) => Ok((it.options, it.warnings.iter().map(ToString::to_string).collect())),
        Err(error) => Err(format!("{error}: {}", error.kind)),
    }
}

fn branches(text: &str) -> Result<Vec<String>, String> {
    Ok(own(text)?.branches.iter().map(|it| format!("{}={}", it.path.display(), it.perm)).collect())
}

#[test]
fn branch_lists_read_as_aufs_reads_them() {
    for (text, expected) in [
        ("br:/u=rw:/l=ro+wh", &["/u=rw", "/l=ro+wh"][..]),
        ("br=/u=rw:/l=rr", &["/u=rw", "/l=rr"]),
        ("dirs=/u=rw:/l=rr+wh", &["/u=rw", "/l=rr+wh"]),
        ("br:/u:/l:/m", &["/u=rw", "/l=ro", "/m=ro"]),
        ("br:/u,br:/l,br:/m=ro+wh", &["/u=rw", "/l=ro", "/m=ro+wh"]),
        ("br:/l=ro:/m", &["/l=ro", "/m=ro"]),
        ("br:/a=b=ro", &["/a=b=ro"]),
        (r"br:/a\=b", &["/a=b=rw"]),
        (r"br:/a\:b\,c=ro:/d", &["/a:b,c=ro", "/d=ro"]),
        (r"br:/a\\b=rw", &[r"/a\b=rw"]),
        ("br:/u=rw+nolwh:/l=ro+wh+icex", &["/u=rw", "/l=ro+wh"]),
        ("br:rel/ative=rw", &["rel/ative=rw"]),
        ("lowerdir=/a:/b,upperdir=/u,workdir=/w", &["/u=rw", "/a=ro+wh", "/b=ro+wh"]),
        ("lowerdir=/a:/b=c", &["/a=ro+wh", "/b=c=ro+wh"]),
        (r"lowerdir=/a\:x:/b", &["/a:x=ro+wh", "/b=ro+wh"]),
        ("", &[]),
        (",,", &[]),
    ] {
        let expected = expected.iter().map(|it| (*it).to_owned()).collect();
        assert_eq!(branches(text), Ok(expected), "{text}");
    }
}

#[test]
fn words_set_what_they_say() {
    let flags = |change: fn(&mut GenericFlags)| {
        let mut options = MountOptions::default();
        change(&mut options.flags);
        options
    };
    for (text, expected) in [
        ("data=cached", MountOptions { data: Some(DataMode::Cached), ..Default::default() }),
        ("udba=reval", MountOptions { udba: Some(Udba::Reval), ..Default::default() }),
        ("udba=reval,udba=none", MountOptions { udba: Some(Udba::None), ..Default::default() }),
        ("noxattr", MountOptions { no_xattrs: true, ..Default::default() }),
        ("diropq=a", MountOptions { always_opaque: true, ..Default::default() }),
        ("diropq=always,diropq=w", MountOptions::default()),
        ("volatile", MountOptions { volatile: true, ..Default::default() }),
        ("transport=uring", MountOptions { transport: Some(Transport::Uring), ..Default::default() }),
        ("sync,dirperm1", MountOptions { sync: true, ..Default::default() }),
        ("remount,ro", MountOptions { remount: true, ..flags(|it| it.read_only = Some(true)) }),
        ("ro,rw", flags(|it| it.read_only = Some(false))),
        (
            "nodev,suid,noexec",
            flags(|it| {
                it.no_dev = Some(true);
                it.no_suid = Some(false);
                it.no_exec = Some(true);
            }),
        ),
        (
            "noatime,relatime,nodiratime",
            flags(|it| {
                it.no_atime = Some(false);
                it.no_dir_atime = Some(true);
            }),
        ),
        (
            "allow_other,fsname=image",
            flags(|it| {
                it.allow_other = true;
                it.fsname = Some("image".into());
            }),
        ),
        (
            r#"context="system_u:object_r:x:s0:c1,c2",ro"#,
            flags(|it| {
                it.read_only = Some(true);
                it.context = Some("system_u:object_r:x:s0:c1,c2".into());
            }),
        ),
        (
            "defaults,noauto,x-systemd.automount,_netdev,user_id=0,default_permissions",
            MountOptions::default(),
        ),
    ] {
        assert_eq!(own(text), Ok(expected), "{text}");
    }
}

#[test]
fn mistakes_name_the_word_and_the_remedy() {
    for (text, expected) in [
        ("br:/a=rw,lowedir=/b", "option lowedir=/b: unknown; did you mean lowerdir?"),
        ("zzzzzz", "option zzzzzz: unknown"),
        ("ro:", "option ro:: unknown; did you mean ro?"),
        ("transport=tcp", "option transport=tcp: unknown transport \"tcp\", expected auto, device or uring"),
        ("transport", "option transport: needs a value"),
        (
            "br:/a=rx",
            "option br:/a=rx: unknown branch permission \"rx\", expected rw, ro[+wh] or rr[+wh]; a = that belongs to the path is written \\=",
        ),
        (
            "br:/a=rw+wh",
            "option br:/a=rw+wh: unknown branch permission \"rw+wh\", expected rw, ro[+wh] or rr[+wh]; a = that belongs to the path is written \\=",
        ),
        (
            "br:/a=",
            "option br:/a=: unknown branch permission \"\", expected rw, ro[+wh] or rr[+wh]; a = that belongs to the path is written \\=",
        ),
        ("br:/a::/b", "option br:/a::/b: names no path"),
        ("br:", "option br:: needs a value"),
        ("data", "option data: needs a value"),
        (
            "data=fast",
            "option data=fast: unknown data mode \"fast\", expected auto, passthrough, noopen or cached",
        ),
        ("udba=notify", "option udba=notify: expected udba=none or udba=reval"),
        ("ro=1", "option ro=1: takes no value"),
        (
            "nodirperm1",
            "option nodirperm1: not offered; the permissions of the topmost branch always decide (dirperm1)",
        ),
        ("br:/a,del:/a", "option del:/a: changes a live mount; add remount to the options"),
        ("upperdir=/u,upperdir=/v", "option upperdir=/v: given twice; give it once"),
        ("upperdir=/u", "option upperdir=: needs lowerdir= as well; for one branch alone use br:PATH=rw"),
        ("br:/a,lowerdir=/b", "option lowerdir=: cannot be combined with br: or dirs=; use one or the other"),
        ("context=\"a,b", "option context=: the double quote is not closed"),
        (
            "br:/a\nb=xx",
            "option \"br:/a\\nb=xx\": unknown branch permission \"xx\", expected rw, ro[+wh] or rr[+wh]; a = that belongs to the path is written \\=",
        ),
        ("br:/a\0b", "option \"br:/a\\0b\": holds a zero byte"),
    ] {
        assert_eq!(own(text), Err(expected.to_owned()), "{text}");
    }
}

#[test]
fn all_ignored_words_share_one_warning() {
    let text = "br:/u=rw+nolwh:/l=ro+wh+icex,dio,xino=/dev/shm/x,noxino,sum,create=mfs,cpup=bu,verbose,warn_perm,dio";
    let (_, warnings) = parsed(text.as_ref(), Dialect::Own).unwrap();
    assert_eq!(
        warnings,
        ["ignored, as these aufs words do nothing here: \
          +nolwh +icex dio xino noxino sum create cpup verbose warn_perm"]
    );
}

#[test]
fn helpers_may_pass_the_options_of_fuse_overlayfs() {
    let text = "lowerdir=/a,upperdir=/u,workdir=/w,nodev,uidmapping=:0:1000:1,xattr_permissions=2,xino=off,redirect_dir=off,timeout=1.5";
    let parsed = parse(text.as_ref(), Dialect::Helper).unwrap();
    assert_eq!(parsed.options.flags.no_dev, Some(true));
    let words = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect();
    assert_eq!(
        parsed.warnings,
        [
            Warning::AufsWords { words: words(&["xino"]) },
            Warning::FuseOverlayfsWords {
                words: words(&["uidmapping", "xattr_permissions", "redirect_dir", "timeout"])
            },
        ]
    );
    assert!(parse("lowedir=/a".as_ref(), Dialect::Helper).is_err(), "a typing mistake stays an error");
}

#[test]
fn single_branches_need_no_escapes() {
    let mut parser = OptionParser::new(Dialect::Own);
    parser.branch("/a:b,c=rw".as_ref()).unwrap();
    parser.branch(r"/d\e=f=ro".as_ref()).unwrap();
    parser.branch(OsStr::from_bytes(b"/\xff")).unwrap();
    let found = parser.finish().unwrap().options.branches;
    let expected: [(&[u8], &str); 3] = [(b"/a:b,c", "rw"), (br"/d\e=f", "ro"), (b"/\xff", "ro")];
    for (found, (path, perm)) in found.iter().zip(expected) {
        assert_eq!((found.path.as_os_str().as_bytes(), found.perm.to_string().as_str()), (path, perm));
    }
    assert!(OptionParser::new(Dialect::Own).branch("=rw".as_ref()).is_err());
}

#[test]
fn the_length_counts_over_all_texts() {
    let half = format!("fsname={}", "a".repeat(OPTIONS_LEN_MAX / 2));
    let mut parser = OptionParser::new(Dialect::Own);
    parser.options(half.as_ref()).unwrap();
    let error = parser.options(half.as_ref()).unwrap_err();
    assert!(error.kind.to_string().ends_with("use --branches-from FILE"), "{error}");
}

fn path() -> impl Strategy<Value = PathBuf> {
    let byte = prop_oneof![
        4 => proptest::sample::select(b",:=\\\"/ab\n".to_vec()),
        1 => 1_u8..=255,
    ];
    prop::collection::vec(byte, 1..12).prop_map(|it| PathBuf::from(OsString::from_vec(it)))
}

fn perm() -> impl Strategy<Value = BranchPerm> {
    prop_oneof![
        Just(BranchPerm::ReadWrite),
        any::<bool>().prop_map(|whiteouts| BranchPerm::ReadOnly { whiteouts }),
        any::<bool>().prop_map(|whiteouts| BranchPerm::RealReadOnly { whiteouts }),
    ]
}

fn change() -> impl Strategy<Value = BranchChange> {
    prop_oneof![
        (prop::option::of(0_usize..9), path(), perm()).prop_map(|(position, path, perm)| {
            BranchChange::Add { position, spec: BranchSpec { path, perm } }
        }),
        path().prop_map(|path| BranchChange::Remove { path }),
        (path(), perm()).prop_map(|(path, perm)| BranchChange::Modify { path, perm }),
    ]
}

prop_compose! {
    fn flags()(
        bits in prop::collection::vec(any::<Option<bool>>(), 6),
        allow_other in any::<bool>(),
        fsname in prop::option::of(path()),
        context in prop::option::of("[a-z:,=]{1,12}"),
    ) -> GenericFlags {
        GenericFlags {
            read_only: bits[0],
            no_suid: bits[1],
            no_dev: bits[2],
            no_exec: bits[3],
            no_atime: bits[4],
            no_dir_atime: bits[5],
            allow_other,
            fsname: fsname.map(PathBuf::into_os_string),
            context: context.map(OsString::from),
        }
    }
}

prop_compose! {
    fn options()(
        branches in prop::collection::vec((path(), perm()), 0..6),
        workdir in prop::option::of(path()),
        data in prop::option::of(prop_oneof![
            Just(DataMode::Auto), Just(DataMode::Passthrough), Just(DataMode::NoOpen), Just(DataMode::Cached)]),
        udba in prop::option::of(prop_oneof![Just(Udba::None), Just(Udba::Reval)]),
        sync in any::<bool>(),
        volatile in any::<bool>(),
        no_xattrs in any::<bool>(),
        always_opaque in any::<bool>(),
        transport in prop::option::of(prop_oneof![
            Just(Transport::Auto), Just(Transport::Device), Just(Transport::Uring)]),
        changes in prop::option::of(prop::collection::vec(change(), 0..4)),
        flags in flags(),
    ) -> MountOptions {
        let branches = branches.into_iter().map(|(path, perm)| BranchSpec { path, perm }).collect();
        let remount = changes.is_some();
        let changes = changes.unwrap_or_default();
        MountOptions {
            branches, workdir, data, udba, sync, volatile, no_xattrs, always_opaque, transport, remount, changes,
            flags,
        }
    }
}

proptest! {
    #[test]
    fn printed_options_parse_to_themselves(options in options()) {
        let text = options.to_text();
        let parsed = parse(&text, Dialect::Own);
        prop_assert_eq!(parsed.map(|it| it.options), Ok(options), "{:?}", text);
    }

    #[test]
    fn no_text_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        drop(parse(OsStr::from_bytes(&bytes), Dialect::Helper));
    }

    #[test]
    fn no_text_of_grammar_pieces_panics(
        pieces in prop::collection::vec(proptest::sample::select(vec![
            "br:", "br=", "lowerdir=", "upperdir=", "context=\"", "\"", "\\", ",", ":", "=", "rw", "ro+wh", "+", "/a",
            "data=", "x-", "append:", "add:", "1", "del:", "mod:", "remount", "\u{fffd}", "é",
        ]), 0..16),
    ) {
        let text = pieces.concat();
        if let Ok(parsed) = parse(text.as_ref(), Dialect::Own) {
            let again = parse(&parsed.options.to_text(), Dialect::Own);
            if parsed.options.flags.context.as_ref().is_none_or(|it| !it.as_bytes().contains(&b'"')) {
                prop_assert_eq!(again.map(|it| it.options), Ok(parsed.options), "{}", text);
            }
        }
    }
}
