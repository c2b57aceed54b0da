//! `aufs container exec`: a program in a started container, in namespaces that end with it.
//!
//! The command makes the namespaces and starts itself in them as their first
//! process, which mounts what a container needs, starts the program, and waits
//! for all that the program leaves behind.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};

use anyhow::Context;
use aufs_storage::container::{ContainerState, ContainerStore, Volume, enter};
use clap::Args;
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::{WaitStatus, wait};
use nix::unistd::Pid;
use rustix::process::set_parent_process_death_signal;
use serde::{Deserialize, Serialize};
use signal_hook::consts::{SIGINT, SIGQUIT};
use signal_hook::iterator::Signals;

use crate::exit::Exit;

/// What the first process of the namespaces is to do, in its environment.
const ORDER: &str = "AUFS_ENTER";

/// Where programs are looked for when the image does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

#[derive(Debug, Serialize, Deserialize)]
struct Order {
    root: PathBuf,
    volumes: Vec<Volume>,
    env: Vec<String>,
    directory: String,
}

/// Enter the tree of a container and run COMMAND there; aufs container exec calls this.
#[derive(Debug, Args)]
pub struct EnterArgs {
    /// The program and its arguments.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    command: Vec<OsString>,
}

/// Runs a program in a started container; exits as it does, by a signal with 128 and its number.
pub fn run(store: &ContainerStore<'_>, container: &str, command: &[OsString]) -> anyhow::Result<Exit> {
    let info = store.inspect(container)?;
    anyhow::ensure!(
        info.state == ContainerState::Started,
        "container {container} is not started; aufs container start {container} does that"
    );
    let config: serde_json::Value =
        serde_json::from_slice(&store.images().config(&info.container.image.to_string())?)?;
    let texts = config["config"]["Env"].as_array().into_iter().flatten();
    let mut env: Vec<String> = texts.filter_map(|it| it.as_str().map(str::to_owned)).collect();
    if !env.iter().any(|it| it.starts_with("PATH=")) {
        env.push(format!("PATH={PATH}"));
    }
    let directory = config["config"]["WorkingDir"].as_str().filter(|it| !it.is_empty()).unwrap_or("/");
    let order =
        Order { root: info.root, volumes: info.container.volumes, env, directory: directory.to_owned() };
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWPID)
        .context("namespaces for the program need root")?;
    let program = std::env::current_exe().context("this program")?;
    let mut child = Command::new(program)
        .arg("enter")
        .arg("--")
        .args(command)
        .env(ORDER, serde_json::to_string(&order)?)
        .spawn()
        .context("start the program")?;
    // An interrupt of the terminal goes to the program as well, and its end is what we wait for.
    let _caught = Signals::new([SIGINT, SIGQUIT]).context("catch signals")?;
    let status = child.wait().context("wait for the program")?;
    std::process::exit(code_of(status));
}

/// Runs the first process of the namespaces.
pub fn enter_and_run(args: EnterArgs) -> anyhow::Result<Exit> {
    let text = std::env::var(ORDER).context("this is called by aufs container exec")?;
    let order: Order = serde_json::from_str(&text).context(ORDER)?;
    // Whoever kills the command kills all that it started.
    set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).context("prctl")?;
    enter(&order.root, &order.volumes).map_err(|kind| anyhow::anyhow!("enter the container: {kind}"))?;
    let Some((program, arguments)) = args.command.split_first() else { return Ok(Exit::Usage) };
    let env = order.env.iter().filter_map(|it| it.split_once('='));
    let path = env.clone().find(|it| it.0 == "PATH").map_or(PATH, |it| it.1);
    let found = find(program, path);
    let mut command = Command::new(&found);
    command.args(arguments).env_clear().envs(env);
    if let Some(term) = std::env::var_os("TERM") {
        command.env("TERM", term);
    }
    let child = match command.current_dir(&order.directory).spawn() {
        Ok(child) => child,
        Err(error) => {
            tracing::error!("{}: {error}", found.display());
            // As of a shell: 127 for what is not there, 126 for what cannot run.
            std::process::exit(if error.kind() == io::ErrorKind::NotFound { 127 } else { 126 });
        }
    };
    let own = Pid::from_raw(i32::try_from(child.id())?);
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, code)) if pid == own => std::process::exit(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == own => std::process::exit(128 + signal as i32),
            // What the program left behind is reaped, and ends with us.
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno).context("wait for the program"),
        }
    }
}

/// Looks for a program on the container's own path, which is that of this process by now.
fn find(program: &OsStr, path: &str) -> PathBuf {
    if program.as_encoded_bytes().contains(&b'/') {
        return program.into();
    }
    let candidates = path.split(':').filter(|it| !it.is_empty()).map(|it| PathBuf::from(it).join(program));
    candidates.clone().find(|it| it.is_file()).unwrap_or_else(|| program.into())
}

fn code_of(status: ExitStatus) -> i32 {
    status.code().unwrap_or_else(|| 128 + status.signal().unwrap_or_default())
}
