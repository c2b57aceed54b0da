//! Takes images in: layers are unpacked in parallel, everything is verified, and nothing shows before all of it is there.

use std::fs::File;
use std::io::{self, BufWriter, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;

use aufs_host::draft::Draft;
use flate2::Compression;
use flate2::write::GzEncoder;
use rayon::prelude::*;
use rustix::fs::AtFlags;
use rustix::io::Errno;
use serde::Serialize;
use tracing::debug;

use super::digest::{Digest, Hashing, chain_ids};
use super::error::{ImageError, ImageErrorKind, refused};
use super::layout::{self, Planned, PlannedLayer};
use super::reference::Reference;
use super::source::Source;
use super::split::Splitter;
use super::store::{ImageStore, LayerRecord, Tag};
use crate::archive::{ApplyOptions, CompressionLimits, apply, open_compressed};
use crate::error::failed;
use crate::id::LayerId;
use crate::pending::Pending;

/// How to load.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// How many layers are unpacked at once; 0 for as many as there are processors.
    pub threads: usize,
    /// How a layer is unpacked, and what it may cost.
    pub apply: ApplyOptions,
    /// How much more a layer may be than what it is compressed to.
    pub compression: CompressionLimits,
}

/// Hears how a load goes on; from several threads at once.
pub trait Progress: Sync {
    /// A layer is there already.
    fn shared(&self, _diff_id: &Digest) {}
    /// A layer of this length, as it is compressed, is unpacked from here on.
    fn begun(&self, _diff_id: &Digest, _len_bytes: u64) {}
    /// So much more of it was read.
    fn advanced(&self, _diff_id: &Digest, _by_bytes: u64) {}
    /// It is unpacked.
    fn ended(&self, _diff_id: &Digest) {}
}

/// Nobody listens.
impl Progress for () {}

/// An image that was loaded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Loaded {
    /// Digest of its configuration.
    pub id: Digest,
    /// What it is called from now on.
    pub names: Vec<Reference>,
    /// How many layers it has.
    pub layers: usize,
    /// How many of them were not there yet.
    pub new_layers: usize,
}

/// A layer on its way in.
struct Task<'p> {
    planned: &'p PlannedLayer,
    chain_id: Digest,
    layer: LayerId,
}

/// A layer that is unpacked and verified.
struct Unpacked<'s> {
    record: LayerRecord,
    split: Draft<'s>,
}

/// A layer of our own making, on layers that are there.
pub(crate) struct NewLayer {
    /// The archive of the topmost layer, without compression.
    pub(crate) archive: File,
    /// The configuration of the image, which names all its layers.
    pub(crate) config: Vec<u8>,
    /// What it is called.
    pub(crate) names: Vec<Reference>,
}

impl ImageStore<'_> {
    /// Takes in an image whose layers but for the topmost are there.
    pub(crate) fn add(&self, new: NewLayer) -> Result<Loaded, ImageErrorKind> {
        const MEMBER: &str = "the new layer";
        let source = Source::of_file(MEMBER, new.archive)?;
        let image = layout::of_parts(new.config, MEMBER, new.names)?;
        let _lock = self.lock()?;
        self.load_one(&source, &image, &LoadOptions::default(), &(), &threads(1)?)
    }

    /// Loads all images of an OCI layout or of what docker save wrote: a directory, or an archive, compressed or not.
    ///
    /// One load goes on at a time.
    ///
    /// # Errors
    ///
    /// What is wrong with the image, or what the host refuses; nothing of the image is there then.
    /// Images that came before it in the archive stay.
    pub fn load(
        &self,
        from: &Path,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, ImageError> {
        let load = || self.load_all(&Source::open(from, self.driver.home.drafts.as_fd())?, options, progress);
        load().map_err(|kind| kind.during("load", from.display()))
    }

    /// As [`ImageStore::load`], from a stream such as a pipe.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn load_stream(
        &self,
        stream: impl Read,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, ImageError> {
        let drafts = self.driver.home.drafts.as_fd();
        let load = || self.load_all(&Source::of_stream(stream, Path::new("-"), drafts)?, options, progress);
        load().map_err(|kind| kind.during("load", "the stream"))
    }

    fn load_all(
        &self,
        source: &Source,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Vec<Loaded>, ImageErrorKind> {
        let images = layout::plan(source)?;
        let pool = threads(options.threads)?;
        let _lock = self.lock()?;
        images.iter().map(|it| self.load_one(source, it, options, progress, &pool)).collect()
    }

    fn load_one(
        &self,
        source: &Source,
        image: &Planned,
        options: &LoadOptions,
        progress: &dyn Progress,
        pool: &rayon::ThreadPool,
    ) -> Result<Loaded, ImageErrorKind> {
        let (tasks, made) = self.prepare(image, progress)?;
        let unpack = |task: &Task<'_>| self.unpack(source, task, options, progress);
        let unpacked: Vec<Unpacked<'_>> =
            pool.install(|| tasks.par_iter().map(unpack).collect::<Result<_, _>>())?;
        // What the records will say is on disk before they say it.
        rustix::fs::syncfs(&self.driver.home.diff).map_err(failed("syncfs", self.driver.home()))?;
        for Unpacked { record, mut split } in unpacked {
            self.publish_split(&record.chain_id, &mut split)?;
            self.layers.put(record.chain_id.hex(), &record)?;
        }
        self.images.put_bytes(image.id.hex(), &image.config)?;
        made.keep()?;
        for reference in &image.names {
            let tag = Tag { reference: reference.clone(), image: image.id.clone() };
            self.tags.put(&reference.key(), &tag)?;
        }
        Ok(Loaded {
            id: image.id.clone(),
            names: image.names.clone(),
            layers: image.layers.len(),
            new_layers: tasks.len(),
        })
    }

    /// Creates the layers that are not there yet, empty; they go again unless they are kept.
    fn prepare<'p>(
        &self,
        image: &'p Planned,
        progress: &dyn Progress,
    ) -> Result<(Vec<Task<'p>>, Pending<'_>), ImageErrorKind> {
        let diff_ids: Vec<_> = image.layers.iter().map(|it| it.diff_id.clone()).collect();
        let (mut top, mut tasks) = (None, Vec::new());
        for (planned, chain_id) in image.layers.iter().zip(chain_ids(&diff_ids)) {
            if let Some(record) = self.layer_record(&chain_id)?
                && self.driver.exists(&record.layer)?
            {
                progress.shared(&planned.diff_id);
                top = Some(record.layer);
                continue;
            }
            let layer = LayerId::random().map_err(failed("getrandom", "a layer id"))?;
            tasks.push(Task { planned, chain_id, layer });
        }
        let layers = tasks.iter().map(|it: &Task<'_>| it.layer.clone()).collect();
        let made = Pending::note(self.driver, &self.pending, layers)?;
        for task in &tasks {
            self.driver.create(&task.layer, top.as_ref(), &[])?;
            top = Some(task.layer.clone());
        }
        Ok((tasks, made))
    }

    fn unpack(
        &self,
        source: &Source,
        task: &Task<'_>,
        options: &LoadOptions,
        progress: &dyn Progress,
    ) -> Result<Unpacked<'_>, ImageErrorKind> {
        let PlannedLayer { member, blob, diff_id } = task.planned;
        let (part, len_bytes) = source.member(member)?;
        progress.begun(diff_id, len_bytes);
        let mut hashing = Hashing::new(Watched { inner: part, progress, diff_id });
        let unpacked = self.unpack_from(&mut hashing, task, options);
        // A damaged blob shows in many ways; its digest says which it was.
        let whole = hashing.finish().map_err(refused("read", member.as_str()));
        if let (Some(expected), Ok((found, _))) = (blob, whole)
            && *expected != found
        {
            return Err(ImageErrorKind::WrongDigest {
                what: member.clone(),
                expected: expected.clone(),
                found,
            });
        }
        progress.ended(diff_id);
        unpacked
    }

    fn unpack_from(
        &self,
        blob: impl Read,
        task: &Task<'_>,
        options: &LoadOptions,
    ) -> Result<Unpacked<'_>, ImageErrorKind> {
        let expected = &task.planned.diff_id;
        let split_path = || self.splits_path.join(task.chain_id.hex());
        let split = Draft::file(self.splits.as_fd(), 0o600).map_err(failed("create", split_path()))?;
        let Some(split_file) = split.as_file() else {
            return Err(failed("create", split_path())(Errno::IO).into());
        };
        let dir = self.driver.home.open_diff(&task.layer)?;
        let opened = open_compressed(blob, &options.compression);
        let mut archive = Hashing::new(opened.map_err(refused("read", task.planned.member.as_str()))?);
        let records = GzEncoder::new(BufWriter::new(split_file), Compression::fast());
        let mut splitter = Splitter::new(&mut archive, records);
        let applied = apply(dir.as_fd(), &mut splitter, &options.apply)
            .map_err(|error| ImageErrorKind::Layer { diff_id: expected.clone(), error })?;
        // What follows the end of an archive counts for its digest.
        io::copy(&mut splitter, &mut io::sink()).map_err(refused("read", task.planned.member.as_str()))?;
        let ended = splitter.finish().and_then(|(_, records, is_whole)| {
            records.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            Ok(is_whole)
        });
        let is_reproducible = ended.map_err(refused("write", split_path()))?;
        let (found, archive_len_bytes) =
            archive.finish().map_err(refused("read", task.planned.member.as_str()))?;
        if found != *expected {
            let what = format!("the archive in {}", task.planned.member);
            return Err(ImageErrorKind::WrongDigest { what, expected: expected.clone(), found });
        }
        rustix::fs::fsync(split_file).map_err(failed("fsync", split_path()))?;
        let record = LayerRecord {
            chain_id: task.chain_id.clone(),
            diff_id: expected.clone(),
            layer: task.layer.clone(),
            size_bytes: applied.size_bytes,
            archive_len_bytes,
            is_reproducible,
        };
        Ok(Unpacked { record, split })
    }

    /// Gives the records of an archive their name, in the place of those of a load that did not end.
    fn publish_split(&self, chain_id: &Digest, split: &mut Draft<'_>) -> Result<(), ImageErrorKind> {
        match rustix::fs::unlinkat(&self.splits, chain_id.hex(), AtFlags::empty()) {
            Ok(()) => debug!(%chain_id, "records of an unfinished load are replaced"),
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(failed("unlink", self.splits_path.join(chain_id.hex()))(errno).into()),
        }
        let published = split.publish(&self.splits, chain_id.hex().as_ref());
        published.map_err(failed("link", self.splits_path.join(chain_id.hex())))?;
        Ok(rustix::fs::fsync(&self.splits).map_err(failed("fsync", &self.splits_path))?)
    }

    pub(super) fn splits(&self) -> BorrowedFd<'_> {
        self.splits.as_fd()
    }
}

fn threads(count: usize) -> Result<rayon::ThreadPool, ImageErrorKind> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(count).build();
    pool.map_err(|error| refused("start threads for", "the layers")(io::Error::other(error)))
}

/// Tells how far reading came.
struct Watched<'a, R> {
    inner: R,
    progress: &'a dyn Progress,
    diff_id: &'a Digest,
}

impl<R: Read> Read for Watched<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let len = self.inner.read(buffer)?;
        self.progress.advanced(self.diff_id, len as u64);
        Ok(len)
    }
}
