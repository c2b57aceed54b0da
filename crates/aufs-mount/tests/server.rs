//! Talking to a serving program that does not behave: a script in its place.
#![allow(clippy::unwrap_used, reason = "test helpers may fail the test")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use aufs_mount::error::{ErrorClass, MountError, MountErrorKind};
use aufs_mount::option::{DataMode, Dialect, parse};
use aufs_mount::request::ServeRequest;
use aufs_mount::server::{Served, find_program, start};
use aufs_mount::stack::BranchStack;

fn request(dir: &Path) -> ServeRequest {
    for name in ["u", "m"] {
        fs::create_dir(dir.join(name)).unwrap();
    }
    let text = format!("br:{}=rw", dir.join("u").display());
    let options = parse(text.as_ref(), Dialect::Own).unwrap().options;
    let (stack, _) = BranchStack::check(&options, &dir.join("m")).unwrap();
    ServeRequest::new(&stack, &options, None)
}

/// A script cannot be started while a process that another test forks still holds it open for writing.
static ONE_SCRIPT_AT_A_TIME: Mutex<()> = Mutex::new(());

fn start_script(dir: &Path, text: &str, request: &ServeRequest) -> Result<Served, MountError> {
    let _turn = ONE_SCRIPT_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    start(&script(dir, text), request)
}

fn script(dir: &Path, text: &str) -> PathBuf {
    let path = dir.join("server");
    fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
    fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    path
}

#[test]
fn what_a_server_says_or_fails_to_say_is_told() {
    for (text, expected) in [
        (
            r#"cat >/dev/null; echo '{"ready":{"data":"cached","pid":7}}'"#,
            Ok(Served { data: DataMode::Cached, pid: 7 }),
        ),
        (
            r#"cat >/dev/null; echo '{"error":{"message":"disk is full","errno":28,"exit_code":4}}'; exit 4"#,
            Err("disk is full"),
        ),
        ("exit 9", Err("the serving program ended (exit code 9) before the mount was up")),
        ("kill -9 $$", Err("the serving program ended (signal 9) before the mount was up")),
        ("echo nonsense", Err("its reply is not one of aufs serve")),
        (r"printf '\377\n'", Err("did not contain valid UTF-8")),
    ] {
        let dir = tempfile::tempdir().unwrap();
        let request = request(dir.path());
        let found = start_script(dir.path(), text, &request).map_err(|error| error.kind.to_string());
        match (found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
            (Err(found), Err(expected)) => assert!(found.ends_with(expected), "{text}: {found}"),
            (found, _) => assert_eq!(found.map_err(|_| ()), Err(()), "{text}"),
        }
    }
}

#[test]
fn errors_keep_errno_and_class() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path());
    let text = r#"cat >/dev/null; echo '{"error":{"message":"x","errno":28,"exit_code":3}}'"#;
    let error = start_script(dir.path(), text, &request).unwrap_err();
    assert_eq!(error.kind.errno(), Some(nix::errno::Errno::ENOSPC));
    assert_eq!(error.kind.class(), ErrorClass::Unsupported);
}

#[test]
fn the_server_gets_the_whole_request() {
    let dir = tempfile::tempdir().unwrap();
    let request = request(dir.path());
    let got = dir.path().join("got");
    let text = format!("cat >{}; exit 1", got.display());
    start_script(dir.path(), &text, &request).unwrap_err();
    let read: ServeRequest = serde_json::from_slice(&fs::read(got).unwrap()).unwrap();
    assert_eq!(read, request);
}

#[test]
fn a_named_program_must_exist() {
    assert!(matches!(find_program(Some(Path::new("/no/such/aufs"))), Err(MountErrorKind::NoServer)));
    assert!(matches!(find_program(Some(Path::new("/etc/passwd"))), Err(MountErrorKind::NoServer)));
    assert_eq!(find_program(Some(Path::new("/bin/sh"))).unwrap(), Path::new("/bin/sh"));
}
