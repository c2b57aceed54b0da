//! Writes options back as the text that parses to them.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};

use super::live::word_of;
use super::split::escape;
use super::{MountOptions, Udba};

impl MountOptions {
    /// Writes the text that [`parse`](super::parse) reads back as these options.
    ///
    /// A context that holds a double quote cannot be written, and cannot be parsed either.
    pub fn to_text(&self) -> OsString {
        let mut words: Vec<Vec<u8>> = Vec::new();
        if !self.branches.is_empty() {
            let entries: Vec<Vec<u8>> = self
                .branches
                .iter()
                .map(|it| {
                    [&escape(it.path.as_os_str().as_bytes()), b"=" as &[u8], it.perm.to_string().as_bytes()]
                        .concat()
                })
                .collect();
            words.push([b"br:" as &[u8], &entries.join(&b':')].concat());
        }
        if let Some(path) = &self.workdir {
            words.push([b"workdir=" as &[u8], &escape(path.as_os_str().as_bytes())].concat());
        }
        if let Some(data) = self.data {
            words.push(format!("data={}", data.as_str()).into_bytes());
        }
        if let Some(transport) = self.transport {
            words.push(format!("transport={}", transport.as_str()).into_bytes());
        }
        match self.udba {
            Some(Udba::None) => words.push(b"udba=none".to_vec()),
            Some(Udba::Reval) => words.push(b"udba=reval".to_vec()),
            None => {}
        }
        let flags = &self.flags;
        for (set, yes, no) in [
            (flags.read_only, "ro", "rw"),
            (flags.no_suid, "nosuid", "suid"),
            (flags.no_dev, "nodev", "dev"),
            (flags.no_exec, "noexec", "exec"),
            (flags.no_atime, "noatime", "atime"),
            (flags.no_dir_atime, "nodiratime", "diratime"),
            (self.sync.then_some(true), "sync", ""),
            (self.volatile.then_some(true), "volatile", ""),
            (self.no_xattrs.then_some(true), "noxattr", ""),
            (self.always_opaque.then_some(true), "diropq=a", ""),
            (self.remount.then_some(true), "remount", ""),
            (flags.allow_other.then_some(true), "allow_other", ""),
        ] {
            if let Some(set) = set {
                words.push(if set { yes } else { no }.into());
            }
        }
        if let Some(name) = &flags.fsname {
            words.push([b"fsname=" as &[u8], &escape(name.as_bytes())].concat());
        }
        if let Some(label) = &flags.context {
            words.push(context_word(label));
        }
        words.extend(self.changes.iter().map(|it| word_of(it, |path| escape(path.as_os_str().as_bytes()))));
        OsString::from_vec(words.join(&b','))
    }
}

/// Writes `context="LABEL"`, as kernel and parser take it.
pub(crate) fn context_word(label: &OsStr) -> Vec<u8> {
    [b"context=\"" as &[u8], label.as_bytes(), b"\""].concat()
}
