//! Whether two runs are of machines alike: every recorded fact, but for those that differ in each run.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

use crate::error::{At as _, Result};
use crate::host::HostFacts;

/// Facts that say nothing about the machine, or are what a comparison is about. A name covers what is below it.
const VOLATILE: &[&str] =
    &["label", "started_at", "clock_ns", "steal_ms", "seed", "matrix", "git_rev", "backings.*.path"];

/// A fact in which two runs differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Its name, such as `backings.dir.options`.
    pub fact: String,
    /// What the first run says.
    pub base: String,
    /// What the second run says.
    pub head: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} | {}", self.fact, self.base, self.head)
    }
}

/// All of `differing`, one after the other.
pub fn told(differing: &[Difference]) -> String {
    differing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The facts in which `base` and `head` differ. A backing that only one run has does not count.
///
/// # Errors
///
/// Facts cannot be written as JSON.
pub fn differences(base: &HostFacts, head: &HostFacts) -> Result<Vec<Difference>> {
    let (base, head) = (facts(base)?, facts(head)?);
    let backing =
        |fact: &str| fact.strip_prefix("backings.").and_then(|it| it.split('.').next()).map(str::to_owned);
    let has = |all: &BTreeMap<String, String>, name: &str| {
        all.keys().any(|it| backing(it).as_deref() == Some(name))
    };
    let shared = |fact: &str| backing(fact).is_none_or(|name| has(&base, &name) && has(&head, &name));
    let mut names: Vec<&String> = base.keys().chain(head.keys()).collect();
    names.sort();
    names.dedup();
    let told = |all: &BTreeMap<String, String>, name: &String| {
        all.get(name).cloned().unwrap_or_else(|| "not recorded".to_owned())
    };
    let differing =
        names.into_iter().filter(|it| base.get(*it) != head.get(*it) && shared(it) && !is_volatile(it));
    let differences =
        differing.map(|it| Difference { fact: it.clone(), base: told(&base, it), head: told(&head, it) });
    Ok(differences.collect())
}

/// Facts by name; what is not known is left out.
fn facts(host: &HostFacts) -> Result<BTreeMap<String, String>> {
    let mut host = host.clone();
    // A run makes its tmpfs as large as its cells need, which says nothing about the machine.
    for backing in host.backings.iter_mut().filter(|it| it.name.starts_with("tmpfs")) {
        let words = backing.options.split(',').filter(|it| !it.starts_with("size="));
        backing.options = words.collect::<Vec<_>>().join(",");
    }
    let value = serde_json::to_value(host).map_err(std::io::Error::from).at("write", "facts")?;
    let mut facts = BTreeMap::new();
    flatten("", &value, &mut facts);
    Ok(facts)
}

fn flatten(name: &str, value: &Value, facts: &mut BTreeMap<String, String>) {
    let below = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Null => {}
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(&below(key), value, facts)),
        Value::Array(values) => {
            for (index, value) in values.iter().enumerate() {
                // Things with a name are compared by it, wherever they stand.
                let own = value.get("name").and_then(Value::as_str);
                flatten(&below(&own.map_or_else(|| index.to_string(), str::to_owned)), value, facts);
            }
        }
        Value::String(text) => drop(facts.insert(name.to_owned(), text.clone())),
        other => drop(facts.insert(name.to_owned(), other.to_string())),
    }
}

fn is_volatile(fact: &str) -> bool {
    let covers = |pattern: &&str| {
        let (mut words, mut parts) = (pattern.split('.'), fact.split('.'));
        words.all(|word| parts.next().is_some_and(|part| word == "*" || word == part))
    };
    VOLATILE.iter().any(covers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::BackingFacts;

    fn host() -> HostFacts {
        let mut host = HostFacts::read(1, "m").unwrap();
        let backing = |name: &str| BackingFacts {
            name: name.to_owned(),
            fs_type: "ext4".to_owned(),
            options: "relatime".to_owned(),
            path: "/scratch".into(),
            fs_hash: None,
        };
        host.backings = vec![backing("dir"), backing("loop:xfs"), backing("tmpfs")];
        host.peers = BTreeMap::from([("aufs".to_owned(), "aufs 0.1.0".to_owned())]);
        host
    }

    #[test]
    fn runs_of_one_machine_are_alike() {
        let (base, mut head) = (host(), host());
        head.label = "other".to_owned();
        head.seed = 2;
        head.started_at = "2027-01-01T00:00:00Z".to_owned();
        head.git_rev = Some("fedcba9876-dirty".to_owned());
        head.clock_ns += 1;
        head.steal_ms += 1;
        head.backings[0].path = "/elsewhere".into();
        head.backings[2].options += ",size=65700k";
        head.backings.reverse();
        head.backings.remove(1);
        assert_eq!(differences(&base, &head).unwrap(), []);
    }

    #[test]
    fn every_other_fact_counts() {
        type Change = fn(&mut HostFacts);
        let changes: [(&str, Change); 6] = [
            ("kernel", |it| it.kernel += "x"),
            ("cpus", |it| it.cpus += 1),
            ("governor", |it| it.governor = Some("odd".to_owned())),
            ("backings.dir.options", |it| it.backings[0].options += ",data=journal"),
            ("peers.aufs", |it| drop(it.peers.insert("aufs".to_owned(), "aufs 9".to_owned()))),
            ("peers.unionfs", |it| drop(it.peers.insert("unionfs".to_owned(), "3.6".to_owned()))),
        ];
        for (fact, change) in changes {
            let (mut base, mut head) = (host(), host());
            base.peers.remove("unionfs");
            head.peers.remove("unionfs");
            change(&mut head);
            let found = differences(&base, &head).unwrap();
            assert_eq!(found.iter().map(|it| it.fact.as_str()).collect::<Vec<_>>(), [fact]);
            assert_ne!(found[0].base, found[0].head);
        }
    }
}
