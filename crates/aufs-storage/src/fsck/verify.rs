//! Compares the files of layers with the archives they came from.

use std::fs::File;
use std::io;
use std::path::Path;

use rustix::fs::{Mode, OFlags};

use super::finding::{Fault, Finding, Remedy};
use super::read::Root;
use super::snapshot::layer_path;
use super::{Outcome, Report};
use crate::error::{StorageErrorKind, failed};
use crate::image::{LayerRecord, put_together};

/// Puts the archive of every layer together, as saving it does, and compares its digest.
pub(super) fn verify(root: &Root, report: &mut Report) -> Result<(), StorageErrorKind> {
    let snapshot = root.read()?;
    for record in snapshot.records.values().flatten() {
        let is_whole =
            snapshot.diffs.contains_key(&record.layer) && snapshot.splits.contains(&record.chain_id);
        if !is_whole {
            continue;
        }
        if !record.is_reproducible {
            report.unverifiable += 1;
            continue;
        }
        report.verified += 1;
        if let Some(reason) = difference(root, record)? {
            let why = "remove the image and load it again".to_owned();
            let finding = Finding {
                path: layer_path("diff", &record.layer),
                fault: Fault::Content { reason },
                remedy: Remedy::Leave(why),
                subject: Some(record.layer.clone()),
            };
            report.findings.push((finding, Outcome::Found));
        }
    }
    Ok(())
}

/// What is wrong with the files of a layer, if anything.
fn difference(root: &Root, record: &LayerRecord) -> Result<Option<String>, StorageErrorKind> {
    let path = layer_path("diff", &record.layer);
    let dir = root.open_below(&path).map_err(failed("open", root.path.join(&path)))?;
    let splits = Path::new("aufs-rs/splits");
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let split = root
        .open_below(splits)
        .and_then(|it| rustix::fs::openat(it, record.chain_id.hex(), flags, Mode::empty()))
        .map_err(failed("open", root.path.join(splits).join(record.chain_id.hex())))?;
    Ok(match put_together(&dir, File::from(split), io::sink()) {
        Err(error) => Some(error.to_string()),
        Ok(found) if found != record.diff_id => Some(format!("their archive has the digest {found}")),
        Ok(_) => None,
    })
}
