//! How long a container takes to start: from creating it to the first byte that a program in it writes.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::bail;
use aufs_storage::driver::Removal;

use crate::Plan;
use crate::overlay::{Mounted, Peer};
use crate::sample::Samples;
use crate::store::Store;

const FIGURE: &str = "Start: from creating a container to the first byte of a program in it";

/// Sizes of the images, in layers.
const LAYERS: [usize; 4] = [1, 8, 40, 125];

/// Measures each size by each means in turn.
pub fn measure(plan: &Plan, samples: &mut Samples) -> anyhow::Result<()> {
    let store = Store::new(plan, "start")?;
    let images = LAYERS.map(|it| store.add_image(plan, it));
    let peers: Vec<Peer> =
        [Peer::Overlayfs, Peer::FuseOverlayfs].into_iter().filter(|it| it.is_here()).collect();
    for round in 0..plan.rounds {
        plan.round("start", round)?;
        for (layers, image) in LAYERS.iter().zip(&images) {
            let Ok(image) = image else { bail!("an image of {layers} layers cannot be loaded") };
            let case = format!("{layers} layers");
            let lowers = store.branches(image)?;
            for peer in &peers {
                let base = plan.scratch.path().join("peer");
                let begun = Instant::now();
                let mounted = Mounted::new(*peer, &base, &lowers)?;
                first_byte(&mounted.root)?;
                samples.keep(FIGURE, &case, peer.name(), round, ms(begun));
                drop(mounted);
                std::fs::remove_dir_all(base)?;
            }
            ours(&store, image, &case, round, samples)?;
        }
    }
    Ok(())
}

fn ours(store: &Store, image: &str, case: &str, round: usize, samples: &mut Samples) -> anyhow::Result<()> {
    let containers = store.containers()?;
    let begun = Instant::now();
    let container = containers.create(image, None, Vec::new())?;
    let created = Instant::now();
    let root = containers.start(container.id.as_str())?;
    let started = Instant::now();
    first_byte(&root)?;
    samples.keep(FIGURE, case, "aufs", round, ms(begun));
    let phase = |from: Instant, to: Instant| (to.duration_since(from).as_secs_f64() * 1e3, "ms");
    samples.keep(FIGURE, format!("{case}, creating"), "aufs", round, phase(begun, created));
    samples.keep(FIGURE, format!("{case}, mounting"), "aufs", round, phase(created, started));
    containers.remove(container.id.as_str(), Removal::Force)?;
    Ok(())
}

fn ms(begun: Instant) -> (f64, &'static str) {
    (begun.elapsed().as_secs_f64() * 1e3, "ms")
}

/// Runs a program in the tree until it has written a byte.
fn first_byte(root: &Path) -> anyhow::Result<()> {
    let mut command = Command::new("chroot");
    command.arg(root).args(["/bin/busybox", "echo", "x"]).stdout(Stdio::piped());
    let mut child = command.spawn()?;
    let mut byte = [0];
    let read = match child.stdout.take() {
        Some(mut out) => out.read(&mut byte)?,
        None => 0,
    };
    let status = child.wait()?;
    if read != 1 || !status.success() {
        bail!("a program in {} did not run: {status}", root.display());
    }
    Ok(())
}
