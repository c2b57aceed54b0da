//! Reduces raw recordings of kernel aufs to `fixtures/golden`.
//!
//! `cargo run -p aufs-testkit --example import_golden -- RECORDINGS fixtures/golden`
//!
//! RECORDINGS holds a JSON file for each scenario, as the recording engine
//! wrote it. What no comparison looks at is left out: inode and device numbers
//! (kept as lists of paths that share one), block counts, sizes and link counts
//! of directories, kernel messages, `/proc/mounts` and sysfs texts, `statfs`,
//! aufs's bookkeeping entries and the links they add, attributes of whiteouts.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;

use aufs_testkit::dump::{BOOKKEEPING, PSEUDO_LINKS, reduce};
use aufs_testkit::scenario::{Scenario, Seen, Tree};
use serde_json::{Map, Value, json};

const NOT_COMPARED: [&str; 5] = ["sysfs", "proc_mounts", "readlink_fd", "maps_path", "statfs"];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().collect();
    let [_, from, to] = arguments.as_slice() else {
        return Err("usage: import_golden RECORDINGS TARGET".into());
    };
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let path = entry?.path();
        let raw: Value = serde_json::from_slice(&fs::read(&path)?)?;
        let reduced = import(&raw).map_err(|error| format!("{}: {error}", path.display()))?;
        let scenario: Scenario =
            serde_json::from_value(reduced).map_err(|error| format!("{}: {error}", path.display()))?;
        let target = Path::new(to).join(format!("{}.json", scenario.id));
        fs::write(target, lines_of(&serde_json::to_value(&scenario)?, 0) + "\n")?;
    }
    Ok(())
}

fn import(raw: &Value) -> Result<Value, Box<dyn Error>> {
    let setup = &raw["setup"];
    let mut branches = setup["branches"].clone();
    let mut exe_digest = None;
    for branch in branches.as_array_mut().into_iter().flatten() {
        let name = branch["name"].clone();
        for entry in branch["entries"].as_array_mut().into_iter().flatten() {
            if entry.as_object_mut().and_then(|it| it.remove("exe")).is_some() {
                entry["exe"] = json!(true);
                exe_digest = digest_after(raw, &name, &entry["path"]);
            }
        }
    }
    let mut runs = Vec::new();
    for run in raw["runs"].as_array().into_iter().flatten().filter(|run| run["engine_error"].is_null()) {
        runs.push(import_run(run, exe_digest.as_deref())?);
    }
    Ok(json!({
        "id": raw["id"],
        "title": raw["title"],
        "branches": branches,
        "branch_mounts": setup["branch_mounts"],
        "read_only": setup["mount_flags"].as_u64().unwrap_or(0) & 1 != 0,
        "runs": runs,
    }))
}

/// The digest that the recorded program had, to be replaced by `exe`.
fn digest_after(raw: &Value, branch: &Value, path: &Value) -> Option<String> {
    let after = &raw["runs"][0]["branches_after"][branch.as_str()?];
    let entry = after.as_array()?.iter().find(|it| it["path"] == *path)?;
    Some(entry["sha256"].as_str()?.to_owned())
}

fn import_run(run: &Value, exe_digest: Option<&str>) -> Result<Value, Box<dyn Error>> {
    let mut out = Map::new();
    for key in ["fstype", "options", "mount_err"] {
        out.insert(key.to_owned(), run[key].clone());
    }
    if let Some(ops) = run["ops"].as_array() {
        let steps = ops
            .iter()
            .filter(|op| !NOT_COMPARED.contains(&op["op"].as_str().unwrap_or_default()))
            .filter(|op| op["err"] != "SKIPPED");
        out.insert("ops".to_owned(), Value::Array(steps.map(import_step).collect::<Result<_, _>>()?));
    }
    if let Some(entries) = run["union_after"].as_array() {
        out.insert("union_after".to_owned(), serde_json::to_value(import_tree(entries, exe_digest)?)?);
    }
    let mut after = Map::new();
    for (name, entries) in run["branches_after"].as_object().into_iter().flatten() {
        let tree = import_tree(entries.as_array().map_or(&[], Vec::as_slice), exe_digest)?;
        after.insert(name.clone(), serde_json::to_value(tree)?);
    }
    out.insert("branches_after".to_owned(), Value::Object(after));
    Ok(Value::Object(out))
}

fn import_step(op: &Value) -> Result<Value, Box<dyn Error>> {
    let mut call = op["args"].as_object().cloned().unwrap_or_default();
    call.insert("op".to_owned(), op["op"].clone());
    let mut out = Map::from_iter([("do".to_owned(), Value::Object(call))]);
    for key in ["as", "err"] {
        if !op[key].is_null() {
            out.insert(key.to_owned(), op[key].clone());
        }
    }
    out.insert("ret".to_owned(), import_value(&op["ret"], op["args"]["path"] == ".")?);
    Ok(Value::Object(out))
}

fn import_value(ret: &Value, of_root: bool) -> Result<Value, Box<dyn Error>> {
    match ret {
        Value::Object(map) if map.contains_key("type") => {
            let mut seen = seen(ret)?;
            if of_root {
                seen.mtime = None;
            }
            Ok(serde_json::to_value(seen)?)
        }
        Value::Array(items) if items.first().is_some_and(|it| it.get("path").is_some()) => {
            Ok(serde_json::to_value(import_tree(items, None)?.entries)?)
        }
        // A raw directory listing: name, inode, kind.
        Value::Array(items) if items.first().is_some_and(Value::is_array) => {
            let mut names: Vec<Value> = items.iter().map(|it| json!([it[0], it[2]])).collect();
            names.sort_by_key(Value::to_string);
            Ok(names.into())
        }
        other => Ok(other.clone()),
    }
}

fn import_tree(entries: &[Value], exe_digest: Option<&str>) -> Result<Tree, Box<dyn Error>> {
    let mut tree = Tree::default();
    let mut inodes: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let inode_of = |entry: &Value| format!("{} {}", entry["dev"], entry["ino"]);
    let is_pseudo_link = |entry: &&Value| {
        let below = entry["path"].as_str().and_then(|it| it.strip_prefix(PSEUDO_LINKS));
        below.is_some_and(|it| it.starts_with('/'))
    };
    let pseudo_links: Vec<String> = entries.iter().filter(is_pseudo_link).map(inode_of).collect();
    for entry in entries {
        let mut seen = seen(entry)?;
        let inode = inode_of(entry);
        if let Some(links) = &mut seen.nlink {
            *links -= pseudo_links.iter().filter(|it| **it == inode).count() as u64;
        }
        if BOOKKEEPING.iter().any(|it| seen.path.starts_with(it)) {
            continue;
        }
        if exe_digest.is_some() && seen.sha256.as_deref() == exe_digest {
            seen.sha256 = Some("exe".to_owned());
            seen.size = None;
        }
        // An entry that could not be looked at has no inode to compare.
        if !reduce(&mut seen) && seen.error.is_none() && seen.kind.as_deref() != Some("dir") {
            inodes.entry(inode).or_default().push(seen.path.clone());
        }
        tree.entries.push(seen);
    }
    tree.same_inode = inodes.into_values().filter(|it| it.len() > 1).collect();
    tree.same_inode.iter_mut().for_each(|it| it.sort());
    tree.same_inode.sort();
    Ok(tree)
}

fn seen(entry: &Value) -> Result<Seen, Box<dyn Error>> {
    let mut seen: Seen = serde_json::from_value(entry.clone())?;
    if seen.kind.as_deref() == Some("dir") {
        seen.nlink = None;
    }
    if seen.content.is_some() {
        seen.sha256 = None; // The content itself is compared.
    }
    if let Some(xattrs) = &mut seen.xattrs {
        xattrs.retain(|name, _| !name.starts_with("trusted.overlay."));
    }
    seen.xattrs = seen.xattrs.filter(|it| !it.is_empty());
    Ok(seen)
}

/// JSON with a line for each entry and each operation, so that changes read well.
fn lines_of(value: &Value, depth: usize) -> String {
    let pad = "  ".repeat(depth + 1);
    let end = "  ".repeat(depth);
    match value {
        Value::Object(map) if depth < 5 && map.values().any(|it| it.is_array() || it.is_object()) => {
            let fields: Vec<String> = map
                .iter()
                .map(|(key, it)| format!("{pad}{}: {}", json!(key), lines_of(it, depth + 1)))
                .collect();
            format!("{{\n{}\n{end}}}", fields.join(",\n"))
        }
        Value::Array(items) if items.iter().any(Value::is_object) => {
            let items: Vec<String> = items
                .iter()
                .map(|it| if it.get("do").is_some() { it.to_string() } else { lines_of(it, depth + 1) })
                .map(|it| format!("{pad}{it}"))
                .collect();
            format!("[\n{}\n{end}]", items.join(",\n"))
        }
        other => other.to_string(),
    }
}
