//! Which groups a caller is in; a request names one only.

use std::fs;

/// Whether the thread `pid` has `gid` among its supplementary groups; unknown, and so no, for 0.
pub(crate) fn has_group(pid: u32, gid: u32) -> bool {
    // By then the thread may have ended, or changed its groups; the bit it wanted to keep is lost.
    pid != 0 && fs::read_to_string(format!("/proc/{pid}/status")).is_ok_and(|status| lists(&status, gid))
}

/// Reads the list of groups from proc_pid_status(5).
fn lists(status: &str, gid: u32) -> bool {
    let groups = status.lines().find_map(|line| line.strip_prefix("Groups:")).unwrap_or_default();
    groups.split_ascii_whitespace().any(|it| it.parse() == Ok(gid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_whole_numbers_of_the_right_line_count() {
        let status = "Name:\tsh\nGid:\t7\t7\t7\t7\nGroups:\t4 24 1000 \nNStgid:\t9\n";
        for (gid, expected) in [(4, true), (1000, true), (100, false), (7, false), (9, false)] {
            assert_eq!(lists(status, gid), expected, "{gid}");
        }
        assert!(!lists("Groups:\n", 0));
        assert!(!has_group(0, 0), "of another PID namespace");
        assert!(!has_group(u32::MAX, 0), "there is no such thread");
    }
}
