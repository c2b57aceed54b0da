//! What the kernel's overlayfs takes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aufs_host::mount_probe::{Trial, try_mount};
use aufs_host::private_child::{Namespaces, Step, TrialError};
use serde::{Deserialize, Serialize};

use crate::fact::{Answer, Fact, NO_SCRATCH, explain};

const PARAMETERS: &str = "/sys/module/overlay/parameters";

/// An option on trial.
#[derive(Debug)]
struct OptionTrial {
    /// Its name in the report.
    name: &'static str,
    /// What is passed to mount.
    option: &'static str,
    /// What mountinfo shows when it is in force; kernels differ.
    shown: &'static [&'static str],
    /// The module parameter that makes it the default, which is not shown.
    parameter: Option<&'static str>,
}

impl OptionTrial {
    const ALL: [Self; 6] = [
        Self::with_parameter("metacopy", "metacopy=on", &["metacopy=on"]),
        Self::with_parameter("redirect_dir", "redirect_dir=on", &["redirect_dir=on"]),
        Self::with_parameter("index", "index=on", &["index=on"]),
        Self::plain("volatile", "volatile", &["volatile", "fsync=volatile"]),
        Self::plain("userxattr", "userxattr", &["userxattr"]),
        Self::plain("xino", "xino=on", &["xino=on"]),
    ];

    const fn plain(name: &'static str, option: &'static str, shown: &'static [&'static str]) -> Self {
        Self { name, option, shown, parameter: None }
    }

    const fn with_parameter(
        name: &'static str,
        option: &'static str,
        shown: &'static [&'static str],
    ) -> Self {
        Self { name, option, shown, parameter: Some(name) }
    }
}

/// What the kernel's overlayfs takes from this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverlayFacts {
    /// Whether a trial mount without options works.
    pub mount: Fact<Answer>,
    /// Parameters of the module by name; the defaults of the options.
    pub parameters: BTreeMap<String, Fact<String>>,
    /// Whether a trial mount takes `metacopy`, `redirect_dir`, `volatile`, `userxattr`, `index`, `xino`.
    pub options: BTreeMap<String, Fact<Answer>>,
}

/// Tries overlayfs on tmpfs; `scratch` is a directory to hide below a tmpfs.
pub(crate) fn detect(may_exist: bool, namespaces: Namespaces, scratch: Option<&Path>) -> OverlayFacts {
    let parameters = parameters();
    let try_with = |option: &str| match scratch {
        _ if !may_exist => Err(Fact::new(Answer::No, "this kernel has no overlay")),
        None => Err(Fact::new(Answer::Unknown, NO_SCRATCH)),
        Some(scratch) => try_option(namespaces, scratch, option).map_err(refusal),
    };
    let place = match namespaces {
        Namespaces::Mount => "on tmpfs",
        Namespaces::UserAndMount => "on tmpfs in a user namespace",
    };
    let judged = |trial: &OptionTrial| {
        let parameter = trial.parameter.and_then(|it| parameters.get(it));
        let is_default = parameter.is_some_and(|it| it.value == "Y");
        try_with(trial.option).map_or_else(|fact| fact, |shown| judge(trial, is_default, &shown, place))
    };
    OverlayFacts {
        mount: try_with("")
            .map_or_else(|fact| fact, |_| Fact::new(Answer::Yes, format!("a trial mount {place} worked"))),
        options: OptionTrial::ALL.iter().map(|it| (it.name.to_owned(), judged(it))).collect(),
        parameters,
    }
}

fn parameters() -> BTreeMap<String, Fact<String>> {
    let Ok(entries) = fs::read_dir(PARAMETERS) else {
        return BTreeMap::new(); // Not loaded, or no /sys: no parameters to show.
    };
    let fact = |entry: fs::DirEntry| {
        let name = entry.file_name().into_string().ok()?;
        let text = fs::read_to_string(entry.path()).ok()?;
        let reason = format!("{PARAMETERS}/{name}");
        Some((name, Fact::new(text.trim().to_owned(), reason)))
    };
    entries.filter_map(Result::ok).filter_map(fact).collect()
}

fn try_option(namespaces: Namespaces, scratch: &Path, option: &str) -> Result<String, TrialError> {
    let place = scratch.display();
    let mut options = format!("lowerdir={place}/lower,upperdir={place}/upper,workdir={place}/work");
    if !option.is_empty() {
        options.push(',');
        options.push_str(option);
    }
    // The lower directory lies on a file system of its own, since xino is moot within one.
    let directories = &["lower", "upper", "work", "merged"];
    try_mount(
        namespaces,
        &Trial { scratch, directories, own_tmpfs: 1, fs_type: "overlay", options: &options },
    )
}

/// Judges the options that mountinfo shows.
///
/// overlayfs may mount and go on without an option, and does not show what is the default.
fn judge(trial: &OptionTrial, is_default: bool, shown: &str, place: &str) -> Fact<Answer> {
    let is_named = |word: &&str| word.split('=').next() == Some(trial.name);
    if shown.split(',').any(|it| trial.shown.contains(&it)) {
        Fact::new(Answer::Yes, format!("a trial mount {place} took it"))
    } else if let Some(word) = shown.split(',').find(is_named) {
        Fact::new(Answer::No, format!("a trial mount {place} made it {word}"))
    } else if is_default {
        Fact::new(Answer::Yes, format!("a trial mount {place} took it, as the module's default"))
    } else {
        Fact::new(Answer::No, format!("a trial mount {place} went on without it"))
    }
}

fn refusal(error: TrialError) -> Fact<Answer> {
    match error.step {
        Step::Mount => Fact::new(Answer::No, format!("a trial mount was refused: {}", error.errno)),
        _ => Fact::new(Answer::Unknown, format!("no trial mount: {}", explain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn an_option_counts_only_when_it_is_in_force() {
        for (case, name, is_default, shown, expected) in [
            ("shown", "metacopy", false, ",metacopy=on", Answer::Yes),
            ("fell back", "metacopy", false, "", Answer::No),
            ("default is not shown", "metacopy", true, "", Answer::Yes),
            ("fell back from default", "metacopy", true, ",metacopy=off", Answer::No),
            ("flag", "volatile", false, ",volatile", Answer::Yes),
            ("flag of newer kernels", "volatile", false, ",uuid=on,fsync=volatile", Answer::Yes),
            ("other value", "redirect_dir", false, ",redirect_dir=nofollow", Answer::No),
            ("name of another", "xino", false, ",xinox=on", Answer::No),
        ] {
            let trial = OptionTrial::ALL.iter().find(|it| it.name == name).unwrap();
            let shown = format!("rw,lowerdir=/l,upperdir=/u,workdir=/w{shown}");
            assert_eq!(judge(trial, is_default, &shown, "").value, expected, "{case}");
        }
    }

    #[test]
    fn a_refused_mount_is_told_from_one_that_was_not_tried() {
        for (step, expected) in [(Step::Mount, Answer::No), (Step::Unshare, Answer::Unknown)] {
            assert_eq!(refusal(TrialError { step, errno: Errno::PERM }).value, expected, "{step}");
        }
    }

    #[test]
    fn root_the_kernels_overlay_takes_an_option() {
        let required = std::env::var("REQUIRE").is_ok_and(|it| it.split(',').any(|it| it == "root"));
        let filesystems = fs::read_to_string("/proc/filesystems").unwrap();
        if !rustix::process::geteuid().is_root() || !crate::lists_filesystem(&filesystems, "overlay") {
            assert!(!required, "REQUIRE names root, but this is not root or has no overlay");
            eprintln!("skipped: not root, or no overlay in /proc/filesystems");
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let facts = detect(true, Namespaces::Mount, Some(scratch.path()));
        assert_eq!(facts.mount.value, Answer::Yes, "{facts:?}");
        assert_eq!(facts.options["volatile"].value, Answer::Yes, "{facts:?}");
        assert_eq!(fs::read_dir(scratch.path()).unwrap().count(), 0);
    }
}
