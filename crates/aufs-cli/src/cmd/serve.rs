//! `aufs serve`: mounts one union and serves it until it is unmounted.
//!
//! Hidden, since people use `aufs mount`, which starts it. The request comes as
//! JSON on stdin, the reply goes as one JSON line to stdout; see
//! [`aufs_mount::request`]. Whoever reads the reply to its end knows that the
//! mount is usable and that the server holds none of the caller's descriptors.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use anyhow::Context;
use aufs_fuse::Server;
use aufs_fuse::options::{MountFlags, ServeOptions};
use aufs_mount::mounter::{Mounted, Mounter};
use aufs_mount::option::{DataMode, Transport};
use aufs_mount::request::{ServeReply, ServeRequest, ServedFlags};
use aufs_mount::server;
use aufs_union::{Union, UnionOptions};
use clap::Args;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::unistd::{dup2_stderr, dup2_stdin, dup2_stdout, getpid, setsid};

use super::{ServeError, exit_of};
use crate::exit::Exit;
use crate::log::{self, Reader};
use crate::terminate::Terminator;

/// Longest request that is read, in bytes: 65535 branches of 4 KiB, as JSON numbers.
const REQUEST_LEN_MAX: u64 = 65_535 * 4096 * 4;

/// Serve one union; started by `aufs mount`.
#[derive(Debug, Args)]
#[command(hide = true)]
pub struct ServeArgs {}

/// Runs as a daemon for `aufs mount`.
pub fn run(_: ServeArgs) -> anyhow::Result<Exit> {
    match setsid() {
        Ok(_) | Err(Errno::EPERM) => {} // EPERM: started by hand, and its own leader already.
        Err(errno) => return Err(errno).context("setsid"),
    }
    let Begun { server, null, has_log } = match begin() {
        Ok(begun) => begun,
        Err(error) => {
            let told = error.downcast_ref::<ServeError>();
            let (exit, errno) = told.map_or((exit_of(&error), None), |it| (it.exit, Some(it.errno)));
            reply(&ServeReply::Error { message: format!("{error:#}"), errno, exit_code: exit as u8 })?;
            return Ok(exit);
        }
    };
    dup2_stdin(&null).context("stdin")?;
    if !has_log {
        dup2_stderr(&null).context("stderr")?;
    }
    let ready = ServeReply::Ready { data: data_mode(&server), pid: getpid().as_raw() };
    let told = reply(&ready);
    dup2_stdout(&null).context("stdout")?;
    if let Err(error) = told {
        tracing::warn!(%error, "the caller is gone; unmounting again");
        Terminator::now()?;
    }
    serve(server)
}

/// Serves from this process, as `aufs mount --foreground`; `report` hears when the mount is usable.
pub fn foreground(
    request: &ServeRequest,
    report: impl FnOnce(&Mounted) -> anyhow::Result<()>,
) -> anyhow::Result<Exit> {
    let server = mount(request)?;
    let mounted = Mounted {
        mountpoint: request.mountpoint.0.to_string_lossy().into_owned(),
        mounter: Mounter::Fuse,
        data_mode: Some(data_mode(&server)),
        pid: Some(getpid().as_raw()),
    };
    if let Err(error) = report(&mounted) {
        tracing::warn!(error = format!("{error:#}"), "the result could not be printed; unmounting again");
        Terminator::now()?;
    }
    serve(server)
}

/// A server that is mounted but not yet a daemon.
#[derive(Debug)]
struct Begun {
    server: Server,
    null: File,
    has_log: bool,
}

fn begin() -> anyhow::Result<Begun> {
    let mut text = Vec::new();
    io::stdin().take(REQUEST_LEN_MAX).read_to_end(&mut text).context("read the request from stdin")?;
    let request: ServeRequest = serde_json::from_slice(&text)
        .context("the request on stdin is not one of aufs mount, which is the command to use")?;
    let null = OpenOptions::new().read(true).write(true).open("/dev/null").context("open /dev/null")?;
    if let Some(path) = &request.log {
        dup2_stderr(open_log(&path.0)?).context("stderr")?;
    }
    log::start(if request.log.is_some() { Reader::File } else { Reader::Caller });
    std::env::set_current_dir("/").context("change to /")?;
    let server = mount(&request)?;
    Ok(Begun { server, null, has_log: request.log.is_some() })
}

fn open_log(path: &Path) -> anyhow::Result<File> {
    let opened = OpenOptions::new().append(true).create(true).open(path);
    opened.with_context(|| format!("log file {}", path.display()))
}

fn reply(reply: &ServeReply) -> io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    let mut stdout = io::stdout();
    stdout.write_all(&line)?;
    stdout.flush()
}

/// Opens the union and mounts it; from then on signals unmount it.
fn mount(request: &ServeRequest) -> anyhow::Result<Server> {
    let mountpoint = &request.mountpoint.0;
    server::check_host().map_err(|kind| kind.during("mount", mountpoint))?;
    raise_open_files();
    let terminator = Terminator::new()?;
    let union = Union::open(&union_options(request)?).map_err(ServeError::of_union)?;
    for warning in union.warnings() {
        tracing::info!("{warning}");
    }
    let server = Server::mount(union, mountpoint, &serve_options(request)?).map_err(ServeError::of_fuse)?;
    terminator.watch(mountpoint)?;
    Ok(server)
}

fn serve(server: Server) -> anyhow::Result<Exit> {
    server.run().context("serve")?;
    tracing::info!("unmounted");
    Ok(Exit::Success)
}

/// Directory handles and open files of many programs are all ours; take what the host allows.
fn raise_open_files() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(errno) = raised {
        tracing::warn!(%errno, "the limit of open files stays as it is");
    }
}

fn union_options(request: &ServeRequest) -> anyhow::Result<UnionOptions> {
    Ok(UnionOptions {
        stack: request.stack()?,
        workdir: request.workdir.as_ref().map(|it| it.0.clone()),
        sync: request.sync,
        revalidate: request.revalidate,
        no_xattrs: request.no_xattrs,
        always_opaque: request.always_opaque,
    })
}

fn serve_options(request: &ServeRequest) -> anyhow::Result<ServeOptions> {
    let ServedFlags { source, read_only, no_suid, no_dev, no_exec, no_atime, no_dir_atime, allow_other } =
        request.flags.clone();
    let flags =
        MountFlags { source, read_only, no_suid, no_dev, no_exec, no_atime, no_dir_atime, allow_other };
    Ok(ServeOptions {
        data: request.data.as_str().parse()?,
        revalidate: request.revalidate,
        volatile: request.volatile,
        no_xattrs: request.no_xattrs,
        transport: match request.transport {
            Transport::Auto => aufs_fuse::options::Transport::Auto,
            Transport::Device => aufs_fuse::options::Transport::Device,
            Transport::Uring => aufs_fuse::options::Transport::IoUring,
        },
        flags,
        threads: None,
    })
}

fn data_mode(server: &Server) -> DataMode {
    match server.data_mode() {
        aufs_fuse::options::DataMode::Auto => DataMode::Auto,
        aufs_fuse::options::DataMode::Passthrough => DataMode::Passthrough,
        aufs_fuse::options::DataMode::NoOpen => DataMode::NoOpen,
        aufs_fuse::options::DataMode::Cached => DataMode::Cached,
    }
}
