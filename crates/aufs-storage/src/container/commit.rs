//! Makes an image of a container: its image with what it changed as one more layer.

use std::fs::File;
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::os::fd::AsFd;

use aufs_host::draft::nameless_file;
use aufs_host::errno::errno_of;
use jiff::Timestamp;
use rustix::io::Errno;
use serde_json::{Value, json};

use super::error::{ContainerError, ContainerErrorKind};
use super::store::{Container, ContainerStore};
use crate::archive::PackOptions;
use crate::error::failed;
use crate::image::digest::{Digest, Hashing};
use crate::image::error::ImageErrorKind;
use crate::image::reference::Reference;
use crate::image::{Loaded, NewLayer};

/// What the history of the new image says of the step.
#[derive(Debug, Clone, Default)]
pub struct CommitOptions {
    /// What it is called.
    pub reference: Option<Reference>,
    /// Who made it.
    pub author: Option<String>,
    /// What is remarked.
    pub message: Option<String>,
}

impl ContainerStore<'_> {
    /// Makes an image of a container, started or not.
    ///
    /// What programs change meanwhile may be in it or not.
    ///
    /// # Errors
    ///
    /// What reading the layer reports, or a full disk; nothing of the image is there then.
    pub fn commit(&self, text: &str, options: &CommitOptions) -> Result<Loaded, ContainerError> {
        let commit = || -> Result<Loaded, ContainerErrorKind> {
            let container = self.find(text)?;
            let (archive, diff_id) = self.packed(&container)?;
            let config = self.images.config(&container.image.to_string())?;
            let config = next_config(&config, &diff_id, options, &Timestamp::now().to_string());
            let config = config.map_err(|reason| {
                let member = format!("the configuration {}", container.image);
                ImageErrorKind::Malformed { member, reason }.during("commit", &container.name)
            })?;
            let names = options.reference.iter().cloned().collect();
            let image = self.images.add(NewLayer { archive, config, names });
            Ok(image.map_err(|kind| kind.during("commit", &container.name))?)
        };
        commit().map_err(|kind| kind.during("commit", text))
    }

    /// Packs what a container changed into a file without a name.
    fn packed(&self, container: &Container) -> Result<(File, Digest), ContainerErrorKind> {
        let what = || self.driver.home().join("../aufs-rs/drafts");
        let file = nameless_file(self.driver.home.drafts.as_fd(), 0o600).map_err(failed("create", what()))?;
        let file = file.ok_or_else(|| failed("create", what())(Errno::OPNOTSUPP))?;
        let mut out = Hashing::new(BufWriter::new(file));
        let init = container.init()?;
        self.driver.diff(&container.id, Some(&init), &mut out, &PackOptions::default())?;
        let flushed = out.flush().map_err(errno_of);
        flushed.map_err(failed("write", what()))?;
        let (buffer, diff_id, _) = out.into_parts();
        let mut file =
            buffer.into_inner().map_err(|error| failed("write", what())(errno_of(error.into_error())))?;
        file.seek(SeekFrom::Start(0)).map_err(|error| failed("read", what())(errno_of(error)))?;
        Ok((file, diff_id))
    }
}

/// The configuration of an image with one more layer.
fn next_config(
    config: &[u8],
    diff_id: &Digest,
    options: &CommitOptions,
    now: &str,
) -> Result<Vec<u8>, String> {
    let mut config: Value = serde_json::from_slice(config).map_err(|error| error.to_string())?;
    let mut step = json!({"created": now, "created_by": "aufs container commit"});
    for (key, value) in [("author", &options.author), ("comment", &options.message)] {
        if let Some(value) = value {
            step[key] = json!(value);
        }
    }
    let diff_ids = config.pointer_mut("/rootfs/diff_ids").and_then(Value::as_array_mut);
    diff_ids.ok_or("no rootfs.diff_ids")?.push(json!(diff_id));
    let object = config.as_object_mut().ok_or("no object")?;
    object.insert("created".to_owned(), json!(now));
    if let Some(author) = &options.author {
        object.insert("author".to_owned(), json!(author));
    }
    let history = object.entry("history").or_insert_with(|| json!([]));
    if history.is_null() {
        *history = json!([]);
    }
    history.as_array_mut().ok_or("history is no list")?.push(step);
    serde_json::to_vec(&config).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_gains_a_layer_and_a_step() {
        let diff_id = Digest::of(b"layer");
        let options = CommitOptions { message: Some("why".to_owned()), ..CommitOptions::default() };
        let parent =
            br#"{"os":"linux","config":{"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:x"]},
            "created":"then","history":null,"of its own":1}"#;
        let next: Value =
            serde_json::from_slice(&next_config(parent, &diff_id, &options, "now").unwrap()).unwrap();
        let expected = json!({
            "os": "linux", "config": {"Cmd": ["sh"]}, "of its own": 1, "created": "now",
            "rootfs": {"type": "layers", "diff_ids": ["sha256:x", diff_id]},
            "history": [{"created": "now", "created_by": "aufs container commit", "comment": "why"}],
        });
        assert_eq!(next, expected);
        for bad in
            ["", "[]", "{}", r#"{"rootfs":{"diff_ids":1}}"#, r#"{"rootfs":{"diff_ids":[]},"history":1}"#]
        {
            assert!(next_config(bad.as_bytes(), &diff_id, &options, "now").is_err(), "{bad}");
        }
    }
}
