//! Unpacks a layer into a directory and says how fast: `cargo run --release --example unpack -- LAYER DIR`.

use std::fs::File;
use std::os::fd::AsFd;
use std::time::Instant;

use aufs_storage::archive::{ApplyOptions, CompressionLimits, apply, open_compressed};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    let [layer, directory] = arguments.as_slice() else { return Err("usage: unpack LAYER DIR".into()) };
    let root = File::open(directory)?;
    let reader = open_compressed(File::open(layer)?, &CompressionLimits::default())?;
    let start = Instant::now();
    let applied = apply(root.as_fd(), reader, &ApplyOptions::default())?;
    let seconds = start.elapsed().as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a figure to look at")]
    let mb_per_second = applied.archive_bytes as f64 / 1e6 / seconds;
    println!(
        "{} entries, {} bytes: {seconds:.2} s, {mb_per_second:.0} MB/s",
        applied.entries, applied.archive_bytes
    );
    Ok(())
}
