//! Open files and the numbers the kernel calls them by.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use aufs_union::{Node, OpenFile, Union, UnionError};
use parking_lot::Mutex;

use crate::opens::{Execution, Opens};

/// One open file.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) node: Arc<Node>,
    pub(crate) opens: Arc<Opens>,
    pub(crate) is_writer: bool,
    pub(crate) is_passthrough: bool,
    /// Whether it was opened for writing; in passthrough mode as `is_writer`.
    pub(crate) may_write: bool,
    /// Held while a program runs from it.
    _execution: Option<Execution>,
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
        let node = Arc::clone(node);
        Self { node, opens, is_writer, is_passthrough, may_write: is_writer, _execution: None, open }
    }

    /// Notes that it was opened to be executed.
    pub(crate) fn for_execution(self, executes: bool) -> Self {
        let execution = executes.then(|| Execution::new(&self.opens));
        Self { _execution: execution, ..self }
    }

    /// Notes that it was opened for writing, though the server writes.
    pub(crate) fn for_writing(self, may_write: bool) -> Self {
        Self { may_write: self.may_write || may_write, ..self }
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
#[derive(Debug)]
pub(crate) struct Handles {
    parts: [Mutex<HashMap<u64, Arc<Handle>>>; PARTS],
    last: AtomicU64,
    /// Created files that may be kept open only to save opening them again.
    spare_max: usize,
}

impl Handles {
    /// Files that were created are kept open for later requests while there are fewer than `spare_max` handles.
    pub(crate) fn new(spare_max: usize) -> Self {
        Self { parts: Default::default(), last: AtomicU64::new(0), spare_max }
    }

    /// Whether one more file may be kept open without need.
    pub(crate) fn may_spare(&self, number: u64) -> bool {
        // One part stands for all: numbers go round.
        self.part(number).lock().len() < self.spare_max.div_ceil(PARTS)
    }

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

    /// Returns all open files.
    pub(crate) fn all(&self) -> Vec<Arc<Handle>> {
        let mut all = Vec::new();
        for part in &self.parts {
            all.extend(part.lock().values().map(Arc::clone));
        }
        all
    }

    /// Returns how many files are open.
    pub(crate) fn count(&self) -> usize {
        self.parts.iter().map(|it| it.lock().len()).sum()
    }

    fn part(&self, number: u64) -> &Mutex<HashMap<u64, Arc<Handle>>> {
        &self.parts[number as usize % PARTS]
    }
}
