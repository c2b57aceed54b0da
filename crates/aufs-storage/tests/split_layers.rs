//! Layers of every kind come back byte for byte from the directory that they were unpacked to, or it is known that they do not.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod kit;

use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::Path;

use aufs_storage::archive::{ApplyOptions, apply};
use aufs_storage::image::split::{Splitter, assemble};
use kit::skip;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat2};

/// Whether a layer comes back; none when it cannot be unpacked.
fn comes_back(layer: &Path) -> Option<(bool, bool)> {
    let scratch = tempfile::tempdir().unwrap();
    let dir = File::open(scratch.path()).unwrap();
    let archive = fs::read(layer).unwrap();
    let mut splitter = Splitter::new(archive.as_slice(), Vec::new());
    apply(dir.as_fd(), &mut splitter, &ApplyOptions::default()).ok()?;
    io::copy(&mut splitter, &mut io::sink()).unwrap();
    let (_, records, is_faithful) = splitter.finish().unwrap();
    let mut together = Vec::new();
    let content = |path: &std::ffi::OsStr| {
        // A later entry of the path may have made it a FIFO, which nobody writes to.
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        Ok(File::from(openat2(&dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)?))
    };
    let done = assemble(records.as_slice(), content, &mut together);
    Some((is_faithful, done.is_ok() && together == archive))
}

#[test]
fn root_a_layer_comes_back_or_is_known_not_to() {
    if skip() {
        return;
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/layers");
    let (mut back, mut lost, mut known) = (0, Vec::new(), 0);
    for entry in fs::read_dir(fixtures).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|it| it != "tar") {
            continue;
        }
        match comes_back(&path) {
            Some((_, true)) => back += 1,
            Some((true, false)) => lost.push(path.file_name().unwrap().to_owned()),
            Some((false, false)) => known += 1,
            None => {}
        }
    }
    assert!(lost.is_empty(), "{lost:?}");
    assert!(8 < back && 2 < known, "{back} come back, {known} are known not to");
}
