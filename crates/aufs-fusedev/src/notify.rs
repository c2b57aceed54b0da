//! Notifications: what the kernel keeps and should look at again.

use std::ffi::OsStr;
use std::io::IoSlice;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;

use rustix::io::{self, Errno};
use zerocopy::IntoBytes;

use crate::abi::flags::{InitFlags, NOTIFY_EXPIRE_ONLY};
use crate::abi::opcode::NotifyCode;
use crate::abi::replies::{
    NotifyDeleteOut, NotifyInvalEntryOut, NotifyInvalInodeOut, NotifyPruneOut, OutHeader,
};
use crate::device::Channel;
use crate::init::Agreed;

/// The first minor version with epochs: Linux 6.16.
const MINOR_WITH_EPOCH: u32 = 44;
/// The first minor version that can be told to forget nodes: Linux 6.18.
const MINOR_WITH_PRUNE: u32 = 45;

/// Tells the kernel what is outdated.
///
/// Must not be used while answering a request that holds locks of the node or
/// name concerned: the kernel waits for those.
#[derive(Debug, Clone)]
pub struct Notifier {
    channel: Arc<Channel>,
    agreed: Agreed,
}

impl Notifier {
    pub(crate) fn new(channel: &Arc<Channel>, agreed: Agreed) -> Self {
        Self { channel: Arc::clone(channel), agreed }
    }

    /// The attributes of `nodeid` are outdated; its pages are right.
    ///
    /// # Errors
    ///
    /// `ENOENT`: the kernel does not know the node, so nothing is outdated.
    pub fn attributes(&self, nodeid: u64) -> io::Result<()> {
        self.send(NotifyCode::InvalInode, &[NotifyInvalInodeOut { ino: nodeid, off: -1, len: 0 }.as_bytes()])
    }

    /// The attributes of `nodeid` and all its pages are outdated.
    ///
    /// # Errors
    ///
    /// As [`Notifier::attributes`].
    pub fn content(&self, nodeid: u64) -> io::Result<()> {
        self.send(NotifyCode::InvalInode, &[NotifyInvalInodeOut { ino: nodeid, off: 0, len: 0 }.as_bytes()])
    }

    /// `name` in `parent` is outdated: it is looked up again at its next use.
    ///
    /// Where the kernel can, the name merely expires and whoever uses it goes on using it.
    ///
    /// # Errors
    ///
    /// As [`Notifier::attributes`].
    pub fn name(&self, parent: u64, name: &OsStr) -> io::Result<()> {
        self.inval_entry(parent, name, if self.can_expire() { NOTIFY_EXPIRE_ONLY } else { 0 })
    }

    /// `name` in `parent` is dropped, whoever uses it, and with it what is mounted there.
    ///
    /// # Errors
    ///
    /// As [`Notifier::attributes`].
    pub fn drop_name(&self, parent: u64, name: &OsStr) -> io::Result<()> {
        self.inval_entry(parent, name, 0)
    }

    fn inval_entry(&self, parent: u64, name: &OsStr, flags: u32) -> io::Result<()> {
        let namelen = u32::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        let body = NotifyInvalEntryOut { parent, namelen, flags };
        self.send(NotifyCode::InvalEntry, &[body.as_bytes(), name.as_bytes(), b"\0"])
    }

    /// `name` in `parent`, which was `child`, is gone, and whoever watches it should hear.
    ///
    /// # Errors
    ///
    /// As [`Notifier::attributes`].
    pub fn removed(&self, parent: u64, child: u64, name: &OsStr) -> io::Result<()> {
        let namelen = u32::try_from(name.len()).map_err(|_| Errno::NAMETOOLONG)?;
        let body = NotifyDeleteOut { parent, child, namelen, padding: 0 };
        self.send(NotifyCode::Delete, &[body.as_bytes(), name.as_bytes(), b"\0"])
    }

    /// All names are outdated.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` before Linux 6.16.
    pub fn all_names(&self) -> io::Result<()> {
        if self.agreed.minor < MINOR_WITH_EPOCH {
            return Err(Errno::OPNOTSUPP);
        }
        self.send(NotifyCode::IncEpoch, &[])
    }

    /// Whether [`Notifier::name`] leaves a name to who uses it.
    pub fn can_expire(&self) -> bool {
        self.agreed.flags.contains(InitFlags::HAS_EXPIRE_ONLY)
    }

    /// Whether [`Notifier::unused`] is to be had.
    pub fn can_prune(&self) -> bool {
        MINOR_WITH_PRUNE <= self.agreed.minor
    }

    /// What nobody uses of these nodes is to be forgotten; directories come after what they contain.
    ///
    /// # Errors
    ///
    /// `EOPNOTSUPP` before Linux 6.18.
    pub fn unused(&self, nodeids: &[u64]) -> io::Result<()> {
        const NODEIDS_MAX: usize = 256;
        if !self.can_prune() {
            return Err(Errno::OPNOTSUPP);
        }
        for some in nodeids.chunks(NODEIDS_MAX) {
            let count = u32::try_from(some.len()).map_err(|_| Errno::INVAL)?;
            let body = NotifyPruneOut { count, padding: 0, spare: 0 };
            self.send(NotifyCode::Prune, &[body.as_bytes(), some.as_bytes()])?;
        }
        Ok(())
    }

    fn send(&self, code: NotifyCode, parts: &[&[u8]]) -> io::Result<()> {
        let len_bytes = size_of::<OutHeader>() + parts.iter().map(|it| it.len()).sum::<usize>();
        let len = u32::try_from(len_bytes).map_err(|_| Errno::INVAL)?;
        let header = OutHeader { len, error: code as i32, unique: 0 };
        let mut slices = vec![IoSlice::new(header.as_bytes())];
        slices.extend(parts.iter().map(|it| IoSlice::new(it)));
        rustix::io::writev(&*self.channel, &slices).map(drop)
    }
}
