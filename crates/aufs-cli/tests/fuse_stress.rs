//! Several processes work on a mount, and each call is also made on a plain copy: both must answer and look the same.
//!
//! Without settings the same rounds are played each time. `AUFS_STRESS_SECONDS`
//! says for how long to go on in each data mode, from a seed of the clock unless
//! `AUFS_STRESS_SEED` names one, so that a failure can be played again. Such a search
//! also comes across the differences from POSIX that SEMANTICS.md lists: times that
//! the kernel keeps in `data=noopen` and of FIFOs, set-id bits that go at open in passthrough mode.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant, SystemTime};

use aufs_testkit::isolate::take_role;
use aufs_testkit::mounted::Mounter;
use aufs_testkit::needs::{Need, missing};
use aufs_testkit::stress::{Plan, run};
use libtest_mimic::{Arguments, Failed, Trial};
use nix::mount::{MntFlags, umount2};

/// The rounds that are played each time, which meet none of the listed differences.
const SEEDS: std::ops::Range<u64> = 20_040..20_050;

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
    let mounter = mounter(mode);
    let end = from_environment("AUFS_STRESS_SECONDS")?.map(|it| Instant::now() + Duration::from_secs(it));
    let first = match from_environment("AUFS_STRESS_SEED")? {
        Some(seed) => seed,
        None if end.is_none() => SEEDS.start,
        None => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_secs() % 1_000_000 * 1000,
    };
    let mut rounds = 0;
    while end.map_or(rounds < SEEDS.end - SEEDS.start, |end| rounds == 0 || Instant::now() < end) {
        let plan = Plan { seed: first + rounds, workers: 3, calls: 400 };
        let scratch = tempfile::tempdir()?;
        let mounted = Detached(scratch.path().join("u"));
        let result = run(scratch.path(), plan, &mounter);
        drop(mounted);
        if let Err(failure) = result {
            return Err(format!("AUFS_STRESS_SEED={}, data={mode}: {failure}", plan.seed).into());
        }
        rounds += 1;
    }
    eprintln!("data={mode}: {rounds} rounds from AUFS_STRESS_SEED={first}");
    Ok(())
}

fn from_environment(name: &str) -> Result<Option<u64>, Failed> {
    match std::env::var(name) {
        Ok(text) => Ok(Some(text.parse().map_err(|error| format!("{name}={text}: {error}"))?)),
        Err(_) => Ok(None),
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
