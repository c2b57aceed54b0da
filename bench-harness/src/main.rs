//! Measures storage drivers against each other and reports.

fn main() {}
