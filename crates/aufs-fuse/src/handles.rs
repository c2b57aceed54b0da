//! Open files and the numbers the kernel calls them by.

use std::collections::HashMap;
use std::sync::Arc;

use aufs_union::{OpenFile, Union, UnionError};
use parking_lot::Mutex;

use crate::numbers::Numbered;

/// One open file.
#[derive(Debug)]
pub(crate) struct Handle {
    pub(crate) numbered: Arc<Numbered>,
    pub(crate) is_writer: bool,
    pub(crate) is_passthrough: bool,
    /// The file as the server has it open; in passthrough mode only once it is needed.
    open: Mutex<Option<Arc<OpenFile>>>,
}

impl Handle {
    pub(crate) fn new(
        numbered: Arc<Numbered>,
        is_writer: bool,
        is_passthrough: bool,
        open: Option<OpenFile>,
    ) -> Self {
        Self { numbered, is_writer, is_passthrough, open: Mutex::new(open.map(Arc::new)) }
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
        let file = Arc::new(union.open_file(&self.numbered.node)?);
        *open = Some(Arc::clone(&file));
        Ok(file)
    }
}

/// All open files.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    table: Mutex<(u64, HashMap<u64, Arc<Handle>>)>,
}

impl Handles {
    pub(crate) fn insert(&self, handle: Handle) -> u64 {
        let mut table = self.table.lock();
        table.0 += 1;
        let number = table.0;
        table.1.insert(number, Arc::new(handle));
        number
    }

    pub(crate) fn get(&self, number: u64) -> Option<Arc<Handle>> {
        self.table.lock().1.get(&number).map(Arc::clone)
    }

    pub(crate) fn remove(&self, number: u64) -> Option<Arc<Handle>> {
        self.table.lock().1.remove(&number)
    }
}
