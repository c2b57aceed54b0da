//! How fast a layer is unpacked, beside tar.

use std::fs::{self, File};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use anyhow::bail;
use aufs_storage::archive::{ApplyOptions, apply};

use crate::sample::Samples;
use crate::{Plan, corpus};

const FIGURE: &str = "Apply: unpacking an uncompressed layer, beside tar -xp --xattrs on the same disk";

/// What it is about, files, and length of each.
const CORPORA: [(&str, usize, usize); 2] =
    [("4,500 files of 160 KiB", 4500, 160 << 10), ("50,000 files of 8 KiB", 50_000, 8 << 10)];

/// Unpacks each layer by each means in turn.
pub fn measure(plan: &Plan, samples: &mut Samples) -> anyhow::Result<()> {
    let base = plan.scratch.path().join("apply");
    fs::create_dir(&base)?;
    for (at, (_, count, len_bytes)) in CORPORA.iter().enumerate() {
        let tree = base.join("tree");
        fs::create_dir(&tree)?;
        corpus::plant(&tree, *count, *len_bytes)?;
        let mut pack = Command::new("tar");
        pack.arg("--numeric-owner").arg("-C").arg(&tree).arg("-cf").arg(base.join(format!("{at}.tar")));
        run(pack.arg("."))?;
        fs::remove_dir_all(tree)?;
    }
    for round in 0..plan.rounds {
        plan.round("apply", round)?;
        for (at, (case, ..)) in CORPORA.iter().enumerate() {
            let layer = base.join(format!("{at}.tar"));
            let out = base.join("out");
            // In turn, so that neither always comes first.
            for by in if round % 2 == 0 { ["tar", "aufs"] } else { ["aufs", "tar"] } {
                fs::create_dir(&out)?;
                rustix::fs::sync();
                let begun = Instant::now();
                unpack(by, &layer, &out)?;
                let seconds = begun.elapsed().as_secs_f64();
                let mb = fs::metadata(&layer)?.len() as f64 / 1e6;
                samples.keep(FIGURE, *case, by, round, (mb / seconds, "MB/s"));
                fs::remove_dir_all(&out)?;
            }
        }
    }
    Ok(fs::remove_dir_all(base)?)
}

fn unpack(by: &str, layer: &Path, out: &Path) -> anyhow::Result<()> {
    if by == "tar" {
        let mut unpack = Command::new("tar");
        return run(unpack.args(["--xattrs", "--numeric-owner", "-xp", "-C"]).arg(out).arg("-f").arg(layer));
    }
    let root = File::open(out)?;
    apply(root.as_fd(), File::open(layer)?, &ApplyOptions::default())?;
    Ok(())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let done = command.output()?;
    if !done.status.success() {
        bail!("{command:?}: {}", String::from_utf8_lossy(&done.stderr).trim());
    }
    Ok(())
}
