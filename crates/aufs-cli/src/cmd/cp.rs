//! `aufs container cp`: files into containers and out of them, as `docker cp`.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use anyhow::Context;
use aufs_storage::container::{ContainerStore, Copied, CopyOptions};
use clap::Args;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::{Errno, retry_on_intr};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::low_level::pipe;

use super::{UsageError, show};
use crate::exit::Exit;

/// What is copied, and where to.
#[derive(Debug, Args)]
#[command(override_usage = "aufs container cp [OPTIONS] CONTAINER:PATH DEST|-\n       \
                            aufs container cp [OPTIONS] SRC|- CONTAINER:PATH")]
pub struct CpArgs {
    /// Keep users and groups; otherwise files are root's in a container, and the caller's outside.
    #[arg(short, long)]
    archive: bool,
    /// Copy what a symbolic link leads to, where SRC itself is one.
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// CONTAINER:PATH, a path of the host (./ in front of one with a colon), or - for a tar archive on stdin; a directory that
    /// ends in /. stands for what it holds.
    #[arg(value_name = "SRC")]
    source: OsString,
    /// The same; - is a tar archive on stdout.
    #[arg(value_name = "DEST")]
    destination: OsString,
}

/// One side of a copy.
#[derive(Debug, PartialEq, Eq)]
enum End<'a> {
    Stream,
    Host(&'a Path),
    Container(&'a str, &'a Path),
}

impl<'a> End<'a> {
    /// Reads a side as Docker does: a colon counts unless the text begins with a slash or a dot.
    fn of(text: &'a OsStr) -> Result<Self, UsageError> {
        let bytes = text.as_bytes();
        if bytes == b"-" {
            return Ok(Self::Stream);
        }
        match bytes.iter().position(|byte| *byte == b':') {
            Some(at) if !bytes.starts_with(b"/") && !bytes.starts_with(b".") => {
                let (container, path) = (&bytes[..at], &bytes[at + 1..]);
                let container = std::str::from_utf8(container)
                    .map_err(|_| UsageError(format!("{text:?}: no name of a container is like this")))?;
                Ok(Self::Container(container, Path::new(OsStr::from_bytes(path))))
            }
            _ => Ok(Self::Host(Path::new(text))),
        }
    }
}

/// Copies, and says on stderr what could not come along.
pub fn run(store: &ContainerStore<'_>, args: &CpArgs) -> anyhow::Result<()> {
    let interrupt = Interrupt::catch().context("catch signals")?;
    let options = CopyOptions {
        keeps_owners: args.archive,
        follows_link: args.follow_link,
        interrupt: Some(&interrupt.has_come),
    };
    let ends = (End::of(&args.source)?, End::of(&args.destination)?);
    // The server of a container that is started meanwhile must not hold the caller's pipes and locks.
    close_fds::set_fds_cloexec(3, &[]);
    let copied = match ends {
        (End::Host(from), End::Container(container, to)) => store.copy_in(container, from, to, &options)?,
        (End::Container(container, from), End::Host(to)) => store.copy_out(container, from, to, &options)?,
        (End::Stream, End::Container(container, to)) => {
            let tar = interrupt.ends(show::archive_stdin()?);
            store.unpack(container, tar, to, &options)?
        }
        (End::Container(container, from), End::Stream) => {
            store.pack(container, from, show::archive_stdout()?, &options)?
        }
        (End::Container(..), End::Container(..)) => {
            let why = "a copy between two containers is not supported; copy out, then in";
            return Err(UsageError(why.to_owned()).into());
        }
        _ => {
            let why = "one of SRC and DEST must be CONTAINER:PATH; a path with a colon needs ./ in front";
            return Err(UsageError(why.to_owned()).into());
        }
    };
    tell(&copied);
    Ok(())
}

fn tell(copied: &Copied) {
    if 0 < copied.skipped_sockets {
        tracing::warn!("{} sockets were left out", copied.skipped_sockets);
    }
    if 0 < copied.skipped_devices {
        tracing::warn!("{} devices were left out; -a copies them", copied.skipped_devices);
    }
    if 0 < copied.refused_xattrs {
        tracing::warn!("{} extended attributes were refused by the file system", copied.refused_xattrs);
    }
}

/// The signals that end a copy, which then puts the container back as it was; the second ends it at once.
struct Interrupt {
    has_come: Arc<AtomicBool>,
    /// Can be read from once a signal has come.
    told: PipeReader,
}

impl Interrupt {
    fn catch() -> io::Result<Self> {
        let has_come = Arc::new(AtomicBool::new(false));
        let (told, teller) = io::pipe()?;
        for signal in [SIGINT, SIGTERM, SIGHUP] {
            flag::register_conditional_shutdown(signal, Exit::Failure as i32, Arc::clone(&has_come))?;
            flag::register(signal, Arc::clone(&has_come))?;
            pipe::register(signal, OwnedFd::from(teller.try_clone()?))?;
        }
        Ok(Self { has_come, told })
    }

    /// Returns `input`, which ends with an error when a signal comes, though nothing else does.
    fn ends(&self, input: File) -> impl Read {
        Ended { input, interrupt: self }
    }
}

struct Ended<'a> {
    input: File,
    interrupt: &'a Interrupt,
}

impl Read for Ended<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut waited = [&self.input.as_fd(), &self.interrupt.told.as_fd()]
            .map(|it| PollFd::from_borrowed_fd(*it, PollFlags::IN));
        retry_on_intr(|| poll(&mut waited, None))?;
        if !waited[1].revents().is_empty() {
            return Err(Errno::CANCELED.into());
        }
        self.input.read(buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_colon_makes_a_container_unless_a_path_is_plain() {
        let container = |name, path| Ok(End::Container(name, Path::new(path)));
        let host = |path| Ok(End::Host(Path::new(path)));
        for (text, expected) in [
            ("-", Ok(End::Stream)),
            ("c:/etc", container("c", "/etc")),
            ("c:etc:x", container("c", "etc:x")),
            ("c:", container("c", "")),
            ("c:-", container("c", "-")),
            ("/a:b", host("/a:b")),
            ("./a:b", host("./a:b")),
            ("../a:b", host("../a:b")),
            ("a", host("a")),
            ("a/b", host("a/b")),
        ] {
            assert_eq!(End::of(OsStr::new(text)).map_err(|it| it.to_string()), expected, "{text}");
        }
        assert!(End::of(OsStr::from_bytes(b"\xff:x")).is_err());
        assert_eq!(
            End::of(OsStr::from_bytes(b"\xff")).unwrap(),
            End::Host(Path::new(OsStr::from_bytes(b"\xff")))
        );
    }
}
