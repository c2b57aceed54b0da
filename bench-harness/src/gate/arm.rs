//! What is gated: a driver, one of its option sets, and the program that serves it.
//!
//! Written `driver=NAME[,options=SET][,bin=PATH]`.

use std::fs;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::cell::Subject;
use crate::driver::{self, Driver, version};
use crate::error::{At as _, BenchError, BenchErrorKind, Result};
use crate::suggest;

/// Keys of an arm.
const KEYS: &[&str] = &["driver", "options", "bin"];

/// One arm of a gate.
#[derive(Debug, Clone)]
pub struct ArmSpec {
    /// Who mounts.
    pub driver: &'static dyn Driver,
    /// With which option set.
    pub options: String,
    /// The program that serves the mounts, for drivers that have one.
    pub program: Option<PathBuf>,
}

/// What is recorded of an arm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ArmFacts {
    /// Its driver and option set.
    #[serde(flatten)]
    pub subject: Subject,
    /// The program that serves it; none where the kernel does.
    pub program: Option<ProgramFacts>,
}

/// What is recorded of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramFacts {
    /// Where it lies.
    pub path: PathBuf,
    /// First line of its `--version`.
    pub version: Option<String>,
    /// SHA-256 of its file.
    pub sha256: String,
}

impl ArmSpec {
    /// Reads `driver=NAME[,options=SET][,bin=PATH]`; a missing option set is the driver's first.
    ///
    /// # Errors
    ///
    /// The wrong word, and the nearest right one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let [mut name, mut options, mut program] = [None; 3];
        for part in text.split(',') {
            let (key, value) = part.split_once('=').ok_or_else(|| {
                format!("{part:?} is not KEY=VALUE; expected driver=NAME[,options=SET][,bin=PATH]")
            })?;
            let slot = match key {
                "driver" => &mut name,
                "options" => &mut options,
                "bin" => &mut program,
                _ => return Err(suggest::unknown("key of an arm", key, KEYS)),
            };
            if slot.replace(value).is_some() {
                return Err(format!("{key}= is given twice"));
            }
            if value.is_empty() {
                return Err(format!("{key}= has no value"));
            }
        }
        let name = name.ok_or("an arm needs driver=NAME; see aufs-bench list")?;
        let driver =
            driver::by_name(name).ok_or_else(|| suggest::unknown("driver", name, &driver::names()))?;
        let options = options.or(driver.options().first().copied()).unwrap_or("default");
        if !driver.options().contains(&options) {
            return Err(suggest::unknown(&format!("option set of {name}"), options, driver.options()));
        }
        if program.is_some() && driver.program().is_none() {
            return Err(format!("bin= is for drivers served by a program of ours, which {name} is not"));
        }
        Ok(Self { driver, options: options.to_owned(), program: program.map(PathBuf::from) })
    }

    /// Finds the program: the named one, else the driver's own.
    ///
    /// # Errors
    ///
    /// `Refused`: there is none.
    pub fn resolve(&self) -> Result<Self> {
        let refused = |what| BenchError::new("use arm", self.driver.name(), BenchErrorKind::Refused(what));
        let program = match (&self.program, self.driver.program()) {
            (_, None) => None,
            (Some(named), Some(_)) => Some(executable(named).map_err(refused)?),
            (None, Some(found)) => Some(executable(&found.map_err(refused)?).map_err(refused)?),
        };
        Ok(Self { program, ..self.clone() })
    }

    /// Driver and option set.
    pub fn subject(&self) -> Subject {
        Subject { driver: self.driver.name().to_owned(), options: self.options.clone() }
    }

    /// What to record.
    ///
    /// # Errors
    ///
    /// The program's file cannot be read.
    pub fn facts(&self) -> Result<ArmFacts> {
        let program = self.program.as_deref().map(ProgramFacts::read).transpose()?;
        Ok(ArmFacts { subject: self.subject(), program })
    }
}

impl ProgramFacts {
    fn read(path: &Path) -> Result<Self> {
        let digest = Sha256::digest(fs::read(path).at("read", path)?);
        let sha256 = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        Ok(Self { path: path.to_owned(), version: version::of_program(path, "aufs"), sha256 })
    }
}

impl ArmFacts {
    /// `aufs-fuse (cached), aufs 0.1.0, 12ab34cd`.
    pub fn label(&self) -> String {
        let mut label = self.subject.label();
        if let Some(ProgramFacts { version, sha256, .. }) = &self.program {
            label += &version.as_ref().map(|it| format!(", {it}")).unwrap_or_default();
            label += &format!(", {}", sha256.get(..8).unwrap_or(sha256));
        }
        label
    }
}

/// The absolute path of the program `path`.
fn executable(path: &Path) -> Result<PathBuf, String> {
    let says =
        |what: String| format!("{}: {what}; build it (cargo build --release -p aufs-cli)", path.display());
    let path = path.canonicalize().map_err(|error| says(error.to_string()))?;
    let is_file = path.is_file();
    match nix::unistd::access(&path, nix::unistd::AccessFlags::X_OK) {
        Ok(()) if is_file => Ok(path),
        Ok(()) => Err(says("is not a file".to_owned())),
        Err(errno) => Err(says(errno.desc().to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arms_are_read_and_mistakes_named() {
        let parsed = |text| ArmSpec::parse(text).map(|it| (it.subject().label(), it.program));
        for (text, label, program) in [
            ("driver=overlayfs", "overlayfs", None),
            ("driver=overlayfs,options=volatile", "overlayfs (volatile)", None),
            ("bin=/b/aufs,options=cached,driver=aufs-fuse", "aufs-fuse (cached)", Some("/b/aufs")),
            ("driver=aufs-fuse,bin=a=b", "aufs-fuse", Some("a=b")),
        ] {
            assert_eq!(parsed(text), Ok((label.to_owned(), program.map(PathBuf::from))), "{text}");
        }
        for (text, expected) in [
            ("", "\"\" is not KEY=VALUE"),
            ("aufs-fuse", "is not KEY=VALUE"),
            ("options=cached", "needs driver="),
            ("driver=overlay", "did you mean \"overlayfs\"?"),
            ("driver=overlayfs,options=volatil", "did you mean \"volatile\"?"),
            ("driver=overlayfs,option=volatile", "did you mean \"options\"?"),
            ("driver=overlayfs,driver=vfs", "driver= is given twice"),
            ("driver=overlayfs,options=", "options= has no value"),
            ("driver=overlayfs,bin=/b/aufs", "bin= is for drivers"),
        ] {
            let error = parsed(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn programs_must_be_there_and_are_told_apart() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let arm = |name: &str| {
            ArmSpec::parse(&format!("driver=aufs-fuse,bin={}/{name}", dir.path().display())).unwrap()
        };
        let missing = arm("none").resolve().unwrap_err();
        assert!(
            matches!(missing.kind, BenchErrorKind::Refused(_)) && missing.line().contains("/none: No such")
        );
        std::fs::write(dir.path().join("data"), "x").unwrap();
        assert!(arm("data").resolve().unwrap_err().line().contains("Permission denied"));
        for name in ["a", "b"] {
            let path = dir.path().join(name);
            std::fs::write(&path, format!("#!/bin/sh\necho 'aufs {name}'\n")).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        let labels = ["a", "b"].map(|name| arm(name).resolve().unwrap().facts().unwrap().label());
        assert!(labels[0].starts_with("aufs-fuse, aufs a, ") && labels[1].starts_with("aufs-fuse, aufs b, "));
        assert_ne!(labels[0].rsplit(' ').next(), labels[1].rsplit(' ').next(), "the digests differ");
    }
}
