//! Node numbers: what the kernel calls a node of the union.
//!
//! A node's number is its inode number where that is free. A regular file gets
//! a second, new number when its bytes move to the writable branch while the
//! kernel still reads the old ones through the first: see [`crate::passthrough`].
//! The FUSE library sends one number both as node number and as `st_ino` in a
//! reply to LOOKUP; so attributes that come with any other number are not to
//! be cached, and the kernel asks for them with GETATTR, where the two differ.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use aufs_union::Node;
use parking_lot::Mutex;

use crate::passthrough::Passing;

/// A node under one number.
#[derive(Debug)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) node: Arc<Node>,
    /// Its open files, as the kernel's passthrough rule needs to know them.
    pub(crate) passing: Mutex<Passing>,
    /// Opens for writing that bypass the server.
    pub(crate) writers: AtomicU32,
}

impl Numbered {
    fn new(number: u64, node: &Arc<Node>) -> Arc<Self> {
        Arc::new(Self {
            number,
            node: Arc::clone(node),
            passing: Mutex::default(),
            writers: AtomicU32::new(0),
        })
    }

    /// Whether attributes may change without the kernel asking the server.
    pub(crate) fn has_writers(&self) -> bool {
        self.writers.load(Ordering::Relaxed) != 0
    }

    /// Whether the number is also what programs see as `st_ino`.
    pub(crate) fn is_plain(&self) -> bool {
        self.number == self.node.ino() || self.number == Node::ROOT_ID
    }
}

/// All numbers the kernel knows.
#[derive(Debug)]
pub(crate) struct Numbers {
    table: Mutex<Table>,
}

#[derive(Debug)]
struct Table {
    by_number: HashMap<u64, Known>,
    current: HashMap<u64, u64>,
    next_spare: u64,
}

#[derive(Debug)]
struct Known {
    numbered: Arc<Numbered>,
    /// How often the kernel was told of the number; it takes each back with FORGET.
    lookups: u64,
}

/// Numbers from here on are no inode numbers.
const FIRST_SPARE: u64 = 1 << 63;

impl Numbers {
    pub(crate) fn new(root: &Arc<Node>) -> Self {
        let numbered = Numbered::new(Node::ROOT_ID, root);
        let by_number = HashMap::from([(Node::ROOT_ID, Known { numbered, lookups: 1 })]);
        let current = HashMap::from([(root.id(), Node::ROOT_ID)]);
        Self { table: Mutex::new(Table { by_number, current, next_spare: FIRST_SPARE }) }
    }

    /// Returns the node the kernel calls `number`.
    pub(crate) fn get(&self, number: u64) -> Option<Arc<Numbered>> {
        self.table.lock().by_number.get(&number).map(|it| Arc::clone(&it.numbered))
    }

    /// Returns the present number of a node, if the kernel knows it.
    pub(crate) fn number_of(&self, node_id: u64) -> Option<u64> {
        self.table.lock().current.get(&node_id).copied()
    }

    /// Returns the present number of `node` and counts that the kernel is told of it.
    pub(crate) fn tell(&self, node: &Arc<Node>) -> Arc<Numbered> {
        let mut table = self.table.lock();
        let number = match table.current.get(&node.id()) {
            Some(number) => *number,
            None => table.assign(node),
        };
        let known = table
            .by_number
            .entry(number)
            .or_insert_with(|| Known { numbered: Numbered::new(number, node), lookups: 0 });
        known.lookups += 1;
        Arc::clone(&known.numbered)
    }

    /// Takes back `count` times that the kernel was told of `number`.
    pub(crate) fn forget(&self, number: u64, count: u64) {
        let dropped = {
            let mut table = self.table.lock();
            let Some(known) = table.by_number.get_mut(&number) else { return };
            known.lookups = known.lookups.saturating_sub(count);
            if known.lookups != 0 || number == Node::ROOT_ID {
                return;
            }
            let node_id = known.numbered.node.id();
            if table.current.get(&node_id) == Some(&number) {
                table.current.remove(&node_id);
            }
            table.by_number.remove(&number)
        };
        drop(dropped); // Closing what a node holds is not for the time of the lock.
    }

    /// Whether `numbered` still is the present number of its node.
    pub(crate) fn is_current(&self, numbered: &Numbered) -> bool {
        self.table.lock().current.get(&numbered.node.id()).is_none_or(|it| *it == numbered.number)
    }

    /// Gives the node a new number, which the kernel learns with its next LOOKUP.
    pub(crate) fn renumber(&self, numbered: &Numbered) {
        let mut table = self.table.lock();
        let number = table.spare();
        table.current.insert(numbered.node.id(), number);
    }
}

impl Table {
    fn assign(&mut self, node: &Arc<Node>) -> u64 {
        let wanted = node.ino();
        let is_free =
            (Node::ROOT_ID + 1..FIRST_SPARE).contains(&wanted) && !self.by_number.contains_key(&wanted);
        let number = if is_free { wanted } else { self.spare() };
        self.current.insert(node.id(), number);
        number
    }

    fn spare(&mut self) -> u64 {
        let number = self.next_spare;
        self.next_spare += 1;
        number
    }
}
