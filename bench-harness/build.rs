//! Tells the program which compiler built it; results carry it.

use std::process::Command;

fn main() {
    let compiler = std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let output = Command::new(compiler).arg("--version").output();
    let version = output.map(|it| String::from_utf8_lossy(&it.stdout).trim().to_owned()).unwrap_or_default();
    println!("cargo::rustc-env=BUILT_BY={version}");
    println!("cargo::rerun-if-changed=build.rs");
}
