//! Runs a scenario in a process, mount namespace and PID namespace of its own.
//!
//! A scenario changes its process's user and umask, mounts, and may start a
//! file server. When its namespaces end, so does all of that, also when the
//! scenario failed, hung or was killed. The processes are re-executions of the
//! test program: `enter` makes the namespaces, `init` is their first process,
//! `replay` plays.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::mount::MsFlags;
use nix::sched::CloneFlags;
use nix::sys::signal::Signal;
use nix::sys::wait::{WaitStatus, waitpid};
use rustix::fs::Mode;
use serde::{Deserialize, Serialize};
use tempfile::TempDir;

use crate::branches;
use crate::direct::Direct;
use crate::dump::{Since, dump};
use crate::error::KitError;
use crate::host_calls::HostCalls;
use crate::mounted::{Mounted, Mounter};
use crate::process::{ROLE, play_lock};
use crate::replay::{self, Replayed};
use crate::scenario::{Recorded, Scenario};
use crate::subject::{Fault, Outcome, Subject};

/// In the environment of a process that plays a part: the directory with its orders.
pub const BASE: &str = "AUFS_TESTKIT_BASE";
const TIMEOUT: Duration = Duration::from_secs(60);

/// Who answers the calls of a scenario.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// A union that the kernel sees.
    Mounted(Mounter),
    /// The union's own interface on plain directories, without a mount.
    Direct,
}

impl Target {
    /// The recordings that fit the target.
    pub fn recorded(&self) -> Recorded {
        match self {
            Self::Mounted(Mounter::Overlay) => Recorded::Overlay,
            _ => Recorded::Aufs,
        }
    }
}

/// What a `replay` process is to do.
#[derive(Debug, Serialize, Deserialize)]
struct Order {
    scenario: PathBuf,
    run: usize,
    target: Target,
}

/// Replays one run of the scenario in `file`.
///
/// # Errors
///
/// The kit's own failure, such as no namespaces or a hang of more than a
/// minute; a difference is none.
pub fn replay_isolated(file: &Path, run: usize, target: &Target) -> Result<Replayed, KitError> {
    let base = TempDir::new().map_err(KitError::at("create a scratch directory for", file))?;
    let order = Order { scenario: file.to_owned(), run, target: target.clone() };
    write_json(&base.path().join("order.json"), &order)?;
    let stderr = base.path().join("stderr");
    let log = File::create(&stderr).map_err(KitError::at("create", &stderr))?;
    let mut child = Command::new("/proc/self/exe")
        .env(ROLE, "enter")
        .env(BASE, base.path())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .map_err(KitError::at("start a replay of", file))?;
    let deadline = Instant::now() + TIMEOUT;
    let status = loop {
        if let Some(status) = child.try_wait().map_err(KitError::at("wait for", file))? {
            break Some(status);
        }
        if deadline < Instant::now() {
            child.kill().map_err(KitError::at("kill the replay of", file))?;
            child.wait().map_err(KitError::at("wait for", file))?;
            break None;
        }
        std::thread::sleep(Duration::from_millis(2));
    };
    let result = read_result(base.path(), file, status);
    let built = base.path().join("b");
    if built.exists() {
        branches::clear_flags(&built).map_err(|fault| broken(&built, &fault))?;
    }
    base.close().map_err(KitError::at("remove the scratch directory of", file))?;
    result
}

fn read_result(base: &Path, file: &Path, status: Option<ExitStatus>) -> Result<Replayed, KitError> {
    let failed = |why: String| KitError::new("replay", file, io::Error::other(why));
    match status {
        Some(status) if status.success() => read_json(&base.join("result.json")),
        Some(status) => {
            let text = fs::read_to_string(base.join("stderr")).unwrap_or_default();
            Err(failed(format!("{status}: {}", text.trim())))
        }
        None => Err(failed(format!("no end after {} s", TIMEOUT.as_secs()))),
    }
}

/// Plays this process's part, if it was started for one.
///
/// Programs that call [`replay_isolated`] call this first in `main`.
pub fn take_role() -> Option<ExitCode> {
    let arguments: Vec<String> = std::env::args().collect();
    match arguments.first().map(String::as_str) {
        Some("echo") => {
            #[expect(clippy::print_stdout, reason = "plays the program `echo`")]
            {
                println!("{}", arguments.get(1..).unwrap_or_default().join(" "));
            }
            return Some(ExitCode::SUCCESS);
        }
        Some("sleep") => {
            let seconds = arguments.get(1).and_then(|it| it.parse().ok()).unwrap_or(0);
            std::thread::sleep(Duration::from_secs(seconds));
            return Some(ExitCode::SUCCESS);
        }
        _ => {}
    }
    let role = std::env::var(ROLE).ok()?;
    let base = PathBuf::from(std::env::var_os(BASE).unwrap_or_default());
    let played = match role.as_str() {
        "enter" => play_enter(),
        "init" => play_init(),
        "replay" => play_replay(&base),
        "stress" => crate::stress::play(&base),
        _ => match role.strip_prefix("lock ") {
            Some(how) => return Some(play_lock(how)),
            None => Err(Fault::Broken(format!("unknown role {role}"))),
        },
    };
    Some(played.unwrap_or_else(|fault| {
        #[expect(clippy::print_stderr, reason = "the parent reads the reason there")]
        {
            eprintln!("{role}: {fault:?}");
        }
        ExitCode::FAILURE
    }))
}

fn play_enter() -> Outcome<ExitCode> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    nix::sched::unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)?;
    let none: Option<&str> = None;
    nix::mount::mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)?;
    exit_code(Command::new("/proc/self/exe").env(ROLE, "init").status()?)
}

/// Reaps orphans, such as a file server that went to the background, as their parent must.
fn play_init() -> Outcome<ExitCode> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL)?;
    let program = std::env::current_exe()?;
    nix::mount::mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), None::<&str>)?;
    let child = Command::new(program).env(ROLE, "replay").spawn()?;
    let wanted = i32::try_from(child.id()).map_err(|_| Fault::Broken("process number".to_owned()))?;
    loop {
        match waitpid(None, None)? {
            WaitStatus::Exited(pid, code) if pid.as_raw() == wanted => {
                return Ok(if code == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            }
            WaitStatus::Signaled(pid, signal, _) if pid.as_raw() == wanted => {
                return Err(Fault::Broken(format!("killed by {signal}")));
            }
            _ => {}
        }
    }
}

fn play_replay(base: &Path) -> Outcome<ExitCode> {
    let order: Order = read_json(&base.join("order.json")).map_err(told)?;
    let scenario = Scenario::read(&order.scenario).map_err(told)?;
    let played = play(base, &order, &scenario)?;
    write_json(&base.join("result.json"), &played).map_err(told)?;
    Ok(ExitCode::SUCCESS)
}

fn play(base: &Path, order: &Order, scenario: &Scenario) -> Outcome<Replayed> {
    let run = scenario.runs.get(order.run).ok_or_else(|| Fault::Broken("no such run".to_owned()))?;
    let calls = HostCalls { branches: base.join("b"), mountpoint: base.join("u") };
    rustix::process::umask(Mode::from_raw_mode(0o022));
    prepare(&calls, scenario, order.target.recorded())?;
    let options = calls.with_full_paths(&run.options);
    let has_exe = scenario.branches.iter().flat_map(|it| &it.entries).any(|it| it.exe);
    let exe_digest = if has_exe { Some(replay::exe_digest()?) } else { None };
    let since = Since { start_ns: replay::start_of_scenario(), exe_digest };
    match &order.target {
        Target::Mounted(mounter) => {
            let mut subject = Mounted::new(calls, mounter.clone(), options, scenario.read_only);
            finish(&mut subject, scenario, run, since)
        }
        Target::Direct => {
            let mut subject = Direct::new(calls, options, scenario.read_only);
            finish(&mut subject, scenario, run, since)
        }
    }
}

fn finish<S: Subject>(
    subject: &mut S,
    scenario: &Scenario,
    run: &crate::scenario::Run,
    since: Since,
) -> Outcome<Replayed> {
    let mut played = replay::replay(subject, scenario, run, since.clone())?;
    let mut after = BTreeMap::new();
    for branch in &scenario.branches {
        after.insert(branch.name.clone(), dump(subject, &format!("@{}", branch.name), &since)?);
    }
    played.branches_after = after;
    Ok(played)
}

fn prepare(calls: &HostCalls, scenario: &Scenario, format: Recorded) -> Outcome<()> {
    fs::create_dir_all(&calls.branches)?;
    fs::create_dir_all(&calls.mountpoint)?;
    // Scenarios drop privilege, and a scratch directory is private to root.
    for directory in [&calls.branches, &calls.mountpoint] {
        let Some(base) = directory.parent() else { continue };
        rustix::fs::chmod(base, Mode::from_raw_mode(0o755))?;
    }
    for (branch, mount) in &scenario.branch_mounts {
        let at = calls.branches.join(branch);
        fs::create_dir_all(&at)?;
        let Some((kind, options)) = mount.split_once(':') else {
            return Err(Fault::Broken(format!("branch mount {mount}")));
        };
        nix::mount::mount(Some("none"), &at, Some(kind), MsFlags::empty(), Some(options))?;
    }
    if format == Recorded::Overlay && !scenario.branch_mounts.contains_key("rw") {
        fs::create_dir_all(calls.branches.join(".work"))?;
    }
    for branch in &scenario.branches {
        branches::build(&calls.branches.join(&branch.name), &branch.entries, format).map_err(told)?;
    }
    branches::give_to_root(&calls.mountpoint).map_err(told)
}

fn told(error: KitError) -> Fault {
    Fault::Broken(error.to_string())
}

fn broken(path: &Path, fault: &Fault) -> KitError {
    KitError::new("clean up", path, io::Error::other(format!("{fault:?}")))
}

fn exit_code(status: ExitStatus) -> Outcome<ExitCode> {
    if status.success() { Ok(ExitCode::SUCCESS) } else { Err(Fault::Broken(status.to_string())) }
}

/// Writes `value` as JSON.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), KitError> {
    let text = serde_json::to_vec(value).map_err(KitError::at("write", path))?;
    fs::write(path, text).map_err(KitError::at("write", path))
}

/// Reads a value that [`write_json`] wrote.
///
/// # Errors
///
/// The file cannot be read, or holds something else.
pub fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, KitError> {
    let text = fs::read(path).map_err(KitError::at("read", path))?;
    serde_json::from_slice(&text).map_err(KitError::at("read", path))
}
