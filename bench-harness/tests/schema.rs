//! The JSON schemas that the bench prints, against what it reads and writes.

#![allow(clippy::unwrap_used, clippy::panic)] // Reason: the functions that tests share are no tests to clippy.

use std::fs;
use std::process::Command;

use serde_json::Value;

fn bench(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_aufs-bench")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn schema(of: &str) -> Value {
    serde_json::from_str(&bench(&["schema", of])).unwrap()
}

/// Why `value` is not what `schema` says; a field that the schema does not name is one reason.
fn difference(value: &Value, schema: &Value, root: &Value, at: &str) -> Option<String> {
    if let Some(name) = schema["$ref"].as_str() {
        let target = root.pointer(name.trim_start_matches('#')).unwrap();
        return difference(value, &joined(target, schema), root, at);
    }
    for key in ["oneOf", "anyOf"] {
        if let Some(choices) = schema[key].as_array() {
            let mut all = choices.iter().map(|it| difference(value, it, root, at));
            let why: Vec<String> = choices.iter().filter_map(|it| difference(value, it, root, at)).collect();
            return if all.any(|it| it.is_none()) { None } else { Some(format!("{at}: none of {why:?}")) };
        }
    }
    if schema.get("const").is_some_and(|it| it != value) {
        return Some(format!("{at}: {value} is not {}", schema["const"]));
    }
    if schema["enum"].as_array().is_some_and(|it| !it.contains(value)) {
        return Some(format!("{at}: {value} is none of {}", schema["enum"]));
    }
    let is = |kind: &str| match kind {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        "number" => value.is_number(),
        "integer" => value.is_u64() || value.is_i64(),
        other => panic!("unknown type {other}"),
    };
    let fits = match &schema["type"] {
        Value::String(kind) => is(kind),
        Value::Array(kinds) => kinds.iter().any(|it| is(it.as_str().unwrap())),
        _ => true,
    };
    if !fits {
        return Some(format!("{at}: {value} is no {}", schema["type"]));
    }
    let members = value.as_array().into_iter().flatten().enumerate();
    let of_members = members.map(|(index, it)| {
        let own = schema["prefixItems"].get(index).unwrap_or(&schema["items"]);
        difference(it, own, root, &format!("{at}.{index}"))
    });
    let missing = schema["required"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|it| value.get(it.as_str().unwrap()).is_none());
    let fields = value.as_object().into_iter().flatten().map(|(key, it)| {
        let at = format!("{at}.{key}");
        match schema["properties"].get(key).or(schema.get("additionalProperties")) {
            Some(own) if own != false => difference(it, own, root, &at),
            _ => Some(format!("{at}: unknown field")),
        }
    });
    let missing = missing.map(|it| format!("{at}: {it} is missing"));
    of_members.flatten().next().or(missing).or_else(|| fields.flatten().next())
}

/// `target` with the properties that `own`, which refers to it, has besides.
fn joined(target: &Value, own: &Value) -> Value {
    let mut joined = target.clone();
    for (key, property) in own["properties"].as_object().into_iter().flatten() {
        joined["properties"][key] = property.clone();
    }
    let required = own["required"].as_array().into_iter().flatten().cloned();
    if let Some(all) = joined["required"].as_array_mut() {
        all.extend(required);
    }
    joined
}

fn assert_valid(value: &Value, schema: &Value, what: &str) {
    assert_eq!(difference(value, schema, schema, what), None);
}

#[test]
fn recorded_lines_of_both_versions_are_valid_and_wrong_ones_are_not() {
    let schema = schema("samples");
    for version in [1, 2] {
        let name = format!("tests/golden/samples-{version}.jsonl");
        let mut kinds = std::collections::BTreeSet::new();
        for line in fs::read_to_string(&name).unwrap().lines() {
            let record: Value = serde_json::from_str(line).unwrap();
            kinds.insert(record["type"].as_str().unwrap().to_owned());
            assert_valid(&record, &schema, &name);
        }
        assert_eq!(kinds.len(), 6, "all but an error: {kinds:?}");
    }
    for wrong in [
        r#"{"type":"sample","cell":0,"block":0,"file":0}"#,
        r#"{"type":"sample","cell":0,"block":0,"file":0,"ns":"1"}"#,
        r#"{"type":"sample","cell":0,"block":0,"file":0,"ns":1,"mood":1}"#,
        r#"{"type":"simple"}"#,
        r#"{"type":"end","ending":"bored","layers_unchanged":true}"#,
    ] {
        let record = serde_json::from_str(wrong).unwrap();
        assert!(difference(&record, &schema, &schema, "line").is_some(), "{wrong}");
    }
}

#[test]
fn summaries_of_recorded_runs_are_valid() {
    let schema = schema("summary");
    for version in [1, 2] {
        let dir = tempfile::tempdir().unwrap();
        fs::copy(format!("tests/golden/samples-{version}.jsonl"), dir.path().join("samples.jsonl")).unwrap();
        bench(&["report", dir.path().to_str().unwrap()]);
        let summary = serde_json::from_slice(&fs::read(dir.path().join("summary.json")).unwrap()).unwrap();
        assert_valid(&summary, &schema, "summary.json");
    }
}

#[test]
fn printed_matrices_are_valid_and_mean_the_same_again() {
    let schema = schema("matrix");
    let dir = tempfile::tempdir().unwrap();
    for name in ["quick", "full", "peers"] {
        let printed = bench(&["run", "--matrix", name, "--print-config", "--set", "sessions=3"]);
        let matrix: toml::Table = printed.parse().unwrap();
        assert_valid(&serde_json::to_value(&matrix).unwrap(), &schema, name);
        let path = dir.path().join(format!("{name}.toml"));
        fs::write(&path, &printed).unwrap();
        let again = bench(&["run", "--matrix", path.to_str().unwrap(), "--print-config"]);
        assert_eq!(again, printed, "{name}");
    }
}
