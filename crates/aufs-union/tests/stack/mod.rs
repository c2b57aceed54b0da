//! Stacks of plain directories, for all tests of the union.

#![allow(dead_code, reason = "no test uses all of it")]

use std::fs;
use std::path::Path;

use aufs_union::branch::{BranchPerm, BranchSpec};
use aufs_union::{Union, UnionOptions};

/// Makes the writable branch `b0` and `lower_count` branches below it, `b1` on, in `base`.
pub fn options(base: &Path, lower_count: usize) -> UnionOptions {
    let spec = |index: usize| {
        let path = base.join(format!("b{index}"));
        fs::create_dir_all(&path).unwrap();
        let perm = if index == 0 { BranchPerm::ReadWrite } else { BranchPerm::ReadOnly { whiteouts: true } };
        BranchSpec { path, perm }
    };
    let stack = (0..=lower_count).map(spec).collect();
    UnionOptions { stack, ..UnionOptions::default() }
}

/// Opens the union of [`options`].
pub fn open(base: &Path, lower_count: usize) -> Union {
    Union::open(&options(base, lower_count)).unwrap()
}
