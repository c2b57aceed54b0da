//! The `aufs` command.

fn main() {}
