//! Containers come and go, many at once, while their servers and the commands that work on them are killed.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod store;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use aufs_storage::container::{ContainerErrorKind, ContainerStore};
use aufs_storage::driver::Removal;
use aufs_storage::image::LoadOptions;
use aufs_testkit::layers::{archive, docker_save};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;
use store::{Store, is_mounted, server_of, skip};

/// How many at once; each has a mount and a server.
const THREADS: usize = 24;

/// Longest that one operation may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn cycles() -> usize {
    std::env::var("AUFS_SOAK_CYCLES").ok().map_or(1000, |it| it.parse().unwrap())
}

/// Does something that must not take too long.
fn timed<T>(what: &str, act: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let done = act();
    assert!(begun.elapsed() < PATIENCE, "{what} took {:?}", begun.elapsed());
    done
}

fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").unwrap().count()
}

/// The processes that run our command.
fn servers() -> BTreeSet<u32> {
    let ids = fs::read_dir("/proc").unwrap().filter_map(|it| it.unwrap().file_name().to_str()?.parse().ok());
    let runs_ours = |id: &u32| {
        fs::read_link(format!("/proc/{id}/exe")).is_ok_and(|it| it == Path::new(env!("CARGO_BIN_EXE_aufs")))
    };
    ids.filter(runs_ours).collect()
}

/// Runs a command of ours on the container and kills it after a while, at another moment in each cycle.
fn interrupt(root: &Path, verb: &str, name: &str, cycle: usize) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aufs"));
    command.args(["container", "--root"]).arg(root).args([verb, name]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    std::thread::sleep(Duration::from_micros(cycle as u64 * 7919 % 20_000));
    child.kill().unwrap();
    child.wait().unwrap();
}

/// The life of one container.
fn cycle(containers: &ContainerStore<'_>, root: &Path, cycle: usize) {
    let name = format!("c{cycle}");
    timed("create", || containers.create("soak", Some(&name), Vec::new()).unwrap());
    if cycle % 10 == 3 {
        interrupt(root, "start", &name, cycle);
    }
    let tree = timed("start", || containers.start(&name).unwrap());
    assert_eq!(fs::read_to_string(tree.join("etc/kept")).unwrap(), "kept");
    fs::write(tree.join("etc/changed"), &name).unwrap();
    fs::remove_file(tree.join("etc/gone")).unwrap();
    if cycle % 10 == 5 {
        let server = Pid::from_raw(server_of(&tree));
        kill(server, Signal::SIGKILL).unwrap();
    }
    if cycle % 10 == 7 {
        interrupt(root, "stop", &name, cycle);
    }
    // Whoever was killed may have stopped it.
    match timed("stop", || containers.stop(&name)) {
        Ok(()) => {}
        Err(error) => assert!(matches!(*error.kind, ContainerErrorKind::Stopped), "{error:?}"),
    }
    let again = timed("start", || containers.start(&name).unwrap());
    if cycle % 10 != 5 {
        // What the server of a mount without passthrough still held is lost with it.
        assert_eq!(fs::read_to_string(again.join("etc/changed")).unwrap(), name);
    }
    assert!(!again.join("etc/gone").exists());
    timed("stop", || containers.stop(&name).unwrap());
    if cycle % 10 == 9 {
        interrupt(root, "rm", &name, cycle);
    }
    match timed("rm", || containers.remove(&name, Removal::IfUnused)) {
        Ok(_) => {}
        Err(error) => assert!(matches!(*error.kind, ContainerErrorKind::Unknown), "{error:?}"),
    }
}

#[test]
fn fuse_root_many_containers_come_and_go_while_processes_die() {
    if skip() {
        return;
    }
    let store = Store::new();
    let image = tempfile::tempdir().unwrap();
    let layers = [archive(&[("etc/kept", "kept"), ("etc/gone", "gone")]), archive(&[("etc/changed", "")])];
    docker_save(image.path(), "soak", &json!({}), &layers);
    let containers = ContainerStore::open(&store.driver).unwrap();
    containers.images().load(image.path(), &LoadOptions::default(), &()).unwrap();
    let before = (["layers", "diff", "mnt"].map(|it| store.names(it)), descriptors());
    let running = servers();
    let (next, root) = (AtomicUsize::new(0), store.at(".."));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    if cycles() <= at {
                        break;
                    }
                    cycle(&containers, &root, at);
                }
            });
        }
    });
    // What a killed removal left half-done goes when the home is opened.
    drop(store.again());
    assert_eq!((["layers", "diff", "mnt"].map(|it| store.names(it)), descriptors()), before);
    assert!(store.names("mnt").iter().all(|it| !is_mounted(&store.at("mnt").join(it))));
    assert_eq!(store.names("../aufs-rs/containers"), [""; 0]);
    // A server whose mount was detached by force ends by itself.
    let until = Instant::now() + PATIENCE;
    while !servers().is_subset(&running) {
        assert!(Instant::now() < until, "servers that nobody needs: {:?}", servers());
        std::thread::sleep(Duration::from_millis(50));
    }
}
