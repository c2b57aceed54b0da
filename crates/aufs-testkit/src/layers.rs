//! Layers as archives, and images of them as `docker save` writes those.
#![expect(clippy::unwrap_used, reason = "a test that cannot prepare has failed")]

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::dump::hex;

/// Returns an archive of files, each a path and its content; a path that ends in a slash is a directory.
///
/// # Panics
///
/// A path is longer than a header holds.
pub fn archive(files: &[(&str, &str)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, text) in files {
        let mut header = tar::Header::new_ustar();
        let is_dir = path.ends_with('/');
        header.set_entry_type(if is_dir { tar::EntryType::Directory } else { tar::EntryType::Regular });
        header.set_mode(if is_dir { 0o755 } else { 0o644 });
        header.set_mtime(1_000_000_000);
        header.set_size(text.len() as u64);
        // Written as it is, since the crate refuses names that lead out.
        header.as_old_mut().name[..path.len()].copy_from_slice(path.as_bytes());
        header.set_cksum();
        builder.append(&header, text.as_bytes()).unwrap();
    }
    builder.into_inner().unwrap()
}

/// Writes an image of these layers, base first, into a directory, as `docker save` does; `config` is for its containers.
///
/// # Panics
///
/// The directory cannot be written to.
pub fn docker_save(dir: &Path, name: &str, config: &Value, layers: &[Vec<u8>]) {
    fs::create_dir_all(dir).unwrap();
    let diff_ids = layers.iter().map(|it| format!("sha256:{}", hex(&Sha256::digest(it))));
    let image = json!({
        "architecture": "amd64", "os": "linux", "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids.collect::<Vec<_>>()},
    });
    fs::write(dir.join("config.json"), image.to_string()).unwrap();
    let members: Vec<_> = (0..layers.len()).map(|at| format!("{at}.tar")).collect();
    for (member, layer) in members.iter().zip(layers) {
        fs::write(dir.join(member), layer).unwrap();
    }
    let manifest = json!([{"Config": "config.json", "RepoTags": [name], "Layers": members}]);
    fs::write(dir.join("manifest.json"), manifest.to_string()).unwrap();
}
