//! What the kernel's own aufs can do.

use std::path::Path;

use aufs_host::mount_probe::{Trial, try_mount};
use aufs_host::private_child::{Namespaces, Step, TrialError};
use serde::{Deserialize, Serialize};

use crate::fact::{Answer, Fact, NO_SCRATCH, explain};

/// What the kernel's own aufs can do for this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AufsFacts {
    /// Whether a trial mount works.
    pub mount: Fact<Answer>,
    /// Whether a trial mount takes `dirperm1`.
    pub dirperm1: Fact<Answer>,
}

/// Tries aufs; `scratch` is a directory to hide below a tmpfs.
pub(crate) fn detect(may_exist: bool, namespaces: Namespaces, scratch: Option<&Path>) -> AufsFacts {
    if !may_exist {
        let fact = Fact::new(Answer::No, "this kernel has no aufs");
        return AufsFacts { mount: fact.clone(), dirperm1: fact };
    }
    let Some(scratch) = scratch else {
        let fact = Fact::new(Answer::Unknown, NO_SCRATCH);
        return AufsFacts { mount: fact.clone(), dirperm1: fact };
    };
    let judge = |option| judge(try_branch(namespaces, scratch, option));
    AufsFacts { mount: judge(""), dirperm1: judge(",dirperm1") }
}

/// Mounts one branch, as Docker's driver does to find `dirperm1` out.
fn try_branch(namespaces: Namespaces, scratch: &Path, option: &str) -> Result<String, TrialError> {
    let place = scratch.display();
    let options = format!("br:{place}/base=rw,xino={place}/aufs.xino{option}");
    let directories = &["base", "union"];
    let trial = Trial { scratch, directories, own_tmpfs: 0, fs_type: "aufs", options: &options };
    try_mount(namespaces, &trial)
}

fn judge(trial: Result<String, TrialError>) -> Fact<Answer> {
    match trial {
        Ok(_) => Fact::new(Answer::Yes, "a trial mount took it"),
        Err(error) if error.step == Step::Mount => {
            Fact::new(Answer::No, format!("a trial mount was refused: {}", error.errno))
        }
        Err(error) => Fact::new(Answer::Unknown, format!("no trial mount: {}", explain(&error))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::Errno;

    #[test]
    fn a_refusal_by_aufs_is_told_from_a_trial_that_could_not_be_made() {
        for (case, trial, expected) in [
            ("mounted", Ok("rw,si=1,dirperm1".to_owned()), Answer::Yes),
            ("option unknown", Err(TrialError { step: Step::Mount, errno: Errno::INVAL }), Answer::No),
            ("no namespace", Err(TrialError { step: Step::Unshare, errno: Errno::PERM }), Answer::Unknown),
        ] {
            assert_eq!(judge(trial).value, expected, "{case}");
        }
    }

    #[test]
    fn a_kernel_without_aufs_is_not_asked() {
        let facts = detect(false, Namespaces::Mount, Some(Path::new("/nonexistent")));
        assert_eq!((facts.mount.value, facts.dirperm1.value), (Answer::No, Answer::No));
    }
}
