//! What many started containers of one image cost: time, disk, inodes, memory.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use anyhow::Context;
use aufs_mount::ask::ask;
use aufs_mount::unmount::SERVER_XATTR;

use crate::Plan;
use crate::sample::Samples;
use crate::store::Store;

const FIGURE: &str = "Density: started containers of one image of 20 layers";

/// Layers of the image.
const LAYERS: usize = 20;

/// In how many of them a program runs.
const PROGRAMS: usize = 10;

/// After how many containers it is measured.
const MARKS: [usize; 3] = [1, 10, 100];

/// Starts containers, and measures at each mark what all of them cost, by container.
pub fn measure(plan: &Plan, samples: &mut Samples) -> anyhow::Result<()> {
    let store = Store::new(plan, "density")?;
    let image = store.add_image(plan, LAYERS)?;
    let containers = store.containers()?;
    let before = used(&store.root)?;
    let (mut servers, mut roots) = (Vec::new(), Vec::new());
    let mut spent_ms = 0.0;
    for count in 1..=MARKS[MARKS.len() - 1] {
        let begun = Instant::now();
        let container = containers.create(&image, None, Vec::new())?;
        let root = containers.start(container.id.as_str())?;
        spent_ms += begun.elapsed().as_secs_f64() * 1e3;
        servers.push(server_of(&root)?);
        roots.push(root);
        if !MARKS.contains(&count) {
            continue;
        }
        plan.round(&format!("density, {count} containers"), 0)?;
        let now = used(&store.root)?;
        let each = |value: f64| value / count as f64;
        let case = |what: &str| format!("{count} containers: {what} each");
        let mut keep = |what, value, unit| samples.keep(FIGURE, case(what), "aufs", 0, (each(value), unit));
        keep("time to create and mount", spent_ms, "ms");
        keep("disk", (now.bytes - before.bytes) as f64 / 1024.0, "KiB");
        keep("inodes", (now.inodes - before.inodes) as f64, "");
        let pss = servers.iter().map(|it| memory_kib(*it, "Pss:")).sum::<anyhow::Result<f64>>()?;
        keep("memory of its server (PSS)", pss / 1024.0, "MiB");
    }
    programs(&roots[..PROGRAMS], samples)
}

/// Runs the same program in some containers; what they share of its file counts once.
fn programs(roots: &[PathBuf], samples: &mut Samples) -> anyhow::Result<()> {
    let mut running = Programs(Vec::new());
    for root in roots {
        let mut command = Command::new("chroot");
        running.0.push(command.arg(root).args(["/bin/busybox", "sleep", "600"]).spawn()?);
    }
    // Once it sleeps a program has touched what it needs.
    std::thread::sleep(Duration::from_secs(1));
    for (what, key) in [("resident", "Rss:"), ("its share (PSS)", "Pss:")] {
        let sum = running.0.iter().map(|it| memory_kib(it.id(), key)).sum::<anyhow::Result<f64>>()?;
        let case = format!("a program in {PROGRAMS} containers: {what} each");
        samples.keep(FIGURE, case, "aufs", 0, (sum / PROGRAMS as f64, "KiB"));
    }
    Ok(())
}

/// Programs that end with their owner.
struct Programs(Vec<Child>);

impl Drop for Programs {
    fn drop(&mut self) {
        for child in &mut self.0 {
            if let Err(error) = child.kill().and_then(|()| child.wait().map(drop)) {
                crate::complain(&format!("figures: end of a program: {error}"));
            }
        }
    }
}

/// What lies on a disk.
struct Used {
    bytes: u64,
    inodes: u64,
}

/// Sums up what lies below `root`, each file once, entering no mount.
fn used(root: &Path) -> anyhow::Result<Used> {
    let device = fs::metadata(root)?.dev();
    let (mut used, mut seen) = (Used { bytes: 0, inodes: 0 }, HashSet::new());
    let mut waiting = vec![root.to_owned()];
    while let Some(path) = waiting.pop() {
        let found = fs::symlink_metadata(&path)?;
        if found.dev() != device || !seen.insert(found.ino()) {
            continue;
        }
        used.bytes += found.blocks() * 512;
        used.inodes += 1;
        if found.is_dir() {
            for entry in fs::read_dir(&path)? {
                waiting.push(entry?.path());
            }
        }
    }
    Ok(used)
}

fn server_of(root: &Path) -> anyhow::Result<u32> {
    Ok(std::str::from_utf8(&ask(root, SERVER_XATTR)?)?.parse()?)
}

/// A line of what the kernel tells of a process's memory; of `Pss` what others use too counts in part.
fn memory_kib(process: u32, key: &str) -> anyhow::Result<f64> {
    let text = fs::read_to_string(format!("/proc/{process}/smaps_rollup"))?;
    let line = text
        .lines()
        .find_map(|it| it.strip_prefix(key))
        .with_context(|| format!("no {key} in smaps_rollup"))?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}
