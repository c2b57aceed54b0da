//! Writes images out as they came in: an OCI layout that docker load takes as well.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::Path;

use flate2::read::GzDecoder;
use oci_spec::image::{Descriptor, ImageIndex, ImageManifest, ImageManifestBuilder, MediaType};
use rustix::fs::{Mode, OFlags, ResolveFlags};
use rustix::io::Errno;
use serde::Serialize;
use serde_json::json;

use super::digest::{Digest, Hashing};
use super::error::{ImageError, ImageErrorKind, host, refused};
use super::reference::Reference;
use super::split::assemble;
use super::store::{ImageStore, LayerRecord};
use crate::error::failed;
use crate::output::write_whole;

/// In which form to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaveForm {
    /// A tar archive.
    Archive,
    /// A directory, which must not exist.
    Directory,
}

/// An image to be written.
struct Picked {
    id: Digest,
    config: Vec<u8>,
    names: Vec<Reference>,
    layers: Vec<LayerRecord>,
}

/// Writes the bytes of a member.
type Fill<'f> = &'f mut dyn FnMut(&mut dyn Write) -> io::Result<()>;

/// Where the members of a layout go.
trait Sink {
    /// Writes a member of this length by `fill`.
    fn member(&mut self, name: &str, len_bytes: u64, fill: Fill<'_>) -> io::Result<()>;
}

impl ImageStore<'_> {
    /// Writes images to `to`, which shows when all of it is there.
    ///
    /// # Errors
    ///
    /// [`NotReproducible`](ImageErrorKind::NotReproducible) for a layer whose files were changed behind the driver's
    /// back, or whose archive had entries that replaced each other; else what the host refuses.
    pub fn save(&self, texts: &[&str], to: &Path, form: SaveForm) -> Result<(), ImageError> {
        let save = || -> Result<(), ImageErrorKind> {
            match form {
                SaveForm::Archive => {
                    write_whole(to, |file| self.write(texts, file))?;
                }
                SaveForm::Directory => {
                    let parent =
                        to.parent().filter(|it| !it.as_os_str().is_empty()).unwrap_or(Path::new("."));
                    let draft = tempfile::tempdir_in(parent).map_err(ImageErrorKind::io("write", to))?;
                    self.put(texts, &mut DirectorySink(draft.path()))?;
                    rustix::fs::renameat_with(
                        rustix::fs::CWD,
                        draft.path(),
                        rustix::fs::CWD,
                        to,
                        rustix::fs::RenameFlags::NOREPLACE,
                    )
                    .map_err(host)
                    .map_err(ImageErrorKind::io("write", to))?;
                }
            }
            Ok(())
        };
        save().map_err(|kind| kind.during("save to", to.display()))
    }

    /// As [`ImageStore::save`], to a stream; on an error what was written is worth nothing.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn save_stream(&self, texts: &[&str], to: impl Write) -> Result<(), ImageError> {
        self.write(texts, to).map_err(|kind| kind.during("save to", "the stream"))
    }

    fn write(&self, texts: &[&str], to: impl Write) -> Result<(), ImageErrorKind> {
        let mut sink = ArchiveSink(io::BufWriter::new(to));
        self.put(texts, &mut sink)?;
        sink.end().map_err(refused("write", "the archive"))
    }

    fn put(&self, texts: &[&str], sink: &mut dyn Sink) -> Result<(), ImageErrorKind> {
        let mut picked = Vec::new();
        for text in texts {
            picked.push(self.pick(text)?);
        }
        let mut written = std::collections::HashSet::new();
        let (mut entries, mut docker) = (Vec::new(), Vec::new());
        for image in &picked {
            for record in &image.layers {
                if written.insert(record.diff_id.clone()) {
                    self.put_layer(record, sink)?;
                }
            }
            put_bytes(sink, &blob(&image.id), &image.config)?;
            let manifest = to_json(&manifest_of(image)?)?;
            put_bytes(sink, &blob(&Digest::of(&manifest)), &manifest)?;
            entries.extend(index_entries(image, &manifest)?);
            docker.push(json!({
                "Config": blob(&image.id),
                "RepoTags": image.names,
                "Layers": image.layers.iter().map(|it| blob(&it.diff_id)).collect::<Vec<_>>(),
            }));
        }
        let mut index = ImageIndex::default();
        index.set_schema_version(2);
        index.set_media_type(Some(MediaType::ImageIndex));
        index.set_manifests(entries);
        put_bytes(sink, "index.json", &to_json(&index)?)?;
        put_bytes(sink, "manifest.json", &to_json(&docker)?)?;
        put_bytes(sink, "oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)
    }

    fn pick(&self, text: &str) -> Result<Picked, ImageErrorKind> {
        let id = self.resolve(text)?;
        let config = self.images.bytes(id.hex())?.ok_or(ImageErrorKind::Unknown)?;
        // Who asks for a name gets that name, and who asks for an id all of them.
        let names = match text.parse::<Reference>() {
            Ok(reference) if self.tags.bytes(&reference.key())?.is_some() => vec![reference],
            _ => self.names()?.remove(&id).unwrap_or_default(),
        };
        let mut layers = Vec::new();
        for chain_id in self.chain_of(&id)? {
            layers.push(self.layer_record(&chain_id)?.ok_or(ImageErrorKind::Unknown)?);
        }
        Ok(Picked { id, config, names, layers })
    }

    fn put_layer(&self, record: &LayerRecord, sink: &mut dyn Sink) -> Result<(), ImageErrorKind> {
        let lost =
            |reason: String| ImageErrorKind::NotReproducible { diff_id: record.diff_id.clone(), reason };
        if !record.is_reproducible {
            return Err(lost("its archive had entries that replaced each other".to_owned()));
        }
        let dir = self.driver.home.open_diff(&record.layer)?;
        let flags = OFlags::RDONLY | OFlags::CLOEXEC;
        let split = rustix::fs::openat(&self.splits, record.chain_id.hex(), flags, Mode::empty())
            .map_err(failed("open", self.splits_path.join(record.chain_id.hex())))?;
        let mut digest = None;
        let mut fill = |out: &mut dyn Write| {
            digest = Some(put_together(&dir, File::from(split.try_clone()?), out)?);
            Ok(())
        };
        let filled = sink.member(&blob(&record.diff_id), record.archive_len_bytes, &mut fill);
        filled.map_err(|error| lost(error.to_string()))?;
        match digest {
            Some(found) if found == record.diff_id => Ok(()),
            _ => Err(lost("its files are not what they were".to_owned())),
        }
    }
}

/// Writes the archive of a layer, put together from its files and what was kept besides; returns its digest.
pub(crate) fn put_together(dir: &OwnedFd, split: File, out: impl Write) -> io::Result<Digest> {
    let mut hashing = Hashing::new(out);
    let records = io::BufReader::new(GzDecoder::new(split));
    assemble(records, |path| open_in(dir, path), &mut hashing)?;
    Ok(hashing.digest().0)
}

/// The name of what has this digest.
fn blob(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn put_bytes(sink: &mut dyn Sink, name: &str, bytes: &[u8]) -> Result<(), ImageErrorKind> {
    let written = sink.member(name, bytes.len() as u64, &mut |out| out.write_all(bytes));
    written.map_err(refused("write", name))
}

fn to_json(value: &impl Serialize) -> Result<Vec<u8>, ImageErrorKind> {
    // By way of a value, whose keys are sorted, so that the same images give the same bytes.
    serde_json::to_value(value).and_then(|it| serde_json::to_vec(&it)).map_err(|error| {
        ImageErrorKind::Malformed { member: "a document".to_owned(), reason: error.to_string() }
    })
}

fn descriptor(media_type: MediaType, digest: &Digest, len_bytes: u64) -> Result<Descriptor, ImageErrorKind> {
    let parsed = digest.to_string().parse::<oci_spec::image::Digest>();
    let digest = parsed.map_err(|error| ImageErrorKind::Malformed {
        member: digest.to_string(),
        reason: error.to_string(),
    })?;
    Ok(Descriptor::new(media_type, len_bytes, digest))
}

fn manifest_of(image: &Picked) -> Result<ImageManifest, ImageErrorKind> {
    let layers = image.layers.iter();
    let layers = layers.map(|it| descriptor(MediaType::ImageLayer, &it.diff_id, it.archive_len_bytes));
    ImageManifestBuilder::default()
        .schema_version(2_u32)
        .media_type(MediaType::ImageManifest)
        .config(descriptor(MediaType::ImageConfig, &image.id, image.config.len() as u64)?)
        .layers(layers.collect::<Result<Vec<_>, ImageErrorKind>>()?)
        .build()
        .map_err(|error| ImageErrorKind::Malformed {
            member: "a manifest".to_owned(),
            reason: error.to_string(),
        })
}

/// An entry of the index for each name, or one without a name.
fn index_entries(image: &Picked, manifest: &[u8]) -> Result<Vec<Descriptor>, ImageErrorKind> {
    let entry = descriptor(MediaType::ImageManifest, &Digest::of(manifest), manifest.len() as u64)?;
    if image.names.is_empty() {
        return Ok(vec![entry]);
    }
    let named = image.names.iter().map(|name| {
        let mut entry = entry.clone();
        let annotations = [
            ("io.containerd.image.name", name.to_string()),
            ("org.opencontainers.image.ref.name", name.tag().to_owned()),
        ];
        entry.set_annotations(Some(annotations.map(|(key, value)| (key.to_owned(), value)).into()));
        entry
    });
    Ok(named.collect())
}

/// Opens a file of a layer; links lead no further than to its root.
fn open_in(dir: &OwnedFd, path: &std::ffi::OsStr) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let opened = rustix::fs::openat2(dir, path, flags, Mode::empty(), ResolveFlags::IN_ROOT);
    let file = File::from(opened.map_err(host)?);
    if file.metadata()?.is_file() { Ok(file) } else { Err(host(Errno::INVAL)) }
}

/// Counts what is written.
struct Counted<'w> {
    inner: &'w mut dyn Write,
    len_bytes: u64,
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = self.inner.write(bytes)?;
        self.len_bytes += len as u64;
        Ok(len)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Has a member written, which must get the length that was promised.
fn fill_exactly(out: &mut dyn Write, len_bytes: u64, fill: Fill<'_>) -> io::Result<()> {
    let mut counted = Counted { inner: out, len_bytes: 0 };
    fill(&mut counted)?;
    if counted.len_bytes == len_bytes {
        Ok(())
    } else {
        Err(io::Error::other(format!("{} bytes instead of {len_bytes}", counted.len_bytes)))
    }
}

struct ArchiveSink<W: Write>(W);

impl<W: Write> ArchiveSink<W> {
    fn end(mut self) -> io::Result<()> {
        self.0.write_all(&[0; 1024])?;
        self.0.flush()
    }
}

impl<W: Write> Sink for ArchiveSink<W> {
    fn member(&mut self, name: &str, len_bytes: u64, fill: Fill<'_>) -> io::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_path(name)?;
        header.set_mode(0o644);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(len_bytes);
        header.set_cksum();
        self.0.write_all(header.as_bytes())?;
        fill_exactly(&mut self.0, len_bytes, fill)?;
        let padding = usize::try_from(len_bytes.next_multiple_of(512) - len_bytes).unwrap_or_default();
        self.0.write_all(&[0; 512][..padding])
    }
}

struct DirectorySink<'p>(&'p Path);

impl Sink for DirectorySink<'_> {
    fn member(&mut self, name: &str, len_bytes: u64, fill: Fill<'_>) -> io::Result<()> {
        let path = self.0.join(name);
        if let Some(parent) = path.parent() {
            std::fs::create_dir_all(parent)?;
        }
        let mut out = io::BufWriter::new(File::create(path)?);
        fill_exactly(&mut out, len_bytes, fill)?;
        out.flush()?;
        out.get_ref().sync_all()
    }
}
