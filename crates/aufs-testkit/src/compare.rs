//! Says where a run differs from its recording.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use crate::op::Op;
use crate::replay::Replayed;
use crate::scenario::{Run, Seen, Tree};

/// Every difference, a line each; none if the run is as recorded.
pub fn differences(wanted: &Run, got: &Replayed) -> Vec<String> {
    if wanted.mount_err.is_some() != got.mount_err.is_some() {
        let name = |error: &Option<String>| error.clone().unwrap_or_else(|| "ok".to_owned());
        return vec![format!("mount: wanted {}, got {}", name(&wanted.mount_err), name(&got.mount_err))];
    }
    let mut found = Vec::new();
    for (n, (step, result)) in wanted.ops.iter().flatten().zip(&got.ops).enumerate() {
        let (w, g) = (&step.result, result);
        // A command has no errno to tell; that it refuses is what counts, as for the mount.
        let is_refusal = matches!(step.op, Op::Remount { .. }) && w.err.is_some() && g.err.is_some();
        if w.err != g.err && !is_refusal || ordered(&w.ret) != ordered(&g.ret) {
            let op = serde_json::to_string(&step.op).unwrap_or_default();
            let caller = step.caller.map(|(uid, gid)| format!(" as {uid}:{gid}")).unwrap_or_default();
            let told = |it: &crate::scenario::StepResult| {
                it.err.clone().unwrap_or_else(|| ordered(&it.ret).to_string())
            };
            found.push(format!("op {n} {op}{caller}: wanted {}, got {}", told(w), told(g)));
        }
    }
    if let (Some(wanted), Some(got)) = (&wanted.union_after, &got.union_after) {
        compare_trees("union", wanted, got, &mut found);
    }
    for (branch, wanted) in &wanted.branches_after {
        match got.branches_after.get(branch) {
            Some(got) => compare_trees(&format!("branch {branch}"), wanted, got, &mut found),
            None => found.push(format!("branch {branch}: not dumped")),
        }
    }
    found
}

/// Lists of names have no order.
fn ordered(value: &Value) -> Value {
    match value {
        Value::Array(items) if items.iter().all(Value::is_string) => {
            let mut names: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            names.sort_unstable();
            Value::from(names)
        }
        other => other.clone(),
    }
}

/// Adds the differences of two trees to `found`, each line beginning with `place`.
pub fn compare_trees(place: &str, wanted: &Tree, got: &Tree, found: &mut Vec<String>) {
    let by_path = |tree: &Tree| -> BTreeMap<String, Seen> {
        tree.entries.iter().map(|it| (it.path.clone(), it.clone())).collect()
    };
    let (w, g) = (by_path(wanted), by_path(got));
    for path in w.keys().chain(g.keys()).collect::<BTreeSet<_>>() {
        match (w.get(path), g.get(path)) {
            (Some(w), Some(g)) if w != g => found.push(format!("{place} {path}: {}", fields(w, g))),
            (Some(_), None) => found.push(format!("{place} {path}: missing")),
            (None, Some(g)) => {
                let kind = g.kind.as_deref().or(g.error.as_deref()).unwrap_or("?");
                found.push(format!("{place} {path}: not wanted ({kind})"));
            }
            _ => {}
        }
    }
    if wanted.same_inode != got.same_inode {
        found.push(format!("{place}: same inode wanted {:?}, got {:?}", wanted.same_inode, got.same_inode));
    }
}

fn fields(wanted: &Seen, got: &Seen) -> String {
    let as_map = |seen: &Seen| match serde_json::to_value(seen) {
        Ok(Value::Object(map)) => map,
        _ => serde_json::Map::new(),
    };
    let (w, g) = (as_map(wanted), as_map(got));
    let keys: BTreeSet<&String> = w.keys().chain(g.keys()).filter(|key| w.get(*key) != g.get(*key)).collect();
    let told = |value: Option<&Value>| value.map_or_else(|| "none".to_owned(), Value::to_string);
    let lines: Vec<String> = keys
        .iter()
        .map(|key| format!("{key} wanted {}, got {}", told(w.get(*key)), told(g.get(*key))))
        .collect();
    lines.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(paths: &[(&str, &str)]) -> Tree {
        let seen = |(path, content): &(&str, &str)| Seen {
            path: (*path).to_owned(),
            kind: Some("file".to_owned()),
            content: Some((*content).to_owned()),
            ..Seen::default()
        };
        Tree { entries: paths.iter().map(seen).collect(), same_inode: Vec::new() }
    }

    #[test]
    fn each_difference_of_two_trees_is_named() {
        let mut found = Vec::new();
        compare_trees(
            "union",
            &tree(&[("a", "1"), ("b", "2"), ("d", "x")]),
            &tree(&[("a", "1"), ("b", "3"), ("c", "")]),
            &mut found,
        );
        assert_eq!(
            found,
            ["union b: content wanted \"2\", got \"3\"", "union c: not wanted (file)", "union d: missing"]
        );
    }

    #[test]
    fn names_are_compared_without_order() {
        assert_eq!(ordered(&serde_json::json!(["b", "a"])), serde_json::json!(["a", "b"]));
        assert_eq!(ordered(&serde_json::json!([2, 1])), serde_json::json!([2, 1]));
    }
}
