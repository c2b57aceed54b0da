//! What writing costs in a volume, in a container's layer, and on the disk that both lie on.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, bail};
use aufs_storage::container::{Volume, enter};
use aufs_storage::driver::Removal;
use clap::Args;
use rustix::fs::{Mode, OFlags};

use crate::Plan;
use crate::sample::Samples;
use crate::store::Store;

const FIGURE: &str = "Volumes: writing to files that exist, in programs of a container";

/// Files, and their lengths.
const FILES: [(&str, usize); 2] = [("f64", 64 << 20), ("f256", 256 << 20)];

/// Where the volume is in the container.
const VOLUME: &str = "/volume";

/// One step of a measurement, in the namespaces of the container.
#[derive(Debug, Args)]
pub struct InsideArgs {
    /// The container's tree.
    #[arg(long)]
    root: PathBuf,
    /// The volume's directory of the host.
    #[arg(long)]
    volume: PathBuf,
    /// A directory of the disk.
    #[arg(long)]
    disk: PathBuf,
}

/// Writes to each place in turn, in a new container each round.
pub fn measure(plan: &Plan, samples: &mut Samples) -> anyhow::Result<()> {
    let store = Store::new(plan, "volumes")?;
    let image = store.add_image_with(plan, "volumes:1", &FILES)?;
    let [disk, volume] = ["disk", "volume"].map(|it| plan.scratch.path().join(it));
    for dir in [&disk, &volume] {
        fs::create_dir(dir)?;
        for (name, len_bytes) in FILES {
            fs::write(dir.join(name), vec![b'x'; len_bytes])?;
        }
    }
    let containers = store.containers()?;
    let myself = std::env::current_exe()?;
    for round in 0..plan.rounds {
        plan.round("volumes", round)?;
        let container = containers.create(&image, None, Vec::new())?;
        let root = containers.start(container.id.as_str())?;
        rustix::fs::sync();
        let mut command = Command::new("unshare");
        command.args(["--mount", "--pid", "--fork"]).arg(&myself).arg("inside").arg("--root").arg(&root);
        command.arg("--volume").arg(&volume).arg("--disk").arg(&disk);
        let done = command.output().context("unshare")?;
        if !done.status.success() {
            bail!("in the container: {}", String::from_utf8_lossy(&done.stderr).trim());
        }
        let told: BTreeMap<String, [f64; 3]> = serde_json::from_slice(&done.stdout)?;
        for (case, values) in told {
            for (by, value) in ["disk", "volume", "layer"].into_iter().zip(values) {
                samples.keep(FIGURE, &case, by, round, (value, "ms"));
            }
        }
        containers.remove(container.id.as_str(), Removal::Force)?;
    }
    Ok(())
}

/// Enters the container and writes; returns what each case took on the disk, in the volume and in the layer, in ms.
pub fn inside(args: &InsideArgs) -> anyhow::Result<BTreeMap<String, [f64; 3]>> {
    // The disk is not seen from inside but through a handle.
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let disk = rustix::fs::open(&args.disk, flags, Mode::empty())?;
    let volume = Volume { host: args.volume.clone(), path: VOLUME.into(), read_only: false };
    enter(&args.root, &[volume])?;
    let opened = |path: &str| rustix::fs::open(path, flags, Mode::empty());
    let places = [disk, opened(VOLUME)?, opened("/")?];
    let open = |dir: &OwnedFd, name: &str| -> anyhow::Result<File> {
        Ok(rustix::fs::openat(dir, name, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?.into())
    };
    let mut told = BTreeMap::new();
    let mut small = |case: &str| -> anyhow::Result<()> {
        let mut values = [0.0; 3];
        for (value, place) in values.iter_mut().zip(&places) {
            let begun = Instant::now();
            open(place, "f256")?.write_all_at(b"four", 4096)?;
            *value = ms(begun);
        }
        told.insert(case.to_owned(), values);
        Ok(())
    };
    small("4 bytes of a file of 256 MiB, 1st time")?;
    small("4 bytes of a file of 256 MiB, 2nd time")?;
    // Copied up before it is measured: writing to a copy is what this is about.
    open(&places[2], "f64")?.write_all_at(b"four", 4096)?;
    let files = places.iter().map(|it| open(it, "f64")).collect::<anyhow::Result<Vec<_>>>()?;
    for (case, step, count) in
        [("64 MiB in steps of 64 KiB, fsync", 64 << 10, 1024_u64), ("4 KiB and fsync, 100 times", 4096, 100)]
    {
        let mut values = [0.0; 3];
        for (value, file) in values.iter_mut().zip(&files) {
            *value = rewrite(file, step, count)?;
        }
        told.insert(case.to_owned(), values);
    }
    Ok(told)
}

/// Writes so many steps: small ones far apart, as a database does, and each of them synced.
fn rewrite(file: &File, step: usize, count: u64) -> anyhow::Result<f64> {
    let bytes = vec![b'y'; step];
    let is_small = step < 64 << 10;
    let begun = Instant::now();
    for at in 0..count {
        let at = if is_small { at * 7919 % 16384 * 4096 } else { at * step as u64 };
        file.write_all_at(&bytes, at)?;
        if is_small {
            file.sync_data()?;
        }
    }
    file.sync_all()?;
    Ok(ms(begun))
}

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}
