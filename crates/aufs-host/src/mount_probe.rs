//! Tries one mount in a private mount namespace and shows what the kernel made of it.

use std::ffi::{CStr, CString};
use std::path::Path;

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::MountFlags;

use crate::private_child::{self, Namespaces, Step, Teller, TrialError, c_path};

/// A mount to try. Everything happens in a tmpfs that the trial mounts on [`Trial::scratch`].
#[derive(Debug, Clone, Copy)]
pub struct Trial<'a> {
    /// An absolute path of a directory; its content is hidden from the trial only.
    pub scratch: &'a Path,
    /// Names of directories created in the scratch first; the mount goes on the last one.
    pub directories: &'a [&'a str],
    /// How many of the directories, from the first on, get a tmpfs of their own.
    pub own_tmpfs: usize,
    /// File system type.
    pub fs_type: &'a str,
    /// Mount options, with absolute paths.
    pub options: &'a str,
}

/// Mounts and returns the mount's super block options as mountinfo shows them.
///
/// A file system may accept an option and then go on without it, so the caller should look
/// for the option in the answer.
///
/// # Errors
///
/// The step that was refused; [`Step::Mount`] is the mount itself.
#[expect(unsafe_code, reason = "calls `private_child::run`")]
pub fn try_mount(namespaces: Namespaces, trial: &Trial<'_>) -> Result<String, TrialError> {
    let directories = trial
        .directories
        .iter()
        .map(|name| c_path(&trial.scratch.join(name)))
        .collect::<Result<Vec<_>, _>>()?;
    let target = directories.last().ok_or(Step::FillScratch.refused(Errno::INVAL))?;
    let fs_type = c_text(trial.fs_type)?;
    let options = c_text(trial.options)?;

    // SAFETY: both functions make syscalls on texts made above and on a buffer on the stack.
    let report = unsafe {
        private_child::run(namespaces, trial.scratch, |teller| {
            fill_scratch(&directories, trial.own_tmpfs)?;
            mount_and_tell(target, &fs_type, &options, teller)
        })
    }?;
    report.end?;
    let mountinfo = String::from_utf8_lossy(&report.payload);
    Ok(super_options(&mountinfo, trial.fs_type).unwrap_or_default().to_owned())
}

/// Runs in the child: syscalls only.
fn fill_scratch(directories: &[CString], own_tmpfs: usize) -> Result<(), TrialError> {
    for (at, directory) in directories.iter().enumerate() {
        rustix::fs::mkdir(directory, Mode::RWXU).map_err(|errno| Step::FillScratch.refused(errno))?;
        if at < own_tmpfs {
            rustix::mount::mount(c"aufs-trial", directory, c"tmpfs", MountFlags::NOSUID, Some(c"size=1m"))
                .map_err(|errno| Step::MountScratch.refused(errno))?;
        }
    }
    Ok(())
}

/// Runs in the child: syscalls only.
fn mount_and_tell(
    target: &CStr,
    fs_type: &CStr,
    options: &CStr,
    teller: &Teller<'_>,
) -> Result<(), TrialError> {
    rustix::mount::mount(c"aufs-trial", target, fs_type, MountFlags::NOSUID, Some(options))
        .map_err(|errno| Step::Mount.refused(errno))?;

    let refused = |errno| Step::ReadMountinfo.refused(errno);
    let mountinfo =
        rustix::fs::open(c"/proc/self/mountinfo", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .map_err(refused)?;
    let mut buffer = [0_u8; 4096];
    loop {
        match rustix::io::read(&mountinfo, &mut buffer) {
            Ok(0) => return Ok(()),
            Ok(len) => teller.tell(buffer.get(..len).unwrap_or_default()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(refused(errno)),
        }
    }
}

/// Returns the super block options of the last mount of `fs_type` in the text of a mountinfo file.
fn super_options<'a>(mountinfo: &'a str, fs_type: &str) -> Option<&'a str> {
    mountinfo.lines().rev().find_map(|line| {
        let (_, after) = line.split_once(" - ")?;
        let mut fields = after.split(' ');
        (fields.next() == Some(fs_type)).then(|| fields.nth(1)).flatten()
    })
}

fn c_text(text: &str) -> Result<CString, TrialError> {
    CString::new(text).map_err(|_| Step::Start.refused(Errno::INVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_of_the_last_mount_are_found() {
        let text = "22 1 8:1 / / rw shared:1 - ext4 /dev/root rw,errors=remount-ro\n\
                    30 22 0:40 / /m rw - overlay a rw,lowerdir=/a\n\
                    31 22 0:41 / /n rw,nosuid shared:2 master:1 - overlay b rw,metacopy=on\n";
        for (fs_type, expected) in
            [("overlay", Some("rw,metacopy=on")), ("ext4", Some("rw,errors=remount-ro")), ("aufs", None)]
        {
            assert_eq!(super_options(text, fs_type), expected, "{fs_type}");
        }
        assert_eq!(super_options("30 22 0:40 / /m rw - overlay", "overlay"), None);
    }

    #[test]
    fn root_a_tmpfs_keeps_the_option_it_was_given() {
        let required = std::env::var("REQUIRE").is_ok_and(|it| it.split(',').any(|it| it == "root"));
        if !rustix::process::geteuid().is_root() {
            assert!(!required, "REQUIRE names root, but this is not root");
            eprintln!("skipped: not root");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let trial = |fs_type, options| {
            let trial =
                Trial { scratch: scratch.path(), directories: &["a", "b"], own_tmpfs: 1, fs_type, options };
            try_mount(Namespaces::Mount, &trial)
        };
        let shown = trial("tmpfs", "size=64k").unwrap();
        assert!(shown.split(',').any(|it| it == "size=64k"), "{shown}");
        assert_eq!(trial("tmpfs", "nonsense=1").unwrap_err().step, Step::Mount);
        assert_eq!(trial("no-such-type", "").unwrap_err(), Step::Mount.refused(Errno::NODEV));
        assert_eq!(std::fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
