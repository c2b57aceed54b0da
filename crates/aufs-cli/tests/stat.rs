//! `aufs stat`: what a server tells of itself, and who cannot be asked.

#![expect(clippy::unwrap_used, reason = "a test that cannot prepare its host has failed")]

mod host;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use aufs_testkit::needs::Need::{Fuse, Root};
use host::{Host, has, refused};
use serde_json::Value;

/// `Exit::Refused`.
const REFUSED: i32 = 4;
const OPTIONS: &str = "br:@/u=rw:@/l1=ro+wh:@/l2=ro+wh";

fn count_of(report: &Value, name: &str) -> u64 {
    let operations = report["operations"].as_array().unwrap();
    operations.iter().find(|it| it["name"] == name).map_or(0, |it| it["count"].as_u64().unwrap())
}

#[test]
fn fuse_root_stat_counts_what_happened() {
    if !has(&[Fuse, Root]) {
        return;
    }
    for mode in ["passthrough", "noopen", "cached"] {
        let host = Host::new();
        fs::create_dir(host.path("l1/d")).unwrap();
        fs::write(host.path("l1/d/file"), [b'x'; 5000]).unwrap();
        host.run(&["mount", "-o", &format!("{OPTIONS},data={mode}"), "@/m"]);
        fs::set_permissions(host.path("m/d/file"), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(fs::metadata(host.path("m/d/none")).is_err());
        let told = host.aufs(&["stat", "--json", "@/m"]).output().unwrap();
        let report: Value = serde_json::from_slice(&told.stdout).unwrap();
        assert_eq!(report["data_mode"], mode);
        assert_eq!(report["pid"], host.server_of("m"));
        let copies = &report["copy_ups"];
        assert_eq!((&copies["files"], &copies["directories"]), (&1.into(), &1.into()), "{copies}");
        assert_eq!(copies["len_bytes"], 5000);
        let by = ["by_reflink", "by_copy_file_range", "by_read_write"].map(|it| copies[it].as_u64().unwrap());
        assert_eq!(by.iter().sum::<u64>(), 1);
        assert!(0 < copies["phases"]["data_ns"].as_u64().unwrap());
        assert_eq!((count_of(&report, "lookup"), count_of(&report, "setattr")), (3, 1), "{mode}");
        for operation in report["operations"].as_array().unwrap() {
            let histogram = operation["histogram"].as_array().unwrap();
            let in_buckets: u64 = histogram.iter().map(|it| it[1].as_u64().unwrap()).sum();
            assert_eq!(in_buckets, operation["count"].as_u64().unwrap(), "{operation}");
        }
        let table = String::from_utf8(host.aufs(&["stat", "@/m"]).output().unwrap().stdout).unwrap();
        assert!(table.starts_with(&format!("data mode {mode}, FUSE 7.")), "{table}");
        assert!(table.contains("copy-ups: 1 files (5000 bytes"), "{table}");
        host.run(&["umount", "@/m"]);
    }
}

#[test]
fn fuse_root_stat_names_what_it_cannot_ask() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    let (code, line) = refused(&host.aufs(&["stat", "@/m"]).output().unwrap());
    assert_eq!((code, line), (REFUSED, host.text("aufs stat: mount point @/m: not mounted")));
    let (code, line) = refused(&host.aufs(&["stat", "@/none"]).output().unwrap());
    assert!(code == REFUSED && line.contains("no such directory"), "{line}");
    let (code, line) = refused(&host.aufs(&["stat", "/proc"]).output().unwrap());
    assert!(code == REFUSED && line.contains("a mount of type proc"), "{line}");
}

#[test]
fn fuse_root_without_attributes_none_are_shown_or_copied_and_unmounting_still_waits() {
    if !has(&[Fuse, Root]) {
        return;
    }
    let host = Host::new();
    fs::write(host.path("l1/file"), "x").unwrap();
    let set = Command::new("setfattr").args(["-n", "user.a", "-v", "1"]).arg(host.path("l1/file")).status();
    assert!(set.unwrap().success());
    let told = host.run(&["mount", "--json", "-o", &format!("{OPTIONS},noxattr"), "@/m"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    let pid = i32::try_from(told["pid"].as_i64().unwrap()).unwrap();
    let mut value = [0_u8; 8];
    let shown = rustix::fs::getxattr(host.path("m/file"), "user.a", &mut value[..]);
    assert_eq!(shown, Err(rustix::io::Errno::OPNOTSUPP));
    fs::set_permissions(host.path("m/file"), fs::Permissions::from_mode(0o600)).unwrap();
    let copied = rustix::fs::getxattr(host.path("u/file"), "user.a", &mut value[..]);
    assert_eq!(copied, Err(rustix::io::Errno::NODATA));
    let (code, line) = refused(&host.aufs(&["stat", "@/m"]).output().unwrap());
    assert!(code == REFUSED && line.contains("noxattr"), "{line}");
    host.run(&["umount", "@/m"]);
    assert!(!host::is_running(pid), "umount returned before the server had ended");
}
