//! What this process may do on the host.

use std::fs;

/// Whether ids mean the same here as in the initial user namespace.
///
/// Takes the text of `/proc/self/uid_map`, one line `inside outside count`.
pub fn maps_all_ids(uid_map: &str) -> bool {
    let words: Vec<&str> = uid_map.split_whitespace().collect();
    words == ["0", "0", "4294967295"]
}

/// Whether this process is root in the initial user namespace.
pub fn is_host_root() -> bool {
    rustix::process::geteuid().is_root()
        && fs::read_to_string("/proc/self/uid_map").is_ok_and(|text| maps_all_ids(&text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_identity_map_is_the_initial_namespace() {
        for (text, expected) in [
            ("         0          0 4294967295\n", true),
            ("         0       1000          1\n", false),
            ("         0     100000      65536\n", false),
            ("", false),
        ] {
            assert_eq!(maps_all_ids(text), expected, "{text:?}");
        }
    }
}
