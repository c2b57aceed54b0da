//! Checks that crates of the workspace depend on each other only as the architecture allows.
//!
//! Reads `cargo metadata`, prints each forbidden edge, and exits 1 when there is one.
//! Dev-dependencies may point anywhere, since they build no product.

mod rules;

use std::process::{Command, ExitCode};

use anyhow::{Context, bail};

fn main() -> anyhow::Result<ExitCode> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["metadata", "--format-version", "1", "--no-deps"])
        .output()
        .context("start cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    let metadata = serde_json::from_slice(&output.stdout).context("read the answer of cargo metadata")?;

    let breaches = rules::breaches(&metadata);
    for breach in &breaches {
        println!("{breach}");
    }
    if breaches.is_empty() {
        println!("arrows: {} crates, every edge allowed", metadata.packages.len());
        Ok(ExitCode::SUCCESS)
    } else {
        Ok(ExitCode::FAILURE)
    }
}
