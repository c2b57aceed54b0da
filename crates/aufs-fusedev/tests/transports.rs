//! The toy file system over both transports: what works over one works over the other, and ends as cleanly.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test helpers may fail the test")]

mod toy;

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::FileExt;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use aufs_fusedev::abi::opcode::Opcode;
use aufs_fusedev::session::{Session, SessionError};
use aufs_fusedev::transport::{InUse, Transport, WhyDevice};
use aufs_testkit::needs::{Need, skips};
use rustix::io::Errno;
use rustix::mount::{MountFlags, UnmountFlags};

use self::toy::{
    BIG, BIG_LEN_BYTES, MANY, MANY_DIR, MANY_FIRST, Mounted, Served, Settings, big_byte, wanted,
};

const BOTH: [Transport; 2] = [Transport::Device, Transport::IoUring];
/// What takes longer hangs.
const LONG: Duration = Duration::from_secs(15);

/// Whether the machine can run these tests; says why not.
fn is_able() -> bool {
    let switch = Need::Other { name: "uring", missing: toy::missing_switch };
    !skips(&[Need::Root, Need::Fuse, switch])
}

/// Runs `test` on the toy over each transport.
fn over_both(test: impl Fn(&Served)) {
    if !is_able() {
        return;
    }
    for transport in BOTH {
        let served = Served::over(transport).unwrap();
        assert_eq!(
            matches!(served.in_use, InUse::IoUring { .. }),
            transport == Transport::IoUring,
            "{}",
            served.in_use
        );
        test(&served);
        served.end().unwrap();
    }
}

/// Waits until `condition` holds.
fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let begin = Instant::now();
    while !condition() {
        assert!(begin.elapsed() < LONG, "{what} never happens");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Starts a process that reads the whole of `path`.
fn reader_of(path: &std::path::Path) -> Child {
    Command::new("cat").arg(path).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for `child`, which must end by itself.
fn end_of(child: &mut Child) -> std::process::ExitStatus {
    let mut status = None;
    until("the end of a client", || {
        status = child.try_wait().unwrap();
        status.is_some()
    });
    status.unwrap()
}

#[test]
fn fuse_files_are_written_read_listed_and_removed() {
    over_both(|served| {
        let mut file = File::create(served.path("file")).unwrap();
        file.write_all(b"hello ").unwrap();
        file.write_all(b"world").unwrap();
        drop(file);
        assert_eq!(fs::read(served.path("file")).unwrap(), b"hello world");
        // Beyond what a ring copies, and with an answer shorter than the request.
        let long: Vec<_> = (0..3_000_000_u64).map(big_byte).collect();
        fs::write(served.path("file"), &long).unwrap();
        assert!(fs::read(served.path("file")).unwrap() == long);
        let names: Vec<_> =
            fs::read_dir(served.mounted.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert!(names.iter().any(|it| it == "file"), "{names:?}");
        fs::remove_file(served.path("file")).unwrap();
        assert_eq!(fs::read(served.path("file")).unwrap_err().kind(), ErrorKind::NotFound);
        let many = fs::read_dir(served.path("many")).unwrap();
        assert_eq!(
            many.map(|it| it.unwrap().file_name()).collect::<std::collections::HashSet<_>>().len(),
            MANY as usize
        );
    });
}

#[test]
fn fuse_answers_of_every_length_arrive_whole() {
    over_both(|served| {
        let file = File::open(served.path("big")).unwrap();
        for (offset, len_bytes) in [(0, 1), (4095, 2), (0, 4096), (1, 8192), (7, 1 << 20), (3, 5 << 20)] {
            let mut buffer = vec![0; len_bytes];
            file.read_exact_at(&mut buffer, offset).unwrap();
            assert!((offset..).zip(&buffer).all(|(at, byte)| big_byte(at) == *byte), "{offset} {len_bytes}");
        }
        let mut past = [0; 10];
        assert_eq!(file.read_at(&mut past, BIG_LEN_BYTES - 4).unwrap(), 4);
        assert_eq!(file.read_at(&mut past, BIG_LEN_BYTES).unwrap(), 0);
    });
}

#[test]
fn fuse_attributes_beside_files_have_both_lengths() {
    over_both(|served| {
        let path = served.path("big");
        let mut buffer = vec![0; 65_536];
        let size = rustix::fs::getxattr(&path, "user.long", &mut buffer).unwrap();
        assert!(size == 60_000 && buffer[..size].iter().all(|it| *it == 7));
        assert_eq!(rustix::fs::getxattr(&path, "user.long", &mut [0; 10]), Err(Errno::RANGE));
        let set =
            |value: &[u8]| rustix::fs::setxattr(&path, "user.a", value, rustix::fs::XattrFlags::empty());
        assert_eq!(set(&[9; 40_000]), Ok(()));
        assert_eq!(set(&[8; 40_000]), Err(Errno::INVAL));
        assert_eq!(set(&[9; 10]), Ok(()));
    });
}

#[test]
fn fuse_four_threads_do_not_disturb_each_other() {
    over_both(|served| {
        thread::scope(|scope| {
            for number in 0..4_u64 {
                scope.spawn(move || {
                    for round in 0..60 {
                        let path = served.path(&format!("file-{number}-{round}"));
                        let content: Vec<_> = (0..1000 * round).map(|it| big_byte(it ^ number)).collect();
                        fs::write(&path, &content).unwrap();
                        assert!(fs::read(&path).unwrap() == content, "{number} {round}");
                        assert!(fs::metadata(served.path("missing")).is_err());
                        fs::remove_file(&path).unwrap();
                    }
                });
            }
        });
    });
}

#[test]
fn fuse_a_killed_client_ends_its_request() {
    over_both(|served| {
        let mut client = reader_of(&served.path("slow"));
        until("a held request", || served.toy.held.load(Ordering::SeqCst) == 1);
        client.kill().unwrap();
        assert!(!end_of(&mut client).success());
        until("the signal", || served.toy.interrupted.load(Ordering::SeqCst) == 1);
        assert_eq!(served.toy.held.load(Ordering::SeqCst), 0);
        assert_eq!(fs::metadata(served.path("big")).unwrap().len(), BIG_LEN_BYTES, "it still serves");
    });
}

#[test]
fn fuse_held_requests_do_not_keep_others_waiting() {
    over_both(|served| {
        let mut clients: Vec<_> = (0..24).map(|_| reader_of(&served.path("slow"))).collect();
        until("held requests", || served.toy.held.load(Ordering::SeqCst) == 24);
        for _ in 0..50 {
            assert_eq!(fs::metadata(served.path("big")).unwrap().len(), BIG_LEN_BYTES);
        }
        assert_eq!(served.toy.held.load(Ordering::SeqCst), 24, "all are still held");
        served.toy.open_gate();
        for client in &mut clients {
            let mut said = Vec::new();
            client.stdout.take().unwrap().read_to_end(&mut said).unwrap();
            assert_eq!(said, b"slow");
            assert!(end_of(client).success());
        }
    });
}

#[test]
fn fuse_a_handler_that_fails_costs_one_request() {
    over_both(|served| {
        for _ in 0..40 {
            for name in ["panic", "lost"] {
                let error = fs::read(served.path(name)).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(Errno::IO.raw_os_error()), "{name}");
            }
        }
        assert_eq!(fs::read(served.path("big")).unwrap().len() as u64, BIG_LEN_BYTES);
    });
}

/// Unlike a detached mount, an aborted connection does not wait for open files.
fn abort(served: &Served) {
    let device = rustix::fs::stat(served.mounted.path()).unwrap().st_dev;
    let minor = rustix::fs::minor(device);
    let control = tempfile::tempdir().unwrap();
    rustix::mount::mount("none", control.path(), "fusectl", MountFlags::empty(), None).unwrap();
    let written = fs::write(control.path().join(minor.to_string()).join("abort"), "1");
    rustix::mount::unmount(control.path(), UnmountFlags::DETACH).unwrap();
    written.unwrap();
}

#[test]
fn fuse_an_aborted_connection_ends_the_server_and_all_clients() {
    if !is_able() {
        return;
    }
    for transport in BOTH {
        let mut served = Served::over(transport).unwrap();
        let mut clients: Vec<_> = (0..6).map(|_| reader_of(&served.path("slow"))).collect();
        until("held requests", || served.toy.held.load(Ordering::SeqCst) == 6);
        abort(&served);
        for client in &mut clients {
            assert!(!end_of(client).success(), "it gets an error");
        }
        let (ended, end) = channel();
        let toy = std::sync::Arc::clone(&served.toy);
        served.mounted.unmount().unwrap();
        thread::spawn(move || {
            let outcome = served.join();
            ended.send((outcome, served)).unwrap();
        });
        // Six workers still hold requests: serving ends without them, and their answers go nowhere.
        let (outcome, _served) = end.recv_timeout(LONG).unwrap();
        outcome.unwrap();
        assert_eq!(toy.held.load(Ordering::SeqCst), 6);
        toy.open_gate();
        until("the end of the workers", || toy.held.load(Ordering::SeqCst) == 0);
    }
}

#[test]
fn fuse_what_the_kernel_is_told_is_outdated_is_asked_for_again() {
    over_both(|served| {
        let (path, node) = (served.path("many/name-5"), MANY_FIRST + 5);
        let counts = || (served.count(Opcode::Lookup), served.count(Opcode::GetAttr));
        let mut expected = (0, 0);
        // `many` itself is not kept, so one lookup comes each time. A request is counted once it is answered.
        let mut look = |what: &str, told: rustix::io::Result<()>, lookups, getattrs| {
            told.unwrap();
            assert!(fs::metadata(&path).unwrap().is_file());
            expected = (expected.0 + lookups, expected.1 + getattrs);
            until(what, || counts() == expected);
        };
        let (notifier, name) = (&served.notifier, "name-5".as_ref());
        look("the first look", Ok(()), 2, 0);
        look("a look at what is kept", Ok(()), 1, 0);
        look("attributes", notifier.attributes(node), 1, 1);
        look("a name", notifier.name(MANY_DIR, name), 2, 0);
        look("a name that is gone", notifier.removed(MANY_DIR, node, name), 2, 0);
        match notifier.all_names() {
            Err(Errno::OPNOTSUPP) => println!("skipped: no epochs before Linux 6.16"),
            told => look("all names", told, 2, 0),
        }
        let (file, mut byte) = (File::open(served.path("big")).unwrap(), [0]);
        let mut read = || file.read_exact_at(&mut byte, 0).unwrap();
        read();
        until("the first read", || served.count(Opcode::Read) != 0);
        served.notifier.content(BIG).unwrap();
        let before = served.count(Opcode::Read);
        read();
        until("content", || before < served.count(Opcode::Read));
        assert_eq!(served.notifier.attributes(999), Err(Errno::NOENT), "a node the kernel never heard of");
    });
}

#[test]
fn fuse_unmounting_under_load_loses_no_request_and_ends() {
    if !is_able() {
        return;
    }
    for transport in BOTH {
        let mut served = Served::over(transport).unwrap();
        let path = served.path("big");
        let (started, start) = channel();
        let clients: Vec<_> = (0..4)
            .map(|_| {
                let (path, started) = (path.clone(), started.clone());
                thread::spawn(move || {
                    let file = File::open(&path).unwrap();
                    started.send(()).unwrap();
                    let mut buffer = vec![0; 1 << 20];
                    for _ in 0..100 {
                        file.read_exact_at(&mut buffer, 5).unwrap();
                        assert!(buffer[4096] == big_byte(5 + 4096));
                    }
                })
            })
            .collect();
        (0..4).for_each(|_| start.recv_timeout(LONG).unwrap());
        served.mounted.unmount().unwrap();
        clients.into_iter().for_each(|it| it.join().unwrap());
        served.end().unwrap();
    }
}

#[test]
fn fuse_clients_of_a_dropped_session_get_an_error() {
    if !is_able() {
        return;
    }
    for (switch, transport) in [("N", Transport::Device), ("Y", Transport::IoUring)] {
        let settings = Settings::set(switch, "0").unwrap();
        let (mounted, channel) = Mounted::new().unwrap();
        let session = Session::open(channel, |_| wanted(), transport).unwrap();
        drop(settings);
        let mut client = reader_of(&mounted.path().join("slow"));
        thread::sleep(Duration::from_millis(50));
        assert!(client.try_wait().unwrap().is_none(), "nobody serves yet");
        drop(session);
        assert!(!end_of(&mut client).success());
    }
}

#[test]
fn fuse_transports_are_chosen_by_what_the_machine_allows() {
    if !is_able() {
        return;
    }
    let refused = WhyDevice::NoRing(Errno::PERM);
    for (switch, disabled, transport, expected) in [
        ("Y", "0", Transport::Auto, Ok(None)),
        ("Y", "0", Transport::Device, Ok(Some(WhyDevice::Chosen))),
        ("N", "0", Transport::Auto, Ok(Some(WhyDevice::SwitchedOff))),
        ("N", "0", Transport::IoUring, Err(WhyDevice::SwitchedOff)),
        ("Y", "2", Transport::Auto, Ok(Some(refused))),
        ("Y", "2", Transport::IoUring, Err(refused)),
    ] {
        let settings = Settings::set(switch, disabled).unwrap();
        let served = Served::with(&wanted(), transport, 1);
        drop(settings);
        let found = match served {
            Ok(served) => {
                assert_eq!(fs::read(served.path("big")).unwrap().len() as u64, BIG_LEN_BYTES);
                let in_use = served.in_use;
                served.end().unwrap();
                match in_use {
                    InUse::Device(why) => Ok(Some(why)),
                    InUse::IoUring { .. } => Ok(None),
                }
            }
            Err(SessionError::NoIoUring(why)) => Err(why),
            Err(error) => panic!("{error}"),
        };
        assert_eq!(found, expected, "{switch} {disabled} {transport:?}");
    }
}

#[test]
fn fuse_a_single_entry_serves_one_after_the_other() {
    if !is_able() {
        return;
    }
    let settings = Settings::set("Y", "0").unwrap();
    let shallow = aufs_fusedev::init::Wanted { ring_depth: 1, request_len_bytes_max: 4096, ..wanted() };
    let served = Served::with(&shallow, Transport::IoUring, 1).unwrap();
    drop(settings);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(fs::read(served.path("big")).unwrap().len() as u64, BIG_LEN_BYTES));
        }
    });
    let mut file = OpenOptions::new().create_new(true).write(true).open(served.path("file")).unwrap();
    file.write_all(&[1; 50_000]).unwrap();
    drop(file);
    assert_eq!(fs::metadata(served.path("file")).unwrap().len(), 50_000);
    served.end().unwrap();
}
