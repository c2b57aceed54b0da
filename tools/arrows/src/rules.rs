//! Which crate may depend on which, and a judge of what `cargo metadata` says.

use std::fmt;

use serde::Deserialize;

/// Every crate of the workspace, with the crates it may build on.
const ALLOWED: &[(&str, &[&str])] = &[
    ("aufs-host", &[]),
    ("aufs-detect", &["aufs-host"]),
    ("aufs-union", &["aufs-host"]),
    ("aufs-fusedev", &["aufs-host"]),
    ("aufs-fuse", &["aufs-union", "aufs-fusedev"]),
    ("aufs-mount", &["aufs-host", "aufs-detect", "aufs-union"]),
    ("aufs-storage", &["aufs-host", "aufs-detect", "aufs-union", "aufs-mount"]),
    (
        "aufs-cli",
        &[
            "aufs-host",
            "aufs-detect",
            "aufs-union",
            "aufs-fusedev",
            "aufs-fuse",
            "aufs-mount",
            "aufs-storage",
        ],
    ),
    ("aufs-testkit", &["aufs-union"]),
    ("bench-harness", &["aufs-host", "aufs-detect", "aufs-mount"]),
    ("arrows", &[]),
    ("suites", &[]),
    ("figures", &["aufs-mount", "aufs-storage", "aufs-testkit"]),
];

/// The part of `cargo metadata --no-deps` that the rules read.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    /// The members of the workspace.
    pub packages: Vec<Package>,
}

/// One member of the workspace.
#[derive(Debug, Deserialize)]
pub struct Package {
    name: String,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    /// `dev` or `build`; nothing for an ordinary dependency.
    kind: Option<String>,
}

/// One way in which the workspace breaks the rules.
#[derive(Debug, PartialEq, Eq)]
pub enum Breach {
    /// A crate that the table does not know.
    UnknownCrate(String),
    /// A dependency that the table does not allow.
    Edge {
        /// The crate whose manifest is wrong.
        from: String,
        /// The crate it must not use.
        to: String,
    },
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownCrate(name) => {
                write!(f, "forbidden: crate {name} has no rule; add it to tools/arrows/src/rules.rs")
            }
            Self::Edge { from, to } => write!(f, "forbidden: {from} -> {to}"),
        }
    }
}

/// Returns every breach, in the order in which cargo lists the crates.
pub fn breaches(metadata: &Metadata) -> Vec<Breach> {
    let is_member = |name: &str| metadata.packages.iter().any(|it| it.name == name);
    let mut found = Vec::new();
    for package in &metadata.packages {
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == package.name) else {
            found.push(Breach::UnknownCrate(package.name.clone()));
            continue;
        };
        for dependency in &package.dependencies {
            let is_dev = dependency.kind.as_deref() == Some("dev");
            if is_dev || !is_member(&dependency.name) || allowed.contains(&dependency.name.as_str()) {
                continue;
            }
            found.push(Breach::Edge { from: package.name.clone(), to: dependency.name.clone() });
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A workspace of `members`, in which `from` has one dependency of `kind` on `to`.
    fn workspace(members: &[&str], from: &str, to: &str, kind: Option<&str>) -> Metadata {
        let packages = members
            .iter()
            .map(|name| {
                let dependency = Dependency { name: to.to_owned(), kind: kind.map(str::to_owned) };
                let dependencies = if *name == from { vec![dependency] } else { Vec::new() };
                Package { name: (*name).to_owned(), dependencies }
            })
            .collect();
        Metadata { packages }
    }

    #[test]
    fn only_listed_edges_are_allowed() {
        for (from, to, kind, allowed) in [
            ("aufs-union", "aufs-host", None, true),
            ("aufs-host", "aufs-union", None, false),
            ("aufs-detect", "aufs-union", None, false),
            ("aufs-fuse", "aufs-host", None, false),
            ("aufs-fuse", "aufs-host", Some("build"), false),
            ("aufs-mount", "aufs-fuse", None, false),
            ("bench-harness", "aufs-union", None, false),
            ("aufs-cli", "aufs-fuse", None, true),
            ("aufs-cli", "aufs-testkit", None, false),
            ("aufs-union", "aufs-testkit", Some("dev"), true),
            ("aufs-union", "serde", None, true),
        ] {
            let members: Vec<_> = ALLOWED.iter().map(|(name, _)| *name).collect();
            let found = breaches(&workspace(&members, from, to, kind));
            let expected =
                if allowed { vec![] } else { vec![Breach::Edge { from: from.into(), to: to.into() }] };
            assert_eq!(found, expected, "{from} -> {to} {kind:?}");
        }
    }

    #[test]
    fn a_crate_without_rule_is_a_breach() {
        let found = breaches(&workspace(&["aufs-host", "aufs-new"], "aufs-host", "serde", None));
        assert_eq!(found, [Breach::UnknownCrate("aufs-new".into())]);
    }

    #[test]
    fn the_table_has_no_cycle() {
        // A crate may only use crates that come before it, which rules a cycle out.
        for (at, (name, allowed)) in ALLOWED.iter().enumerate() {
            for to in *allowed {
                assert!(ALLOWED[..at].iter().any(|(earlier, _)| earlier == to), "{name} -> {to}");
            }
        }
    }

    #[test]
    fn metadata_of_cargo_is_understood() {
        let text = r#"{"packages": [{"name": "aufs-host", "version": "0.1.0", "dependencies": [
            {"name": "nix", "kind": null, "req": "^0.31"}, {"name": "tempfile", "kind": "dev"}]}]}"#;
        let metadata: Metadata = serde_json::from_str(text).unwrap();
        assert_eq!(metadata.packages[0].dependencies[1].kind.as_deref(), Some("dev"));
        assert_eq!(breaches(&metadata), []);
    }
}
