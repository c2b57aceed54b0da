//! What the kernel's overlayfs takes.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use aufs_host::mount_probe::{Trial, try_mount};
use aufs_host::private_child::{Namespaces, Step, TrialError};
use serde::{Deserialize, Serialize};

use crate::fact::{Answer, Fact, explain};

const PARAMETERS: &str = "/sys/module/overlay/parameters";

/// Option, its name in the report, and the module parameter that makes it the default.
const OPTIONS: [(&str, &str, Option<&str>); 6] = [
    ("metacopy=on", "metacopy", Some("metacopy")),
    ("redirect_dir=on", "redirect_dir", Some("redirect_dir")),
    ("volatile", "volatile", None),
    ("userxattr", "userxattr", None),
    ("index=on", "index", Some("index")),
    ("xino=on", "xino", None),
];

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

/// Tries overlayfs on a tmpfs; `scratch` is an empty directory.
pub(crate) fn detect(listed: bool, namespaces: Namespaces, scratch: Option<&Path>) -> OverlayFacts {
    let parameters = parameters();
    let judged = |option: &str, parameter: Option<&str>| match scratch {
        _ if !listed => Fact::new(Answer::No, "this kernel has no overlay"),
        None => Fact::new(Answer::Unknown, "no temporary directory for a trial"),
        Some(scratch) => {
            let is_default = parameter.and_then(|it| parameters.get(it)).is_some_and(|it| it.value == "Y");
            judge(option, is_default, &try_option(namespaces, scratch, option))
        }
    };
    OverlayFacts {
        mount: judged("", None),
        options: OPTIONS
            .iter()
            .map(|(option, name, parameter)| ((*name).to_owned(), judged(option, *parameter)))
            .collect(),
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
    let directories = &["lower", "upper", "work", "merged"];
    try_mount(namespaces, &Trial { scratch, directories, fs_type: "overlay", options: &options })
}

/// Judges a trial. overlayfs may mount and go on without an option, and does not show what is the default.
fn judge(option: &str, is_default: bool, trial: &Result<String, TrialError>) -> Fact<Answer> {
    match trial {
        Ok(_) if option.is_empty() => Fact::new(Answer::Yes, "a trial mount on tmpfs worked"),
        Ok(shown) => {
            let name = option.split('=').next().unwrap_or(option);
            let mut words = shown.split(',');
            if words.clone().any(|it| it == option) {
                Fact::new(Answer::Yes, "a trial mount on tmpfs took it")
            } else if let Some(word) = words.find(|it| it.split('=').next() == Some(name)) {
                Fact::new(Answer::No, format!("a trial mount on tmpfs made it {word}"))
            } else if is_default {
                Fact::new(Answer::Yes, "a trial mount on tmpfs took it, as the module's default")
            } else {
                Fact::new(Answer::No, "a trial mount on tmpfs went on without it")
            }
        }
        Err(error) if error.step == Step::Mount => {
            Fact::new(Answer::No, format!("a trial mount on tmpfs was refused: {}", error.errno))
        }
        Err(error) => Fact::new(Answer::Unknown, format!("no trial mount: {}", explain(error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn an_option_counts_only_when_it_is_in_force() {
        let shown = |text: &str| Ok(format!("rw,lowerdir=/l,upperdir=/u,workdir=/w{text}"));
        let refused = |step| Err(TrialError { step, errno: Errno::INVAL });
        for (case, option, is_default, trial, expected) in [
            ("shown", "metacopy=on", false, shown(",metacopy=on"), Answer::Yes),
            ("fell back", "metacopy=on", false, shown(""), Answer::No),
            ("default is not shown", "metacopy=on", true, shown(""), Answer::Yes),
            ("fell back from default", "metacopy=on", true, shown(",metacopy=off"), Answer::No),
            ("flag", "volatile", false, shown(",volatile"), Answer::Yes),
            ("other value", "redirect_dir=on", false, shown(",redirect_dir=nofollow"), Answer::No),
            ("refused", "userxattr", false, refused(Step::Mount), Answer::No),
            ("not tried", "userxattr", false, refused(Step::Unshare), Answer::Unknown),
            ("no option", "", false, shown(""), Answer::Yes),
        ] {
            assert_eq!(judge(option, is_default, &trial).value, expected, "{case}");
        }
    }
}
