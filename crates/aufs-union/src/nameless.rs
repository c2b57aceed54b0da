//! Files without a name, for `O_TMPFILE`.

use std::fs::File;
use std::os::fd::AsFd;
use std::sync::Arc;

use aufs_host::draft::nameless_file;
use aufs_host::entry::Entry;
use rustix::fs;
use rustix::io::Errno;

use crate::attr::Creator;
use crate::create::give_owner;
use crate::error::{During, Outcome, UnionError, UnionErrorKind};
use crate::lookup::Found;
use crate::node::Node;
use crate::spot::Spot;
use crate::union::Union;

impl Union {
    /// Creates a regular file that `dir` would hold, but without a name, and opens it for reading and writing.
    ///
    /// It goes with its last user, unless [`Union::link`] gives it a name.
    ///
    /// # Errors
    ///
    /// - `EOPNOTSUPP`: the file system of the writable branch has no such files.
    /// - `EROFS`: no writable branch at or above the directory.
    /// - else what the writable branch reports.
    pub fn create_nameless(
        &self,
        dir: &Arc<Node>,
        mode: u32,
        creator: Creator,
    ) -> Result<(Found, File), UnionError> {
        self.create_without_name(dir, mode & 0o7777, creator).during_on("create a file in", dir)
    }

    fn create_without_name(&self, dir: &Arc<Node>, mode: u32, creator: Creator) -> Outcome<(Found, File)> {
        let target = self.writable()?.index;
        self.ensure_dir_up(dir)?;
        let (parent, mode, group) = {
            let mut state = dir.lock_dir()?;
            if state.gone {
                return Err(UnionErrorKind::NotFound);
            }
            if state.branches.first().is_some_and(|top| *top < target) {
                return Err(UnionErrorKind::NoWritableBranch);
            }
            let parent = self.dir_handle(dir, target)?;
            let mode = self.effective_mode(&mut state, &parent, mode, creator)?;
            let group = self.group_of_new(&mut state, &parent, creator)?;
            (parent, mode, group)
        };
        let file = self.with_room(|| nameless_file(&parent, mode))?.ok_or(Errno::OPNOTSUPP)?;
        if !self.is_ours(creator) {
            give_owner(Entry::Open(file.as_fd()), creator.uid, group, mode)?;
        }
        let stat = fs::fstat(&file)?;
        let held = self.with_room(|| rustix::io::fcntl_dupfd_cloexec(&file, 0))?;
        let spot = Spot { branch: target, names: Vec::new(), held: Some(Arc::new(held)) };
        let node = self.new_node(&stat, spot);
        let attr = self.attr_of(&node, &stat);
        Ok((Found { node, attr }, file))
    }
}
