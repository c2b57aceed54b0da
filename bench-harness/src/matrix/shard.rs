//! Which cells of a matrix one of several machines measures.
//!
//! A shard stands alone: all drivers of one parameter set stay together, since
//! ratios are paired within a block, and each shard has the yardsticks of its
//! backings.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::expand::{PlannedCell, order};
use crate::cell::Params;
use crate::model::is_yardstick;

/// One of `count` parts of a matrix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Shard {
    /// Which one, from 0.
    pub index: u32,
    /// How many there are.
    pub count: u32,
}

impl fmt::Display for Shard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.index, self.count)
    }
}

impl FromStr for Shard {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no shard; expected i/n such as 0/4, or auto");
        let (index, count) = text.split_once('/').ok_or_else(wrong)?;
        let number = |it: &str| it.parse::<u32>().map_err(|_| wrong());
        Self::new(number(index)?, number(count)?)
    }
}

impl Shard {
    /// Shard `index` of `count`.
    ///
    /// # Errors
    ///
    /// There is no such shard.
    pub fn new(index: u32, count: u32) -> Result<Self, String> {
        if index < count {
            return Ok(Self { index, count });
        }
        let last = count.saturating_sub(1);
        Err(format!(
            "there is no shard {index}/{count}: shards count from 0, so of {count} the last is {last}"
        ))
    }

    /// The shard that the scheduler of a cluster gives this process; `count` is told where it does not tell.
    ///
    /// A Kubernetes Indexed Job sets `JOB_COMPLETION_INDEX` only; a Slurm array sets all.
    ///
    /// # Errors
    ///
    /// The variable that is missing or wrong.
    pub fn from_environment(
        variable: impl Fn(&str) -> Option<String>,
        count: Option<u32>,
    ) -> Result<Self, String> {
        let read = |name: &str| -> Result<Option<u32>, String> {
            let Some(text) = variable(name) else { return Ok(None) };
            text.trim().parse().map(Some).map_err(|_| format!("{name} is {text:?}, which is no number"))
        };
        if let Some(index) = read("JOB_COMPLETION_INDEX")? {
            let count =
                count.ok_or("JOB_COMPLETION_INDEX says which shard, but not of how many; give --shards N")?;
            return Self::new(index, count);
        }
        let Some(id) = read("SLURM_ARRAY_TASK_ID")? else {
            return Err(
                "neither JOB_COMPLETION_INDEX nor SLURM_ARRAY_TASK_ID is set; give --shard i/n".to_owned()
            );
        };
        let min = read("SLURM_ARRAY_TASK_MIN")?.unwrap_or(0);
        let step = read("SLURM_ARRAY_TASK_STEP")?.unwrap_or(1).max(1);
        let count = count.map_or_else(|| read("SLURM_ARRAY_TASK_COUNT"), |it| Ok(Some(it)))?;
        let count = count.ok_or("SLURM_ARRAY_TASK_COUNT is not set; give --shards N")?;
        let index = id.checked_sub(min).ok_or_else(|| format!("task {id} is below the first, {min}"))?;
        Self::new(index / step, count)
    }

    /// The cells of this shard: parameter sets are dealt in an order drawn from `seed`.
    pub fn cells_of(self, cells: &[PlannedCell], seed: u64) -> Vec<PlannedCell> {
        let measured = |it: &&PlannedCell| !is_yardstick(&it.cell.params.model);
        let sets: BTreeSet<&Params> = cells.iter().filter(measured).map(|it| &it.cell.params).collect();
        let sets: Vec<&Params> = sets.into_iter().collect();
        let dealt = order(seed, 0, sets.len()).into_iter().zip((0..self.count).cycle());
        let own: BTreeSet<&Params> = dealt.filter(|it| it.1 == self.index).map(|it| sets[it.0]).collect();
        let backings: BTreeSet<&String> = own.iter().map(|it| &it.backing).collect();
        let is_own = |it: &&PlannedCell| {
            let params = &it.cell.params;
            own.contains(params) || is_yardstick(&params.model) && backings.contains(&params.backing)
        };
        cells.iter().filter(is_own).cloned().collect()
    }
}

/// The seed that shards agree on without talking to each other.
pub fn seed_of(config: &str) -> u64 {
    // 52 bits, so that every reader of JSON gets the same number.
    config.get(..13).and_then(|it| u64::from_str_radix(it, 16).ok()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;
    use crate::matrix::{Matrix, expand};

    fn cells() -> Vec<PlannedCell> {
        let text = r#"
            name = "m"
            budget = "10s"
            blocks_max = 2
            backing = ["dir", "tmpfs"]
            [[driver]]
            name = "plain"
            [[driver]]
            name = "overlayfs"
            options = ["default", "volatile"]
            [[group]]
            models = ["copy-up", "chmod"]
            sizes = ["4K", "64K"]
            found_at = [1, 8, 16]
            files = 2
        "#;
        let matrix = Matrix::parse(text, Path::new("m.toml")).unwrap();
        expand::cells(&matrix, &[], 60.0)
    }

    proptest! {
        #[test]
        fn shards_cover_all_once_and_split_no_parameter_set(count in 1u32..9, seed: u64) {
            let all = cells();
            let mut found: BTreeMap<&Params, u32> = BTreeMap::new();
            let parts: Vec<_> = (0..count).map(|it| Shard::new(it, count).unwrap().cells_of(&all, seed)).collect();
            let mut sizes = Vec::new();
            for part in &parts {
                let own: BTreeSet<&Params> = part.iter().map(|it| &it.cell.params).collect();
                sizes.push(own.iter().filter(|it| !is_yardstick(&it.model)).count());
                for params in own {
                    // Every driver of the set is there.
                    let of = |cells: &[PlannedCell]| cells.iter().filter(|it| it.cell.params == *params).count();
                    prop_assert_eq!(of(part), of(&all));
                    *found.entry(params).or_default() += 1;
                }
            }
            prop_assert!(sizes.iter().max().unwrap() - sizes.iter().min().unwrap() <= 1, "evenly: {:?}", sizes);
            for planned in &all {
                let n = found[&planned.cell.params];
                prop_assert!(n == 1 || is_yardstick(&planned.cell.params.model), "{} in {} shards", planned.cell, n);
            }
        }

        #[test]
        fn no_text_is_fatal(text in "[0-9/ia]{0,8}") {
            if let Ok(shard) = text.parse::<Shard>() {
                prop_assert!(shard.index < shard.count);
            }
        }
    }

    #[test]
    fn the_seed_follows_from_the_hash() {
        let hash = |last: char| format!("fffffffffffff{}{last}", "0".repeat(50));
        assert_eq!((seed_of(&hash('0')), seed_of(&hash('1'))), ((1 << 52) - 1, (1 << 52) - 1));
        assert_ne!(seed_of(&"1".repeat(64)), seed_of(&"2".repeat(64)));
    }

    #[test]
    fn schedulers_are_understood() {
        let shard = |pairs: &[(&str, &str)], count| {
            let pairs: BTreeMap<String, String> = pairs.iter().map(|it| (it.0.into(), it.1.into())).collect();
            Shard::from_environment(|name| pairs.get(name).cloned(), count).map(|it| it.to_string())
        };
        let slurm =
            [("SLURM_ARRAY_TASK_ID", "7"), ("SLURM_ARRAY_TASK_MIN", "5"), ("SLURM_ARRAY_TASK_COUNT", "3")];
        let stepped = [slurm[0], ("SLURM_ARRAY_TASK_MIN", "1"), slurm[2], ("SLURM_ARRAY_TASK_STEP", "3")];
        for (pairs, count, expected) in [
            (&[("JOB_COMPLETION_INDEX", "2")][..], Some(4), Ok("2/4")),
            (&[("JOB_COMPLETION_INDEX", "2")], None, Err("give --shards N")),
            (&[("JOB_COMPLETION_INDEX", "x")], Some(4), Err("JOB_COMPLETION_INDEX is \"x\"")),
            (&[("JOB_COMPLETION_INDEX", "4")], Some(4), Err("the last is 3")),
            (&slurm, None, Ok("2/3")),
            (&stepped, None, Ok("2/3")),
            (&slurm[..2], None, Err("SLURM_ARRAY_TASK_COUNT is not set")),
            (&[], Some(2), Err("neither JOB_COMPLETION_INDEX nor SLURM_ARRAY_TASK_ID")),
        ] {
            match (shard(pairs, count), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, expected) => panic!("{found:?} is not {expected:?}"),
            }
        }
        for (text, expected) in [("3/3", "the last is 2"), ("1-3", "is no shard"), ("0/0", "no shard 0/0")] {
            assert!(text.parse::<Shard>().unwrap_err().contains(expected), "{text}");
        }
    }
}
