//! A map under many locks, for what all operations share but few use.
//!
//! Most unions hold nothing in such a map, and most operations ask it about
//! something it does not hold; while it is empty, that takes no lock at all.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

const SHARD_COUNT: usize = 16;

/// See the module.
#[derive(Debug)]
pub(crate) struct Shards<K, V> {
    hasher: RandomState,
    len: AtomicUsize,
    shards: [Mutex<HashMap<K, V>>; SHARD_COUNT],
}

impl<K, V> Default for Shards<K, V> {
    fn default() -> Self {
        Self {
            hasher: RandomState::new(),
            len: AtomicUsize::new(0),
            shards: std::array::from_fn(|_| Mutex::default()),
        }
    }
}

impl<K: Eq + Hash, V> Shards<K, V> {
    /// Runs `act` on the value of `key`, if there is one.
    pub(crate) fn with<T>(&self, key: &K, act: impl FnOnce(&V) -> T) -> Option<T> {
        if self.is_empty() {
            return None;
        }
        self.shard(key).lock().get(key).map(act)
    }

    /// Lets `act` change the value of `key`, make one, or take it away.
    pub(crate) fn change<T>(&self, key: K, act: impl FnOnce(&mut Option<V>) -> T) -> T {
        let mut shard = self.shard(&key).lock();
        let mut value = shard.remove(&key);
        let was_there = value.is_some();
        let result = act(&mut value);
        match (was_there, value) {
            (true, None) => {
                self.len.fetch_sub(1, Ordering::Release);
            }
            (false, None) => (),
            (_, Some(value)) => {
                // Counted before it can be found, so that nobody takes the map for empty meanwhile.
                self.len.fetch_add(usize::from(!was_there), Ordering::Release);
                shard.insert(key, value);
            }
        }
        result
    }

    /// Returns what `keep` makes of the values, those left out for which it returns none.
    pub(crate) fn collect<T>(&self, mut keep: impl FnMut(&V) -> Option<T>) -> Vec<T> {
        let mut kept = Vec::new();
        if !self.is_empty() {
            for shard in &self.shards {
                kept.extend(shard.lock().values().filter_map(&mut keep));
            }
        }
        kept
    }

    /// Drops the values that `is_kept` refuses.
    pub(crate) fn retain(&self, is_kept: impl Fn(&K, &V) -> bool) {
        for shard in &self.shards {
            let mut shard = shard.lock();
            let before = shard.len();
            shard.retain(|key, it| is_kept(key, it));
            self.len.fetch_sub(before - shard.len(), Ordering::Release);
        }
    }

    pub(crate) fn insert(&self, key: K, value: V) {
        let mut shard = self.shard(&key).lock();
        // Counted before it can be found, so that nobody takes the map for empty meanwhile.
        self.len.fetch_add(1, Ordering::Release);
        if shard.insert(key, value).is_some() {
            self.len.fetch_sub(1, Ordering::Release);
        }
    }

    pub(crate) fn remove(&self, key: &K) {
        if !self.is_empty() && self.shard(key).lock().remove(key).is_some() {
            self.len.fetch_sub(1, Ordering::Release);
        }
    }

    /// As [`Shards::insert`], and drops what is `stale` from time to time, so that the map stays in bounds.
    pub(crate) fn insert_and_sweep(&self, key: K, value: V, is_stale: impl Fn(&V) -> bool) {
        {
            let mut shard = self.shard(&key).lock();
            if shard.len().is_power_of_two() {
                let before = shard.len();
                shard.retain(|_, it| !is_stale(it));
                self.len.fetch_sub(before - shard.len(), Ordering::Release);
            }
        }
        self.insert(key, value);
    }

    fn is_empty(&self) -> bool {
        self.len.load(Ordering::Acquire) == 0
    }

    fn shard(&self, key: &K) -> &Mutex<HashMap<K, V>> {
        &self.shards[self.hasher.hash_one(key) as usize % SHARD_COUNT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_until_they_are_removed_or_swept() {
        let map = Shards::default();
        assert_eq!(map.with(&1, |it| *it), None);
        for key in 0..100 {
            map.insert(key, key % 2);
            map.insert(key, key % 2);
        }
        assert_eq!(map.len.load(Ordering::Acquire), 100);
        assert_eq!(map.with(&7, |it| *it), Some(1));
        map.remove(&7);
        assert_eq!(map.with(&7, |it| *it), None);
        for (key, expected) in [(7, 1), (7, 2), (8, 1)] {
            let value = map.change(key, |it| *it.insert(it.map_or(1, |count| count + 1)));
            assert_eq!(value, expected, "{key}");
        }
        map.change(7, |it| *it = None);
        map.change(7, |it| *it = None);
        assert_eq!(map.len.load(Ordering::Acquire), 99);
        assert_eq!(map.collect(|it| Some(*it)).len(), 99);
        for key in 100..1000 {
            map.insert_and_sweep(key, 1, |it| *it == 0);
        }
        assert_eq!((0..100).filter(|key| map.with(key, |it| *it) == Some(0)).count(), 0);
        for key in 0..1000 {
            map.remove(&key);
        }
        assert!(map.is_empty());
    }
}
