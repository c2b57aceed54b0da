//! A data root with two images and a container, to be damaged.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use aufs_storage::container::ContainerStore;
use aufs_storage::driver::Driver;
use aufs_storage::fsck::{FsckOptions, Outcome, Report, fsck};
use aufs_storage::id::LayerId;
use aufs_storage::image::digest::{Digest, chain_ids};
use aufs_storage::image::{ImageStore, LoadOptions};
use aufs_testkit::layers::archive;
use serde_json::{Value, json};

use super::{Form, Layout, open};

/// The container's id, and its layer.
pub const CONTAINER: &str = "c0ffee";

/// A process that there never is.
pub const DEAD: i32 = i32::MAX;

/// A data root; copies of it are as it was.
pub struct Bed {
    base: tempfile::TempDir,
    /// Layers of the first image, base first.
    pub layers: Vec<LayerId>,
    chains: Vec<Digest>,
    images: [Digest; 2],
}

impl Bed {
    /// An image of three layers, one that shares its base, and a container of the first.
    pub fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let mut layout = Layout::default();
        let bottom = archive(&[("etc/", ""), ("etc/passwd", "root"), ("etc/group", "wheel")]);
        let middle = archive(&[("etc/", ""), ("etc/.wh.group", "")]);
        let top = archive(&[("etc/", ""), ("etc/hosts", "localhost")]);
        let other = archive(&[("srv/", ""), ("srv/.wh..wh..opq", ""), ("srv/file", "other")]);
        let one = [(bottom.clone(), Form::Gzip), (middle, Form::Plain), (top, Form::Zstd)];
        let one = layout.image("demo/one:1", &one);
        let two = layout.image("demo/two:1", &[(bottom, Form::Gzip), (other, Form::Plain)]);
        let from = layout.directory(&base.path().join("images"));
        let driver = open(&base.path().join("root"));
        let containers = ContainerStore::open(&driver).unwrap();
        let store = containers.images();
        store.load(&from, &LoadOptions::default(), &()).unwrap();
        let info = store.inspect("demo/one:1").unwrap();
        let layers: Vec<_> = info.layers.iter().map(|it| it.layer.clone()).collect();
        let chains = info.layers.iter().map(|it| it.chain_id.clone()).collect();
        let bed = Self { base, layers, chains, images: [one, two] };
        bed.contain(&driver);
        bed
    }

    /// A data root that nobody has opened.
    pub fn empty() -> Self {
        let digest = Digest::of(b"");
        let bed = Self {
            base: tempfile::tempdir().unwrap(),
            layers: Vec::new(),
            chains: Vec::new(),
            images: [digest.clone(), digest],
        };
        fs::create_dir(bed.root()).unwrap();
        bed
    }

    /// Makes a container, as its store does, but for the mount of its init layer.
    fn contain(&self, driver: &Driver) {
        let (own, init) = (CONTAINER.parse().unwrap(), format!("{CONTAINER}-init").parse().unwrap());
        driver.create(&init, self.layers.last(), &[]).unwrap();
        driver.create(&own, Some(&init), &[]).unwrap();
        self.write(format!("aufs/diff/{CONTAINER}-init/.dockerenv"), "");
        self.write(format!("aufs/diff/{CONTAINER}/etc/passwd"), "changed");
        self.write(format!("aufs/diff/{CONTAINER}/etc/.wh.hosts"), "");
        let container = json!({
            "id": CONTAINER, "name": "one", "image": self.images[0], "image_name": "demo/one:1",
            "created": "2020-02-03T04:05:06Z", "volumes": [], "is_started": false,
        });
        self.write(format!("aufs-rs/containers/{CONTAINER}.json"), &container.to_string());
    }

    /// The same data root elsewhere.
    pub fn copy(&self) -> Self {
        let base = tempfile::tempdir().unwrap();
        let copied = Command::new("cp").arg("-a").arg(self.root()).arg(base.path()).status().unwrap();
        assert!(copied.success());
        let (layers, chains, images) = (self.layers.clone(), self.chains.clone(), self.images.clone());
        Self { base, layers, chains, images }
    }

    pub fn root(&self) -> PathBuf {
        self.base.path().join("root")
    }

    pub fn at(&self, path: impl AsRef<Path>) -> PathBuf {
        self.root().join(path)
    }

    /// A part of a layer of the first image.
    pub fn part(&self, part: &str, layer: usize) -> PathBuf {
        self.at("aufs").join(part).join(&self.layers[layer])
    }

    pub fn write(&self, path: impl AsRef<Path>, text: &str) {
        let path = self.at(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    pub fn directory(&self, path: &str) {
        fs::create_dir(self.at(path)).unwrap();
    }

    pub fn remove(&self, path: impl AsRef<Path>) {
        let path = self.at(path);
        let is_dir = fs::symlink_metadata(&path).unwrap().is_dir();
        if is_dir { fs::remove_dir_all(path) } else { fs::remove_file(path) }.unwrap();
    }

    /// Moves what is there away, and leaves a link to it.
    pub fn replace_by_link(&self, path: &Path) {
        let away =
            (0..).map(|it| self.base.path().join(format!("away{it}"))).find(|it| !it.exists()).unwrap();
        fs::rename(path, &away).unwrap();
        symlink(away, path).unwrap();
    }

    /// Names in a directory, sorted.
    pub fn names(&self, dir: impl AsRef<Path>) -> Vec<String> {
        let entries = fs::read_dir(self.at(dir)).unwrap();
        let mut names: Vec<_> = entries.map(|it| it.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    /// The first entry of a directory.
    pub fn first(&self, dir: &str) -> PathBuf {
        Path::new(dir).join(&self.names(dir)[0])
    }

    pub fn image_file(&self, at: usize) -> PathBuf {
        Path::new("aufs-rs/images").join(format!("{}.json", self.images[at].hex()))
    }

    pub fn record_of(&self, layer: usize) -> PathBuf {
        Path::new("aufs-rs/layers").join(format!("{}.json", self.chains[layer].hex()))
    }

    pub fn split_of(&self, layer: usize) -> PathBuf {
        Path::new("aufs-rs/splits").join(self.chains[layer].hex())
    }

    pub fn count(&self, layer: usize, says: &Value) {
        self.write(Path::new("aufs-rs/counts").join(&self.layers[layer]), &says.to_string());
    }

    pub fn note(&self, layers: &[&str]) {
        self.write("aufs-rs/pending/note.json", &json!({"layers": layers}).to_string());
    }

    pub fn record(&self, chain: &str, layer: &str) {
        let record = json!({
            "chain_id": format!("sha256:{chain}"), "diff_id": format!("sha256:{chain}"), "layer": layer,
            "size_bytes": 0, "archive_len_bytes": 0, "is_reproducible": true,
        });
        self.write(format!("aufs-rs/layers/{chain}.json"), &record.to_string());
    }

    pub fn tag(&self, name: &str, image: &str) {
        let key = Digest::of(name.as_bytes());
        let tag = json!({"reference": name, "image": format!("sha256:{image}")});
        self.write(format!("aufs-rs/tags/{}.json", key.hex()), &tag.to_string());
    }

    /// Two layers, `y` on `x`, that nothing of ours tells of.
    pub fn orphans(&self) {
        let (driver, x) = (open(&self.root()), "x".parse().unwrap());
        driver.create(&x, None, &[]).unwrap();
        driver.create(&"y".parse().unwrap(), Some(&x), &[]).unwrap();
        self.write("aufs/diff/x/file", "x");
        self.write("aufs/diff/y/.wh.file", "");
    }

    pub fn load(&self, from: &Self) {
        let driver = open(&self.root());
        let store = ImageStore::open(&driver).unwrap();
        store.load(&from.base.path().join("images"), &LoadOptions::default(), &()).unwrap();
    }

    /// Every object that a driver or a store has, and the directories they lie in, sorted.
    pub fn objects(&self) -> Vec<PathBuf> {
        let mut objects = Vec::new();
        for top in ["aufs", "aufs-rs"] {
            for entry in list(&self.at(top)) {
                objects.extend(list(&entry));
                objects.push(entry);
            }
        }
        objects.sort();
        objects
    }

    /// What no repair may touch: all that images and containers lead to whose records are what they say they are,
    /// and every layer while one of those records, or what a name stands for, is not there or not that.
    ///
    /// Read from the files alone, by another way than the code that is tested.
    pub fn good(&self) -> Vec<PathBuf> {
        let (mut good, mut layers, mut is_sure) = (Vec::new(), Vec::new(), true);
        for (path, key) in self.records("images") {
            let bytes = read(&path);
            if Digest::of(&bytes).hex() != key {
                is_sure = false;
                continue;
            }
            good.push(path);
            let config: Value = serde_json::from_slice(&bytes).unwrap();
            let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
            let diff_ids: Vec<Digest> =
                diff_ids.iter().map(|it| it.as_str().unwrap().parse().unwrap()).collect();
            for chain_id in chain_ids(&diff_ids) {
                let path = self.at(format!("aufs-rs/layers/{}.json", chain_id.hex()));
                match layer_of(&path, chain_id.hex()) {
                    Some(layer) => {
                        layers.push(layer);
                        good.extend([path, self.at(format!("aufs-rs/splits/{}", chain_id.hex()))]);
                    }
                    None => is_sure = false,
                }
            }
        }
        is_sure &= self.records("layers").iter().all(|(path, key)| layer_of(path, key).is_some());
        for (path, key) in self.records("containers") {
            is_sure &= json(&path)["id"] == key;
            // Where nothing of its layer is left, a removal took it.
            let has_part = |it: &str| fs::symlink_metadata(self.at(format!("aufs/{it}/{key}"))).is_ok();
            if ["layers", "diff", "mnt"].into_iter().any(has_part) {
                layers.extend([key.clone(), format!("{key}-init")]);
                good.push(path);
            }
        }
        for (path, key) in self.records("tags") {
            let tag = json(&path);
            let image = tag["image"].as_str().and_then(|it| it.strip_prefix("sha256:"));
            let has_image = image.is_some_and(|it| self.at(format!("aufs-rs/images/{it}.json")).exists());
            let is_named = tag["reference"].as_str().is_some_and(|it| Digest::of(it.as_bytes()).hex() == key);
            match (is_named, has_image) {
                (true, true) => good.push(path),
                (true, false) => is_sure = false,
                (false, _) => {}
            }
        }
        if !is_sure {
            let all = list(&self.at("aufs/diff")).into_iter().filter(|it| !list(it).is_empty());
            let names = all.map(|it| it.file_name().unwrap().to_str().unwrap().to_owned());
            layers.extend(names.filter(|it| !it.ends_with("-removing")));
        }
        for layer in layers {
            let mut left = vec![self.at(format!("aufs/diff/{layer}"))];
            while let Some(path) = left.pop() {
                left.extend(list(&path));
                good.push(path);
            }
        }
        good
    }

    /// Objects with their keys.
    fn records(&self, dir: &str) -> Vec<(PathBuf, String)> {
        let stem = |it: &Path| it.file_stem().unwrap().to_str().unwrap().to_owned();
        list(&self.at("aufs-rs").join(dir)).into_iter().map(|it| (it.clone(), stem(&it))).collect()
    }

    /// Both images as they are saved, under their names.
    pub fn saved(&self) -> Vec<u8> {
        let driver = open(&self.root());
        let store = ImageStore::open(&driver).unwrap();
        let mut saved = Vec::new();
        for (id, name) in self.images.iter().zip(["demo/one:1", "demo/two:1"]) {
            store.tag(&id.to_string(), &name.parse().unwrap()).unwrap();
            store.save_stream(&[name], &mut saved).unwrap();
        }
        saved
    }

    /// What the container changed, while that is there.
    pub fn changed(&self) -> Option<String> {
        fs::read_to_string(self.at(format!("aufs/diff/{CONTAINER}/etc/passwd"))).ok()
    }
}

/// Damage, and the kinds of what is found then.
pub type Case = (&'static str, fn(&Bed), &'static [&'static str]);

pub const LOOK: FsckOptions = FsckOptions { repair: false, verify: false };
pub const REPAIR: FsckOptions = FsckOptions { repair: true, verify: false };

/// Looks, and fails unless these kinds are found and nothing is changed.
pub fn found(bed: &Bed, case: &str, kinds: &[&str]) {
    let before = state(&bed.root());
    let report = fsck(&bed.root(), LOOK).unwrap();
    assert_eq!(left(&report), kinds, "{case}: {report:#?}");
    assert!(before == state(&bed.root()), "{case}: looking changed something");
}

/// The kinds of what was found and not mended, sorted.
pub fn left(report: &Report) -> Vec<String> {
    let kind = |it: &_| serde_json::to_value(it).unwrap()["kind"].as_str().unwrap().to_owned();
    let left = report.findings.iter().filter(|it| it.1 != Outcome::Repaired);
    let mut kinds: Vec<String> = left.map(|it| kind(&it.0.fault)).collect();
    kinds.sort();
    kinds
}

/// What a directory holds; nothing where there is none, and nothing through a link.
fn list(dir: &Path) -> Vec<PathBuf> {
    if !fs::symlink_metadata(dir).is_ok_and(|it| it.is_dir()) {
        return Vec::new();
    }
    fs::read_dir(dir).unwrap().map(|it| it.unwrap().path()).collect()
}

/// The bytes of a file, but of nothing else.
fn read(path: &Path) -> Vec<u8> {
    let is_file = fs::symlink_metadata(path).is_ok_and(|it| it.is_file());
    if is_file { fs::read(path).unwrap() } else { Vec::new() }
}

fn json(path: &Path) -> Value {
    serde_json::from_slice(&read(path)).unwrap_or_default()
}

/// The layer of a record, if it tells of that stack.
fn layer_of(path: &Path, chain: &str) -> Option<String> {
    let record = json(path);
    let is_named = record["chain_id"].as_str() == Some(&format!("sha256:{chain}"));
    record["layer"].as_str().filter(|_| is_named).map(str::to_owned)
}

/// All that a tree holds, with the times of its changes but not those of its reads.
pub fn state(root: &Path) -> BTreeMap<PathBuf, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(path) = left.pop() {
        let meta = fs::symlink_metadata(&path).unwrap();
        let content = if meta.is_dir() {
            left.extend(fs::read_dir(&path).unwrap().map(|it| it.unwrap().path()));
            String::new()
        } else if meta.is_symlink() {
            fs::read_link(&path).unwrap().display().to_string()
        } else {
            Digest::of(&fs::read(&path).unwrap()).to_string()
        };
        let numbers = [meta.mode().into(), meta.ino(), meta.nlink(), meta.uid().into(), meta.len()];
        let times = [meta.mtime(), meta.mtime_nsec(), meta.ctime(), meta.ctime_nsec()];
        found.insert(path, format!("{numbers:?} {times:?} {content}"));
    }
    found
}
