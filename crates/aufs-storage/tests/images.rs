//! Images come in, are shared, called, removed, and go out as they came.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

mod kit;

use std::fs;
use std::path::Path;

use aufs_storage::driver::Driver;
use aufs_storage::image::digest::{Digest, chain_ids};
use aufs_storage::image::error::ImageErrorKind;
use aufs_storage::image::{ImageStore, LoadOptions, SaveForm};
use aufs_testkit::layers::archive;
use kit::{Form, Layout, open, skip, tree};
use serde_json::json;

fn base() -> Vec<u8> {
    archive(&[("etc/", ""), ("etc/passwd", "root"), ("./bin/", ""), ("./bin/sh", "#!"), ("empty", "")])
}

fn middle() -> Vec<u8> {
    archive(&[("etc/", ""), ("etc/.wh.passwd", ""), ("etc/shadow", &"s".repeat(3000))])
}

fn top() -> Vec<u8> {
    archive(&[("bin/", ""), ("bin/.wh..wh..opq", ""), ("bin/new", "n")])
}

/// Two images that share their base.
fn two() -> (Layout, Digest, Digest) {
    let mut layout = Layout::default();
    let first =
        layout.image("demo/one:1", &[(base(), Form::Gzip), (middle(), Form::Zstd), (top(), Form::Plain)]);
    let second = layout.image("demo/two:1", &[(base(), Form::Gzip), (top(), Form::Plain)]);
    (layout, first, second)
}

fn load(store: &ImageStore<'_>, from: &Path) -> Result<usize, ImageErrorKind> {
    let loaded = store.load(from, &LoadOptions::default(), &());
    loaded.map(|it| it.iter().map(|it| it.new_layers).sum()).map_err(|it| *it.kind)
}

/// The number of everything that a data root holds.
fn counts(driver: &Driver, root: &Path) -> (usize, Vec<usize>) {
    let count = |name| fs::read_dir(root.join("aufs-rs").join(name)).unwrap().count();
    (driver.layers().unwrap().len(), ["images", "layers", "tags", "splits", "drafts"].map(count).to_vec())
}

#[test]
fn root_images_share_the_layers_of_stacks_they_share() {
    if skip() {
        return;
    }
    let (layout, first, second) = two();
    let scratch = tempfile::tempdir().unwrap();
    let archived = scratch.path().join("it.tar");
    fs::write(&archived, layout.archived()).unwrap();
    let compressed = scratch.path().join("it.tar.zst");
    fs::write(&compressed, zstd::encode_all(layout.archived().as_slice(), 1).unwrap()).unwrap();
    let directory = layout.directory(&scratch.path().join("it"));
    for from in [directory, archived, compressed] {
        let root = tempfile::tempdir().unwrap();
        let driver = open(root.path());
        let store = ImageStore::open(&driver).unwrap();
        assert_eq!(load(&store, &from).unwrap(), 4, "{from:?}");
        assert_eq!(load(&store, &from).unwrap(), 0, "all are there");
        assert_eq!(counts(&driver, root.path()), (4, vec![2, 4, 2, 4, 0]));
        let info = store.inspect("demo/one:1").unwrap();
        assert_eq!((&info.id, info.names[0].to_string().as_str()), (&first, "demo/one:1"));
        let diffs: Vec<_> = info.layers.iter().map(|it| it.diff_id.clone()).collect();
        assert_eq!(diffs, [base(), middle(), top()].map(|it| Digest::of(&it)));
        let chains: Vec<_> = info.layers.iter().map(|it| it.chain_id.clone()).collect();
        assert_eq!(chains, chain_ids(&diffs));
        assert_eq!(info.size_bytes, 6 + 3000 + 1, "bytes of files");
        let other = store.inspect(second.short()).unwrap();
        assert_eq!((&other.id, &other.layers[0]), (&second, &info.layers[0]));
        assert_ne!(other.layers[1], info.layers[2], "the same archive on another base");
        let content = |at: usize| tree(&driver.home().join("diff").join(&info.layers[at].layer));
        assert_eq!(content(0)["etc/passwd"], "root");
        let whiteout: Vec<_> = content(1).into_keys().collect();
        assert_eq!(whiteout, ["etc", "etc/.wh.passwd", "etc/shadow"]);
        assert_eq!(
            driver.ancestors(&info.layers[2].layer).unwrap(),
            [info.layers[1].layer.clone(), info.layers[0].layer.clone()]
        );
        let steps: Vec<_> = store
            .history("demo/one:1")
            .unwrap()
            .into_iter()
            .map(|it| (it.created_by.unwrap(), it.size_bytes))
            .collect();
        let expected = [("CMD", 0), ("step 2", 1), ("step 1", 3000), ("step 0", 6)];
        assert_eq!(steps, expected.map(|(step, size)| (step.to_owned(), size)));
    }
}

#[test]
fn root_what_is_saved_is_what_was_loaded() {
    if skip() {
        return;
    }
    let (layout, first, second) = two();
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let (here, there) = (open(&at("here")), open(&at("there")));
    let store = ImageStore::open(&here).unwrap();
    load(&store, &layout.directory(&at("it"))).unwrap();
    store.save(&["demo/one:1", second.short()], &at("saved.tar"), SaveForm::Archive).unwrap();
    store.save(&["demo/one:1"], &at("saved"), SaveForm::Directory).unwrap();
    let mut stream = Vec::new();
    store.save_stream(&["demo/one:1", second.short()], &mut stream).unwrap();
    assert!(fs::read(at("saved.tar")).unwrap() == stream, "the same images give the same bytes");

    let elsewhere = ImageStore::open(&there).unwrap();
    assert_eq!(load(&elsewhere, &at("saved.tar")).unwrap(), 4);
    assert_eq!(load(&elsewhere, &at("saved")).unwrap(), 0);
    let ids: Vec<_> =
        elsewhere.list().unwrap().into_iter().map(|it| (it.id, it.names[0].to_string())).collect();
    let mut expected = vec![(first, "demo/one:1".to_owned()), (second, "demo/two:1".to_owned())];
    expected.sort();
    assert_eq!(ids, expected);
    let trees = |driver: &Driver, store: &ImageStore<'_>| -> Vec<_> {
        let layers = store.inspect("demo/one:1").unwrap().layers;
        layers.iter().map(|it| tree(&driver.home().join("diff").join(&it.layer))).collect()
    };
    assert_eq!(trees(&here, &store), trees(&there, &elsewhere));

    // docker load of old read only this document, which names everything too.
    fs::remove_file(at("saved/index.json")).unwrap();
    let third = open(&at("third"));
    let old = ImageStore::open(&third).unwrap();
    assert_eq!(load(&old, &at("saved")).unwrap(), 3);
    assert_eq!(old.inspect("demo/one:1").unwrap().layers.len(), 3);

    // What was changed behind the driver's back is not passed for what was loaded.
    let layer = &store.inspect("demo/one:1").unwrap().layers[1].layer;
    fs::write(here.home().join("diff").join(layer).join("etc/shadow"), "x".repeat(3000)).unwrap();
    let error = *store.save(&["demo/one:1"], &at("again.tar"), SaveForm::Archive).unwrap_err().kind;
    assert!(matches!(error, ImageErrorKind::NotReproducible { .. }), "{error}");
    assert!(!at("again.tar").exists(), "no half archive shows");
    let left: Vec<_> = fs::read_dir(scratch.path()).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert_eq!(left.len(), 6, "{left:?}");
}

#[test]
fn root_removal_takes_what_nobody_else_has() {
    if skip() {
        return;
    }
    let (layout, first, second) = two();
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("root");
    let driver = open(&root);
    let store = ImageStore::open(&driver).unwrap();
    load(&store, &layout.directory(&scratch.path().join("it"))).unwrap();
    store.tag("demo/one:1", &"other".parse().unwrap()).unwrap();
    let removed = store.remove("demo/one:1").unwrap();
    assert_eq!((removed.image, removed.untagged.len(), removed.layers.len()), (None, 1, 0));
    assert_eq!(store.inspect("other").unwrap().id, first);
    assert!(matches!(*store.inspect("demo/one:1").unwrap_err().kind, ImageErrorKind::Unknown));
    store.tag(second.hex(), &"other".parse().unwrap()).unwrap();
    assert_eq!(store.inspect("other").unwrap().id, second, "a name moves");

    let top = store.inspect(&first.to_string()).unwrap().layers[2].layer.clone();
    let container = "container".parse().unwrap();
    driver.create(&container, Some(&top), &[]).unwrap();
    let refused = *store.remove(first.short()).unwrap_err().kind;
    assert!(matches!(&refused, ImageErrorKind::InUse { by } if by.contains("container")), "{refused}");
    driver.remove(&container, aufs_storage::driver::Removal::IfUnused).unwrap();
    let removed = store.remove(first.short()).unwrap();
    assert_eq!((removed.image, removed.layers.len()), (Some(first), 2));
    assert_eq!(counts(&driver, &root), (2, vec![1, 2, 2, 2, 0]));
    let removed = store.remove(second.short()).unwrap();
    assert_eq!((removed.untagged.len(), removed.layers.len()), (2, 2));
    assert_eq!(counts(&driver, &root), (0, vec![0; 5]));
    assert!(matches!(*store.remove("other").unwrap_err().kind, ImageErrorKind::Unknown));
}

#[test]
fn root_a_bad_image_leaves_nothing() {
    if skip() {
        return;
    }
    let (good, ..) = two();
    let blob = |bytes: &[u8]| format!("blobs/sha256/{}", Digest::of(bytes).hex());
    type Case = (&'static str, Layout, fn(&ImageErrorKind) -> bool);
    let mut cases: Vec<Case> = Vec::new();
    let mut case = |name, change: &dyn Fn(&mut Layout), expected| {
        let mut layout = good.clone();
        change(&mut layout);
        cases.push((name, layout, expected));
    };
    case("a missing blob", &|it| drop(it.members.remove(&blob(&top()))), |it| {
        matches!(it, ImageErrorKind::MissingMember { .. })
    });
    case("a blob cut short", &|it| it.members.get_mut(&blob(&top())).unwrap().truncate(600), |it| {
        matches!(it, ImageErrorKind::WrongDigest { .. })
    });
    case("a changed byte", &|it| it.members.get_mut(&blob(&top())).unwrap()[0] ^= 1, |it| {
        matches!(it, ImageErrorKind::WrongDigest { .. })
    });
    case("a changed index", &|it| it.members.get_mut("index.json").unwrap().truncate(9), |it| {
        matches!(it, ImageErrorKind::Malformed { .. })
    });
    case("no layout", &|it| it.members.retain(|name, _| name.starts_with("blobs")), |it| {
        matches!(it, ImageErrorKind::NotAnImage { .. })
    });
    case(
        "an archive that is not what the configuration says",
        &|it| {
            let mut other = Layout::default();
            other.image("x", &[(archive(&[("other", "")]), Form::Plain)]);
            let config = other.members.into_values().find(|it| it.starts_with(b"{\"architecture")).unwrap();
            *it = Layout::default();
            it.members.extend([(blob(&top()), top()), (blob(&config), config.clone())]);
            it.manifest("y", json!({
                "schemaVersion": 2,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": Digest::of(&config), "size": config.len()},
                "layers": [{"mediaType": Form::Plain.media(), "digest": Digest::of(&top()), "size": top().len()}],
            }));
        },
        |it| matches!(it, ImageErrorKind::WrongDigest { what, .. } if what.starts_with("the archive")),
    );
    case(
        "a layer of an unknown kind",
        &|it| {
            let config = it.members.values().find(|it| it.starts_with(b"{\"architecture")).unwrap().clone();
            it.manifest("z", json!({
                "schemaVersion": 2,
                "config": {"mediaType": "application/vnd.oci.image.config.v1+json",
                    "digest": Digest::of(&config), "size": config.len()},
                "layers": [{"mediaType": "text/plain", "digest": Digest::of(&top()), "size": top().len()}],
            }));
        },
        |it| matches!(it, ImageErrorKind::MediaType { .. }),
    );
    case(
        "a layer that leads out",
        &|it| {
            let mut bad = Layout::default();
            bad.image("bad", &[(base(), Form::Plain), (archive(&[("../out", "x")]), Form::Gzip)]);
            *it = bad;
        },
        |it| matches!(it, ImageErrorKind::Layer { .. }),
    );
    for (name, layout, expected) in cases {
        let scratch = tempfile::tempdir().unwrap();
        let root = scratch.path().join("root");
        let driver = open(&root);
        let store = ImageStore::open(&driver).unwrap();
        let error = load(&store, &layout.directory(&scratch.path().join("it"))).unwrap_err();
        assert!(expected(&error), "{name}: {error:?}");
        let (layers, records) = counts(&driver, &root);
        let whole: usize = records[0];
        assert!(whole == 0 && layers == 0 || whole == 1, "{name}: {layers} layers, {records:?}");
        let referred: usize = store.list().unwrap().iter().map(|it| it.layers.len()).sum();
        assert_eq!((layers, records[1], records[3], records[4]), (referred, referred, referred, 0), "{name}");
    }
}
