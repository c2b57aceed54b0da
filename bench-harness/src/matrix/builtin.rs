//! The matrices that come with the program.

/// Name and text, in the order shown to users.
const ALL: &[(&str, &str)] = &[
    ("claims", include_str!("../../matrices/claims.toml")),
    ("default", include_str!("../../matrices/default.toml")),
    ("full", include_str!("../../matrices/full.toml")),
    ("gate", include_str!("../../matrices/gate.toml")),
    ("operations", include_str!("../../matrices/operations.toml")),
    ("peers", include_str!("../../matrices/peers.toml")),
    ("quick", include_str!("../../matrices/quick.toml")),
    ("ratios", include_str!("../../matrices/ratios.toml")),
    ("transports", include_str!("../../matrices/transports.toml")),
    ("workloads", include_str!("../../matrices/workloads.toml")),
];

/// The text of the matrix called `name`.
pub fn text(name: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// All names.
pub fn names() -> Vec<&'static str> {
    ALL.iter().map(|(name, _)| *name).collect()
}
