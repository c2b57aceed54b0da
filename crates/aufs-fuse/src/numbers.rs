//! Node numbers: what the kernel calls a node of the union.
//!
//! A number stands for one node, from the first time the kernel is told of it
//! until the kernel has forgotten it, and is never used again. A regular file
//! gets a second, new number when its bytes move to the writable branch while
//! the kernel still reads the old ones through the first: see [`crate::opens`].
//!
//! The table has many parts, each with its own lock. All about one node lies
//! in one part, which its numbers name in their lowest bits. The present number
//! of a node is its [`Node::server_tag`], changed under the lock of its part.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use aufs_union::Node;
use parking_lot::Mutex;

use crate::opens::Opens;

/// A node under one number.
#[derive(Debug, Clone)]
pub(crate) struct Numbered {
    pub(crate) number: u64,
    pub(crate) node: Arc<Node>,
    /// Its open files; none while nobody has opened it.
    opens: Option<Arc<Opens>>,
    /// Whether it was long when the kernel was last told of it; files of lower branches keep their length.
    is_long: bool,
}

impl Numbered {
    /// Whether attributes may change without the kernel asking the server.
    pub(crate) fn has_writers(&self) -> bool {
        self.opens.as_ref().is_some_and(|it| it.has_writers())
    }

    /// Whether a copy of it takes long.
    pub(crate) fn is_long(&self) -> bool {
        self.is_long
    }
}

/// All numbers the kernel knows.
#[derive(Debug)]
pub(crate) struct Numbers {
    parts: Vec<Mutex<Part>>,
}

/// Parts of the table; a power of two, so that numbers can name theirs.
const PARTS: usize = 64;
const PART_BITS: u32 = PARTS.trailing_zeros();

#[derive(Debug, Default)]
struct Part {
    by_number: HashMap<u64, Known>,
    last_sequence: u64,
}

#[derive(Debug)]
struct Known {
    node: Arc<Node>,
    /// How often the kernel was told of the number; it takes each back with FORGET.
    lookups: u32,
    /// Whether the file was made or copied by this server without extended attributes, and got none since.
    lacks_capabilities: bool,
    is_long: bool,
    opens: Option<Arc<Opens>>,
}

impl Known {
    fn new(node: &Arc<Node>) -> Self {
        Self { node: Arc::clone(node), lookups: 0, lacks_capabilities: false, is_long: false, opens: None }
    }

    fn numbered(&self, number: u64) -> Numbered {
        let (node, opens) = (Arc::clone(&self.node), self.opens.clone());
        Numbered { number, node, opens, is_long: self.is_long }
    }
}

impl Numbers {
    pub(crate) fn new(root: &Arc<Node>) -> Self {
        let numbers = Self { parts: (0..PARTS).map(|_| Mutex::default()).collect() };
        {
            // The root's number is fixed by the protocol and is its node id too.
            let mut part = numbers.part(Node::ROOT_ID).lock();
            let known = Known { lookups: 1, ..Known::new(root) };
            part.by_number.insert(Node::ROOT_ID, known);
            root.server_tag().store(Node::ROOT_ID, Ordering::Relaxed);
        }
        numbers
    }

    /// Returns the part for a number or the id of a node.
    fn part(&self, word: u64) -> &Mutex<Part> {
        &self.parts[word as usize & (PARTS - 1)]
    }

    /// Returns the node the kernel calls `number`.
    pub(crate) fn get(&self, number: u64) -> Option<Numbered> {
        self.part(number).lock().by_number.get(&number).map(|it| it.numbered(number))
    }

    /// Returns the open files of `number`, of which there may be none yet.
    pub(crate) fn opens(&self, number: u64) -> Option<Arc<Opens>> {
        let mut part = self.part(number).lock();
        part.by_number.get_mut(&number).map(|it| Arc::clone(it.opens.get_or_insert_default()))
    }

    /// Returns the present number of `node` and counts that the kernel is told of it.
    ///
    /// `is_long` says whether a copy of it would take long.
    pub(crate) fn tell(&self, node: &Arc<Node>, is_long: bool) -> Numbered {
        let mut part = self.part(node.id()).lock();
        let number = match node.server_tag().load(Ordering::Relaxed) {
            0 => part.assign(node),
            number => number,
        };
        let known = part.by_number.entry(number).or_insert_with(|| Known::new(node));
        known.lookups = known.lookups.saturating_add(1);
        known.is_long = is_long;
        known.numbered(number)
    }

    /// As [`Numbers::tell`], for a file that was made just now.
    ///
    /// The kernel asks for `security.capability` before the first write to each file; of these the answer is known.
    pub(crate) fn tell_of_new(&self, node: &Arc<Node>) -> Numbered {
        let numbered = self.tell(node, false);
        self.lacks_capabilities_now(numbered.number);
        numbered
    }

    /// Notes that the file was looked at and has no extended attributes.
    pub(crate) fn lacks_capabilities_now(&self, number: u64) {
        if let Some(known) = self.part(number).lock().by_number.get_mut(&number) {
            known.lacks_capabilities = true;
        }
    }

    /// Whether the file surely has no `security.capability`.
    pub(crate) fn lacks_capabilities(&self, number: u64) -> bool {
        self.part(number).lock().by_number.get(&number).is_some_and(|it| it.lacks_capabilities)
    }

    /// Notes that the file is about to get an extended attribute.
    pub(crate) fn may_get_capabilities(&self, number: u64) {
        if let Some(known) = self.part(number).lock().by_number.get_mut(&number) {
            known.lacks_capabilities = false;
        }
    }

    /// Takes back `count` times that the kernel was told of `number`; true when it knows it no more.
    pub(crate) fn forget(&self, number: u64, count: u64) -> bool {
        let dropped = {
            let mut part = self.part(number).lock();
            let Some(known) = part.by_number.get_mut(&number) else { return false };
            known.lookups = known.lookups.saturating_sub(u32::try_from(count).unwrap_or(u32::MAX));
            if known.lookups != 0 || number == Node::ROOT_ID {
                return false;
            }
            let tag = known.node.server_tag();
            if tag.load(Ordering::Relaxed) == number {
                tag.store(0, Ordering::Relaxed);
            }
            let dropped = part.by_number.remove(&number);
            part.shrink();
            dropped
        };
        dropped.is_some() // Closing what a node holds is not for the time of the lock.
    }

    /// Whether `numbered` still is the present number of its node.
    pub(crate) fn is_current(&self, numbered: &Numbered) -> bool {
        let current = numbered.node.server_tag().load(Ordering::Relaxed);
        current == numbered.number || current == 0
    }

    /// Gives the node a new number, which the kernel learns with its next LOOKUP, unless it got one already.
    pub(crate) fn renumber(&self, numbered: &Numbered) {
        let mut part = self.part(numbered.number).lock();
        if numbered.node.server_tag().load(Ordering::Relaxed) == numbered.number {
            part.assign(&numbered.node);
        }
    }

    /// Returns the nodes the kernel knows that are `wanted`, each by all of its numbers.
    pub(crate) fn select(&self, wanted: impl Fn(&Arc<Node>) -> bool) -> Vec<(u64, Arc<Node>)> {
        let mut selected = Vec::new();
        for part in &self.parts {
            let part = part.lock();
            let known = part.by_number.iter().filter(|(_, known)| wanted(&known.node));
            selected.extend(known.map(|(number, known)| (*number, Arc::clone(&known.node))));
        }
        selected
    }

    /// Whether the kernel knows `number`.
    pub(crate) fn knows(&self, number: u64) -> bool {
        self.part(number).lock().by_number.contains_key(&number)
    }

    /// Returns how many numbers the kernel knows.
    pub(crate) fn count(&self) -> usize {
        self.parts.iter().map(|it| it.lock().by_number.len()).sum()
    }
}

impl Part {
    fn assign(&mut self, node: &Node) -> u64 {
        self.last_sequence += 1;
        let number = self.last_sequence << PART_BITS | node.id() & (PARTS as u64 - 1);
        node.server_tag().store(number, Ordering::Relaxed);
        number
    }

    /// Gives memory back when most of what was known is forgotten.
    fn shrink(&mut self) {
        const KEPT: usize = 64;
        if KEPT < self.by_number.capacity() && self.by_number.len() < self.by_number.capacity() / 8 {
            self.by_number.shrink_to(KEPT.max(2 * self.by_number.len()));
        }
    }
}
