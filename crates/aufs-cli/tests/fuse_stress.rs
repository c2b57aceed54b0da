//! Several processes work on a mount, and each call is also made on a plain copy: both must answer and look the same.
//!
//! What once failed is played first, then rounds from a seed of the clock, which is printed.
//! `AUFS_STRESS_SECONDS` says for how long to go on in each data mode, `AUFS_STRESS_SEED` from
//! which seed, so that a failure can be played again, and `AUFS_STRESS_KEEP` names a directory for
//! what each process of a failed round did. What may differ is listed in `unlike.rs` of the testkit.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use aufs_testkit::isolate::take_role;
use aufs_testkit::mounted::Mounter;
use aufs_testkit::needs::{Need, missing};
use aufs_testkit::stress::{Plan, run};
use aufs_testkit::unlike::Served;
use libtest_mimic::{Arguments, Failed, Trial};
use nix::mount::{MntFlags, umount2};

/// Rounds that found something, in any data mode; a change of what is drawn makes others of them.
const FOUND: [u64; 12] = [
    20_050,  // Set-id bits of a file that users open for writing.
    529_840, // Capabilities that were set before a mapped page was written back.
    530_099, // The same without a write-back cache.
    529_844, // The time of a directory into which something was copied up.
    529_891, // The time of a file that was cut to the length it had.
    529_960,
    530_735,     // Set-id bits that stay when users write by a descriptor of root.
    530_817,     // The same in the tree at the end.
    531_005,     // A hidden name that counts along after an unmount.
    742_047,     // The time again, when a file without a name could not get that of the one cut.
    842_238_102, // A copy within one file that overlaps.
    842_438_016, // The set-group-id bit of a directory that gets a default ACL.
];

/// How long to go on in each data mode when nobody says.
const DEFAULT_SECONDS: u64 = 20;

fn main() -> ExitCode {
    if let Some(code) = take_role() {
        return code;
    }
    let mut arguments = Arguments::from_args();
    // Each has as many processes as there are processors.
    arguments.test_threads = Some(1);
    let trials = ["passthrough", "noopen", "cached"]
        .map(|mode| Trial::test(format!("fuse_root_stress_{mode}"), move || stress(mode)));
    libtest_mimic::run(&arguments, trials.into()).exit_code()
}

fn stress(mode: &'static str) -> Result<(), Failed> {
    if let Some(reason) = missing(&[Need::Root, Need::Fuse])? {
        eprintln!("skipped: {reason}");
        return Ok(());
    }
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    let seconds = from_environment("AUFS_STRESS_SECONDS")?;
    let end = Instant::now() + Duration::from_secs(seconds.unwrap_or(DEFAULT_SECONDS));
    let given = from_environment("AUFS_STRESS_SEED")?;
    let first = given.unwrap_or(now.as_secs() % 1_000_000 * 1000);
    eprintln!("data={mode}: from AUFS_STRESS_SEED={first}");
    if given.is_none() {
        FOUND.iter().try_for_each(|seed| play(mode, *seed))?;
    }
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < end {
        play(mode, first + rounds)?;
        rounds += 1;
    }
    eprintln!("data={mode}: {rounds} rounds from AUFS_STRESS_SEED={first}");
    Ok(())
}

/// Plays one round.
fn play(mode: &str, seed: u64) -> Result<(), Failed> {
    let plan = Plan { seed, workers: 3, calls: 400, served: served(mode) };
    let scratch = tempfile::tempdir()?;
    let mounted = Detached(scratch.path().join("u"));
    let result = run(scratch.path(), plan, &mounter(mode));
    drop(mounted);
    match result {
        Ok(()) => Ok(()),
        Err(failure) => {
            if let Some(keep) = std::env::var_os("AUFS_STRESS_KEEP") {
                keep_traces(scratch.path(), &PathBuf::from(keep), seed)?;
            }
            Err(format!("AUFS_STRESS_SEED={seed}, data={mode}: {failure}").into())
        }
    }
}

/// Copies what each process did to `keep`.
fn keep_traces(scratch: &Path, keep: &Path, seed: u64) -> Result<(), Failed> {
    std::fs::create_dir_all(keep)?;
    for entry in std::fs::read_dir(scratch)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name.starts_with("trace-") {
            std::fs::copy(scratch.join(&name), keep.join(format!("{seed}-{name}")))?;
        }
    }
    Ok(())
}

fn from_environment(name: &str) -> Result<Option<u64>, Failed> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text.parse().map_err(|error| format!("{name}={text}: {error}"))?)),
        Err(_) => Ok(None),
    }
}

fn served(mode: &str) -> Served {
    match mode {
        "passthrough" => Served::Passthrough,
        "noopen" => Served::NoOpen,
        _ => Served::Cached,
    }
}

/// The data mode `passthrough` falls back to `noopen` where the kernel refuses it.
fn mounter(mode: &str) -> Mounter {
    let mode = if mode == "passthrough" { "auto" } else { mode };
    Mounter::aufs(env!("CARGO_BIN_EXE_aufs"), &format!("data={mode}"))
}

/// Takes down what a failed round left mounted, before its directory goes.
#[derive(Debug)]
struct Detached(PathBuf);

impl Drop for Detached {
    fn drop(&mut self) {
        while umount2(&self.0, MntFlags::MNT_DETACH).is_ok() {}
    }
}
