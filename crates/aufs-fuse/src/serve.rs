//! Takes each request to what answers it.

use std::sync::Arc;

use aufs_fusedev::reply::Responder;
use aufs_fusedev::request::{Operation, Request};
use aufs_fusedev::session::{Deferred, Handler};
use rustix::io::Errno;

use crate::shared::Shared;

/// The file system as the protocol sees it.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) shared: Arc<Shared>,
}

impl Handler for Served {
    fn is_closed(&self) -> bool {
        self.shared.is_closed()
    }

    fn defer(&self, job: Deferred) {
        let shared = Arc::clone(&self.shared);
        self.shared.run(true, move || job(&Self { shared }));
    }

    fn handle(&self, request: &Request<'_>, responder: Responder) {
        let (number, caller, it) = (request.nodeid, request.caller, responder);
        match &request.operation {
            // These wait for no change of the branches: it may wait for them.
            Operation::Forget { nlookup } => {
                self.shared.forget(number, *nlookup);
                return it.none();
            }
            Operation::BatchForget(nodes) => {
                for node in *nodes {
                    self.shared.forget(node.nodeid, node.nlookup);
                }
                return it.none();
            }
            Operation::IoCtl { args, data } => return self.control(number, args, data, caller, it),
            _ => (),
        }
        let _union = self.shared.enter();
        match &request.operation {
            Operation::Lookup { name } => self.lookup(number, name, it),
            Operation::GetAttr(_) => self.getattr(number, it),
            Operation::Statx(_) => self.statx(number, it),
            Operation::SetAttr(args) => self.setattr(number, args, caller, it),
            Operation::ReadLink => self.readlink(number, it),
            // The kernel reports EOPNOTSUPP, and never asks again.
            Operation::SetXattr { .. }
            | Operation::GetXattr { .. }
            | Operation::ListXattr(_)
            | Operation::RemoveXattr { .. }
                if self.shared.no_xattrs =>
            {
                it.error(Errno::NOSYS);
            }
            Operation::SetXattr { name, value, flags, kills_sgid } => {
                self.setxattr(number, name, value, *flags, *kills_sgid, it);
            }
            Operation::GetXattr { args, name } => self.getxattr(number, name, args.size, it),
            Operation::ListXattr(args) => self.listxattr(number, args.size, caller, it),
            Operation::RemoveXattr { name } => self.removexattr(number, name, it),

            Operation::Symlink { name, target } => self.symlink(number, name, target, caller, it),
            Operation::MkNod { args, name } => self.mknod(number, name, args, caller, it),
            Operation::MkDir { args, name } => self.mkdir(number, name, args, caller, it),
            Operation::Unlink { name } => self.unlink(number, name, it),
            Operation::RmDir { name } => self.rmdir(number, name, it),
            Operation::Rename { newdir, flags, name, newname } => {
                self.rename((number, name), (*newdir, newname), *flags, it);
            }
            Operation::Link { oldnodeid, newname } => self.link(*oldnodeid, number, newname, it),
            Operation::Create { args, name } => self.create(number, name, args, caller, it),
            Operation::TmpFile { args, .. } => self.tmpfile(number, args, caller, it),

            Operation::Open(args) => self.open(number, args, caller, it),
            Operation::Read(args) => self.read(number, args, it),
            Operation::Write { args, data } => self.write(number, args, data, caller, it),
            Operation::Release(args) => self.release(args.fh, it),
            Operation::FSync(args) => self.fsync(number, args, it),
            Operation::FAllocate(args) => self.fallocate(number, args, caller, it),
            Operation::LSeek(args) => self.lseek(number, args, it),

            Operation::OpenDir(_) => self.opendir(number, it),
            Operation::ReadDir(args) => self.readdir(number, args, false, it),
            Operation::ReadDirPlus(args) => self.readdir(number, args, true, it),
            Operation::ReleaseDir(_) | Operation::Destroy => it.empty(),
            Operation::FSyncDir(_) => self.fsyncdir(number, it),
            Operation::StatFs => self.statfs(it),

            // The kernel stops asking after this answer. FLUSH: nothing is buffered here.
            // ACCESS: the kernel judges by itself, as the mount has default_permissions.
            _ => it.error(Errno::NOSYS),
        }
    }
}
