//! What the tests that need root share.

/// Whether this test can run; says why not, and fails where root was required.
pub fn is_root() -> bool {
    if nix::unistd::geteuid().is_root() {
        return true;
    }
    let required = std::env::var("REQUIRE").unwrap_or_default();
    assert!(!required.split(',').any(|it| it == "root"), "REQUIRE names root, and this is not root");
    println!("skipped: needs root");
    false
}

/// Whether `name` is on PATH; says so when it is not.
#[allow(dead_code)] // Reason: not every test that shares this file asks for programs.
pub fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).any(|it| it.join(name).is_file());
    if !found {
        println!("skipped: needs {name}");
    }
    found
}
