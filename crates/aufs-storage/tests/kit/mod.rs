//! Images made from files that a test names, and data roots to load them into.
#![allow(
    clippy::unwrap_used,
    dead_code,
    reason = "shared by test programs; a test that cannot prepare has failed"
)]

pub mod damage;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use aufs_storage::driver::{Driver, DriverOptions};
use aufs_storage::image::digest::Digest;
use aufs_testkit::needs::{Need, skips};
use serde_json::{Value, json};

/// Whether the test cannot run here; says why.
pub fn skip() -> bool {
    skips(&[Need::Root])
}

pub fn open(root: &Path) -> Driver {
    Driver::open(root, DriverOptions::default()).unwrap()
}

/// How a layer lies in a layout.
#[derive(Debug, Clone, Copy)]
pub enum Form {
    Plain,
    Gzip,
    Zstd,
}

impl Form {
    fn pack(self, archive: &[u8]) -> Vec<u8> {
        match self {
            Self::Plain => archive.to_vec(),
            Self::Gzip => {
                let mut out = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                out.write_all(archive).unwrap();
                out.finish().unwrap()
            }
            Self::Zstd => zstd::encode_all(archive, 1).unwrap(),
        }
    }

    pub fn media(self) -> &'static str {
        match self {
            Self::Plain => "application/vnd.oci.image.layer.v1.tar",
            Self::Gzip => "application/vnd.oci.image.layer.v1.tar+gzip",
            Self::Zstd => "application/vnd.oci.image.layer.v1.tar+zstd",
        }
    }
}

/// An OCI image layout in the making: members by name.
#[derive(Debug, Clone, Default)]
pub struct Layout {
    pub members: BTreeMap<String, Vec<u8>>,
    manifests: Vec<Value>,
}

impl Layout {
    fn blob(&mut self, bytes: Vec<u8>) -> (String, usize) {
        let digest = Digest::of(&bytes);
        let len = bytes.len();
        self.members.insert(format!("blobs/sha256/{}", digest.hex()), bytes);
        (digest.to_string(), len)
    }

    /// Adds an image of these layers, base first; returns its id.
    pub fn image(&mut self, name: &str, layers: &[(Vec<u8>, Form)]) -> Digest {
        let diff_ids: Vec<_> = layers.iter().map(|it| Digest::of(&it.0)).collect();
        let history = |at: usize| json!({"created_by": format!("step {at}")});
        let mut steps: Vec<_> = (0..layers.len()).map(history).collect();
        steps.push(json!({"created_by": "CMD", "empty_layer": true}));
        let config = json!({
            "created": "2020-02-03T04:05:06Z", "architecture": "amd64", "os": "linux",
            "config": {"Cmd": ["/bin/sh"]},
            "rootfs": {"type": "layers", "diff_ids": diff_ids}, "history": steps,
        });
        let config = serde_json::to_vec(&config).unwrap();
        let id = Digest::of(&config);
        let (config_digest, config_len) = self.blob(config);
        let layers: Vec<_> = layers
            .iter()
            .map(|(archive, form)| {
                let (digest, size) = self.blob(form.pack(archive));
                json!({"mediaType": form.media(), "digest": digest, "size": size})
            })
            .collect();
        let manifest = json!({
            "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {
                "mediaType": "application/vnd.oci.image.config.v1+json",
                "digest": config_digest, "size": config_len,
            },
            "layers": layers,
        });
        self.manifest(name, manifest);
        id
    }

    /// Adds a manifest as it is.
    pub fn manifest(&mut self, name: &str, manifest: Value) {
        let (digest, size) = self.blob(serde_json::to_vec(&manifest).unwrap());
        self.manifests.push(json!({
            "mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": digest, "size": size,
            "annotations": {"io.containerd.image.name": name},
        }));
        let index = json!({"schemaVersion": 2, "manifests": self.manifests});
        self.members.insert("index.json".to_owned(), serde_json::to_vec(&index).unwrap());
        self.members.insert("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec());
    }

    /// Writes the layout as a directory.
    pub fn directory(&self, at: &Path) -> PathBuf {
        for (name, bytes) in &self.members {
            let path = at.join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, bytes).unwrap();
        }
        at.to_owned()
    }

    /// The layout as an archive.
    pub fn archived(&self) -> Vec<u8> {
        let mut builder = tar::Builder::new(Vec::new());
        for (name, bytes) in &self.members {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            builder.append_data(&mut header, name, bytes.as_slice()).unwrap();
        }
        builder.into_inner().unwrap()
    }
}

/// Each path below a directory with its content, or `/` for a directory.
pub fn tree(root: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    let mut left = vec![root.to_owned()];
    while let Some(dir) = left.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            if path.is_dir() {
                found.insert(name, "/".to_owned());
                left.push(path);
            } else {
                found.insert(name, fs::read_to_string(path).unwrap());
            }
        }
    }
    found
}
