//! What the tests that need root share.

#[allow(dead_code)] // Reason: not every test that shares this file has a place.
pub mod place;

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

/// Whether our union can be mounted; says why not, and fails where FUSE was required.
#[allow(dead_code)] // Reason: each test binary compiles this module and uses a part of it.
pub fn has_fuse() -> bool {
    let beside = std::path::Path::new(env!("CARGO_BIN_EXE_aufs-bench")).with_file_name("aufs");
    let has_aufs = std::env::var_os("AUFS_BIN").is_some() || beside.exists();
    if has_aufs && std::path::Path::new("/dev/fuse").exists() {
        return true;
    }
    let required = std::env::var("REQUIRE").unwrap_or_default();
    assert!(
        !required.split(',').any(|it| it == "fuse"),
        "REQUIRE names fuse, and there is no FUSE or no aufs"
    );
    println!("skipped: needs /dev/fuse and an aufs command");
    false
}
