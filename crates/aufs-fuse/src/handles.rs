//! Open files and the numbers the kernel calls them by.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aufs_union::{Node, OpenFile, Union, UnionError};
use parking_lot::Mutex;

use crate::opens::Opens;

/// One open file.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) node: Arc<Node>,
    pub(crate) opens: Arc<Opens>,
    pub(crate) is_writer: bool,
    pub(crate) is_passthrough: bool,
    /// The file as the server has it open; in passthrough mode only once it is needed.
    open: Mutex<Option<Arc<OpenFile>>>,
}

impl Handle {
    pub(crate) fn new(
        node: &Arc<Node>,
        opens: Arc<Opens>,
        is_writer: bool,
        is_passthrough: bool,
        open: Option<OpenFile>,
    ) -> Self {
        let open = Mutex::new(open.map(Arc::new));
        Self { node: Arc::clone(node), opens, is_writer, is_passthrough, open }
    }

    /// Returns the file, opening it now if need be.
    ///
    /// # Errors
    ///
    /// As [`Union::open_file`].
    pub(crate) fn file(&self, union: &Union) -> Result<Arc<OpenFile>, UnionError> {
        let mut open = self.open.lock();
        if let Some(file) = &*open {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(union.open_file(&self.node)?);
        *open = Some(Arc::clone(&file));
        Ok(file)
    }

    /// Returns the file when the server has it open already.
    pub(crate) fn opened(&self) -> Option<Arc<OpenFile>> {
        self.open.lock().clone()
    }
}

/// Parts of the table, each with its own lock.
const PARTS: usize = 16;

/// All open files.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    parts: [Mutex<HashMap<u64, Arc<Handle>>>; PARTS],
    last: AtomicU64,
}

impl Handles {
    /// Returns the number of a new handle; 0 is none, and stands for a file that was never opened here.
    pub(crate) fn insert(&self, handle: Handle) -> u64 {
        let number = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        self.part(number).lock().insert(number, Arc::new(handle));
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Handle>> {
        self.part(number).lock().get(&number).map(Arc::clone)
    }

    pub(crate) fn remove(&self, number: u64) -> Option<Arc<Handle>> {
        self.part(number).lock().remove(&number)
    }

    /// Returns how many files are open.
    pub(crate) fn count(&self) -> usize {
        self.parts.iter().map(|it| it.lock().len()).sum()
    }

    fn part(&self, number: u64) -> &Mutex<HashMap<u64, Arc<Handle>>> {
        &self.parts[number as usize % PARTS]
    }
}
