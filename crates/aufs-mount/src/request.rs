//! What is said between `aufs mount` and the process that serves the mount.
//!
//! One JSON document goes to the server's stdin; one JSON line comes back on its
//! stdout. A path is a JSON string when it is UTF-8, else an array of its bytes.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use aufs_union::branch::{BranchPerm, BranchSpec};
use nix::unistd::Uid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::option::{DataMode, GenericFlags, MountOptions, Transport, Udba};
use crate::stack::BranchStack;

/// Everything the serving process needs to know.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServeRequest {
    /// The branches, topmost first, with absolute paths.
    pub branches: Vec<ServedBranch>,
    /// Where drafts are built.
    pub workdir: Option<HostPath>,
    /// Where to mount; absolute.
    pub mountpoint: HostPath,
    /// How data travels.
    pub data: DataMode,
    /// Whether lookups check the branches again.
    pub revalidate: bool,
    /// Whether a copy-up is on disk before it shows.
    pub sync: bool,
    /// Whether `fsync(2)` returns at once.
    pub volatile: bool,
    /// Whether extended attributes are neither shown nor copied.
    pub no_xattrs: bool,
    /// Whether each new directory is opaque.
    pub always_opaque: bool,
    /// How requests travel.
    pub transport: Transport,
    /// Flags of the mount.
    pub flags: ServedFlags,
    /// Where a daemon writes its log; absolute.
    pub log: Option<HostPath>,
}

/// One branch of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedBranch {
    /// The host directory.
    pub path: HostPath,
    /// Its permission, as in option texts.
    pub perm: String,
}

/// Flags of the mount, with every default filled in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedFlags {
    /// Text shown as the source in mountinfo.
    pub source: String,
    /// `ro`.
    pub read_only: bool,
    /// `nosuid`.
    pub no_suid: bool,
    /// `nodev`.
    pub no_dev: bool,
    /// `noexec`.
    pub no_exec: bool,
    /// `noatime`.
    pub no_atime: bool,
    /// `nodiratime`.
    pub no_dir_atime: bool,
    /// `allow_other`.
    pub allow_other: bool,
}

/// The one line that the serving process reports.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ServeReply {
    /// The mount is usable.
    Ready {
        /// The data mode in force.
        data: DataMode,
        /// The process that serves.
        pid: i32,
    },
    /// Nothing is mounted.
    Error {
        /// One line for the user.
        message: String,
        /// The errno behind it, if one is known.
        errno: Option<i32>,
        /// What the command should exit with.
        exit_code: u8,
    },
}

/// A path that survives JSON whatever its bytes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPath(pub PathBuf);

impl From<&Path> for HostPath {
    fn from(path: &Path) -> Self {
        Self(path.to_owned())
    }
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum PathForm {
    Text(String),
    Bytes(Vec<u8>),
}

impl Serialize for HostPath {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.to_str() {
            Some(text) => PathForm::Text(text.to_owned()),
            None => PathForm::Bytes(self.0.as_os_str().as_bytes().to_vec()),
        }
        .serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for HostPath {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Self(match PathForm::deserialize(deserializer)? {
            PathForm::Text(text) => PathBuf::from(text),
            PathForm::Bytes(bytes) => PathBuf::from(OsString::from_vec(bytes)),
        }))
    }
}

impl ServeRequest {
    /// Builds the request for a checked stack, filling in the defaults of the current user.
    pub fn new(stack: &BranchStack, options: &MountOptions, log: Option<&Path>) -> Self {
        let branches = stack
            .branches()
            .iter()
            .map(|it| ServedBranch { path: HostPath(it.path.clone()), perm: it.perm.to_string() })
            .collect();
        Self {
            branches,
            workdir: stack.workdir().map(HostPath::from),
            mountpoint: HostPath::from(stack.mountpoint()),
            data: options.data.unwrap_or_default(),
            revalidate: options.udba == Some(Udba::Reval),
            sync: options.sync,
            volatile: options.volatile,
            no_xattrs: options.no_xattrs,
            always_opaque: options.always_opaque,
            transport: options.transport.unwrap_or_default(),
            flags: ServedFlags::new(&options.flags, Uid::effective().is_root()),
            log: log.map(HostPath::from),
        }
    }

    /// Returns the branches in the union's own type.
    ///
    /// # Errors
    ///
    /// A permission that no [`ServeRequest::new`] writes.
    pub fn stack(&self) -> Result<Vec<BranchSpec>, aufs_union::branch::BranchPermError> {
        self.branches
            .iter()
            .map(|it| Ok(BranchSpec { path: it.path.0.clone(), perm: it.perm.parse::<BranchPerm>()? }))
            .collect()
    }
}

impl ServedFlags {
    /// Fills in the defaults: root's mounts are as open as those of kernel aufs, others' are not.
    fn new(flags: &GenericFlags, is_root: bool) -> Self {
        let source = flags.fsname.as_deref().unwrap_or(OsStr::new("aufs"));
        Self {
            source: source.to_string_lossy().into_owned(),
            read_only: flags.read_only.unwrap_or(false),
            no_suid: flags.no_suid.unwrap_or(!is_root),
            no_dev: flags.no_dev.unwrap_or(!is_root),
            no_exec: flags.no_exec.unwrap_or(false),
            no_atime: flags.no_atime.unwrap_or(false),
            no_dir_atime: flags.no_dir_atime.unwrap_or(false),
            allow_other: flags.allow_other || is_root,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_keep_their_bytes() {
        for (bytes, json) in [(&b"/a b"[..], "\"/a b\""), (b"/\xff", "[47,255]"), (b"/\n", "\"/\\n\"")] {
            let path = HostPath(OsStr::from_bytes(bytes).into());
            assert_eq!(serde_json::to_string(&path).unwrap(), json);
            assert_eq!(serde_json::from_str::<HostPath>(json).unwrap(), path);
        }
    }

    #[test]
    fn replies_are_one_line() {
        let error = ServeReply::Error { message: "a\nb".to_owned(), errno: Some(28), exit_code: 1 };
        let line = serde_json::to_string(&error).unwrap();
        assert_eq!(line, r#"{"error":{"message":"a\nb","errno":28,"exit_code":1}}"#);
        let ready = ServeReply::Ready { data: DataMode::Cached, pid: 7 };
        assert_eq!(serde_json::to_string(&ready).unwrap(), r#"{"ready":{"data":"cached","pid":7}}"#);
    }

    #[test]
    fn root_mounts_are_open_unless_told_otherwise() {
        let flags = |text: &str, is_root| {
            let parsed = crate::option::parse(text.as_ref(), crate::option::Dialect::Own).unwrap();
            ServedFlags::new(&parsed.options.flags, is_root)
        };
        for (text, is_root, no_suid, no_dev, allow_other) in [
            ("", true, false, false, true),
            ("nosuid,nodev", true, true, true, true),
            ("", false, true, true, false),
            ("allow_other,suid", false, false, true, true),
        ] {
            let found = flags(text, is_root);
            assert_eq!(
                (found.no_suid, found.no_dev, found.allow_other),
                (no_suid, no_dev, allow_other),
                "{text}"
            );
        }
    }
}
