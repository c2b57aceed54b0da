//! Cost of what every lookup and listing does, without a kernel in between.

#![expect(clippy::unwrap_used, reason = "a bench that cannot prepare its tree cannot run")]

use std::ffi::OsStr;
use std::fs;
use std::hint::black_box;

use aufs_union::branch::{BranchIndex, BranchPerm, BranchSpec};
use aufs_union::names::BranchName;
use aufs_union::resolve::{Held, HeldEntry, resolve};
use aufs_union::{Union, UnionOptions};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

/// The verdict against the depth at which the name is found.
fn resolve_by_depth(c: &mut Criterion) {
    let mut group = c.benchmark_group("resolve");
    for depth in [1_usize, 8, 32, 127] {
        let mut stack = vec![Held::default(); depth - 1];
        stack.push(Held { entry: HeldEntry::File, hides_below: false });
        group.bench_with_input(BenchmarkId::from_parameter(depth), &stack, |b, stack| {
            b.iter(|| resolve((0..).map(BranchIndex).zip(black_box(stack).iter().copied())));
        });
    }
    group.finish();
}

fn classify(c: &mut Criterion) {
    let mut group = c.benchmark_group("name");
    for name in ["libcrypto.so.3", ".wh.libcrypto.so.3", ".wh..wh..opq"] {
        group.bench_with_input(BenchmarkId::from_parameter(name), &name, |b, name| {
            b.iter(|| BranchName::of(black_box(OsStr::new(name))));
        });
    }
    group.finish();
}

/// The first and each later listing of 1000 names on several branches.
fn list(c: &mut Criterion) {
    const NAMES: usize = 1000;
    let mut group = c.benchmark_group("list");
    group.throughput(Throughput::Elements(NAMES as u64));
    for branch_count in [1_usize, 8, 32] {
        let base = tempfile::tempdir().unwrap();
        let mut stack = Vec::new();
        for branch in 0..branch_count {
            let path = base.path().join(branch.to_string());
            fs::create_dir(&path).unwrap();
            for name in (0..NAMES).filter(|it| it % branch_count == branch) {
                fs::write(path.join(format!("name{name}")), "").unwrap();
            }
            stack.push(BranchSpec { path, perm: BranchPerm::ReadOnly { whiteouts: true } });
        }
        let options = UnionOptions { stack, ..UnionOptions::default() };
        group.bench_function(BenchmarkId::new("first", branch_count), |b| {
            b.iter_batched_ref(
                || Union::open(&options).unwrap(),
                |union| union.read_directory(union.root(), 0, usize::MAX).unwrap().len(),
                criterion::BatchSize::PerIteration,
            );
        });
        let union = Union::open(&options).unwrap();
        group.bench_function(BenchmarkId::new("again", branch_count), |b| {
            b.iter(|| union.read_directory(union.root(), 0, usize::MAX).unwrap().len());
        });
    }
    group.finish();
}

/// The first lookup of each of 1000 names of a directory, and of as many that are missing, by the number of branches.
fn lookup_by_depth(c: &mut Criterion) {
    const NAMES: usize = 1000;
    let mut group = c.benchmark_group("lookup");
    group.throughput(Throughput::Elements(NAMES as u64));
    for branch_count in [1_usize, 8, 127] {
        let base = tempfile::tempdir().unwrap();
        let mut stack = Vec::new();
        for branch in 0..branch_count {
            let path = base.path().join(branch.to_string());
            fs::create_dir_all(path.join("d")).unwrap();
            for name in (0..NAMES).filter(|it| it % branch_count == branch) {
                fs::write(path.join(format!("d/name{name}")), "").unwrap();
            }
            stack.push(BranchSpec { path, perm: BranchPerm::ReadOnly { whiteouts: true } });
        }
        let options = UnionOptions { stack, ..UnionOptions::default() };
        for (case, prefix) in [("hit", "name"), ("miss", "none")] {
            let names: Vec<_> = (0..NAMES).map(|it| format!("{prefix}{it}")).collect();
            group.bench_function(BenchmarkId::new(case, branch_count), |b| {
                b.iter_batched_ref(
                    || {
                        let union = Union::open(&options).unwrap();
                        let dir = union.lookup(union.root(), OsStr::new("d")).unwrap().unwrap().node;
                        (union, dir)
                    },
                    |(union, dir)| {
                        let found = names.iter().filter_map(|it| union.lookup(dir, OsStr::new(it)).unwrap());
                        found.collect::<Vec<_>>()
                    },
                    criterion::BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

criterion_group!(benches, resolve_by_depth, classify, list, lookup_by_depth);
criterion_main!(benches);
