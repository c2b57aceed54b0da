//! How long an image takes to load, with one thread and with two.

use std::fs::{self, File};
use std::io::Write;
use std::time::Instant;

use aufs_storage::image::LoadOptions;
use aufs_testkit::layers::docker_save;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use crate::sample::Samples;
use crate::store::Store;
use crate::{Plan, corpus};

const FIGURE: &str = "Load: an image of four layers compressed by gzip, verified and unpacked";

/// Layers, and their files.
const LAYERS: usize = 4;
const FILES: usize = 1120;
const FILE_LEN_BYTES: usize = 125_000;

/// Loads the image with each number of threads in turn.
pub fn measure(plan: &Plan, samples: &mut Samples) -> anyhow::Result<()> {
    let store = Store::new(plan, "load")?;
    let dir = plan.scratch.path().join("load-image");
    let mut layers = Vec::new();
    for at in 0..LAYERS {
        let tree = plan.scratch.path().join("load-tree");
        // A directory of its own, so that no two layers are the same.
        corpus::plant(&tree.join(format!("layer-{at}")), FILES, FILE_LEN_BYTES)?;
        layers.push(
            std::process::Command::new("tar").arg("-C").arg(&tree).args(["-cf", "-", "."]).output()?.stdout,
        );
        fs::remove_dir_all(tree)?;
    }
    docker_save(&dir, "load:1", &json!({}), &layers);
    let mb = layers.iter().map(Vec::len).sum::<usize>() as f64 / 1e6;
    for (at, layer) in layers.iter().enumerate() {
        let mut encoder =
            GzEncoder::new(File::create(dir.join(format!("{at}.tar")))?, Compression::default());
        encoder.write_all(layer)?;
        encoder.finish()?;
    }
    drop(layers);
    let containers = store.containers()?;
    for round in 0..plan.rounds {
        plan.round("load", round)?;
        for (by, threads) in if round % 2 == 0 {
            [("1 thread", 1), ("2 threads", 2)]
        } else {
            [("2 threads", 2), ("1 thread", 1)]
        } {
            rustix::fs::sync();
            let begun = Instant::now();
            containers.images().load(&dir, &LoadOptions { threads, ..LoadOptions::default() }, &())?;
            let seconds = begun.elapsed().as_secs_f64();
            samples.keep(FIGURE, format!("{mb:.0} MB"), by, round, (seconds, "s"));
            containers.images().remove("load:1")?;
        }
    }
    Ok(())
}
