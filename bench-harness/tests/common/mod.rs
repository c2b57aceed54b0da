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
