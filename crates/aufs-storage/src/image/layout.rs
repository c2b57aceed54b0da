//! Which images a layout holds: OCI's `index.json`, or the `manifest.json` that docker save writes.
//!
//! Everything but the layers is read and verified here.

use oci_spec::image::{Arch, Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, Os};
use serde::Deserialize;

use super::digest::Digest;
use super::error::ImageErrorKind;
use super::reference::Reference;
use super::source::Source;

/// An image that can be loaded.
#[derive(Debug)]
pub(crate) struct Planned {
    /// Digest of its configuration.
    pub(crate) id: Digest,
    /// Its configuration, byte for byte.
    pub(crate) config: Vec<u8>,
    /// What it is called.
    pub(crate) names: Vec<Reference>,
    /// Its layers, base first.
    pub(crate) layers: Vec<PlannedLayer>,
}

/// A layer of an image that can be loaded.
#[derive(Debug, Clone)]
pub(crate) struct PlannedLayer {
    /// Where its archive is.
    pub(crate) member: String,
    /// Digest of the member, where the layout says it.
    pub(crate) blob: Option<Digest>,
    /// Digest of the archive without compression.
    pub(crate) diff_id: Digest,
}

/// Most indexes within each other.
const DEPTH_MAX: usize = 4;

/// Names that index entries carry, the first that is there: containerd's, with the whole name, then OCI's.
const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// An entry of docker save's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// Returns the images of a layout.
pub(crate) fn plan(source: &Source) -> Result<Vec<Planned>, ImageErrorKind> {
    let docker = match source.document("manifest.json") {
        Err(ImageErrorKind::MissingMember { .. }) => None,
        other => Some(parse::<Vec<DockerImage>>("manifest.json", &other?)?),
    };
    let mut images = match source.document("index.json") {
        Err(ImageErrorKind::MissingMember { .. }) => Vec::new(),
        other => {
            let mut found = Vec::new();
            of_index(source, "index.json", &other?, DEPTH_MAX, &mut found)?;
            found
        }
    };
    for it in docker.into_iter().flatten() {
        let planned = of_docker(source, &it)?;
        match images.iter_mut().find(|it| it.id == planned.id) {
            // Both descriptions are of one image; here stand all its names.
            Some(known) => known.names = planned.names,
            None => images.push(planned),
        }
    }
    if images.is_empty() {
        let reason = "no index.json and no manifest.json that names an image for this machine".to_owned();
        return Err(ImageErrorKind::NotAnImage { reason });
    }
    Ok(images)
}

fn of_index(
    source: &Source,
    member: &str,
    bytes: &[u8],
    depth: usize,
    found: &mut Vec<Planned>,
) -> Result<(), ImageErrorKind> {
    if depth == 0 {
        return Err(malformed(member, format!("more than {DEPTH_MAX} indexes within each other")));
    }
    let index: ImageIndex = parse(member, bytes)?;
    for descriptor in index.manifests().iter().filter(|it| is_for_us(it)) {
        let (member, bytes) = verified(source, descriptor)?;
        let before = found.len();
        match descriptor.media_type() {
            MediaType::ImageIndex => of_index(source, &member, &bytes, depth - 1, found)?,
            MediaType::Other(it) if it == DOCKER_LIST => of_index(source, &member, &bytes, depth - 1, found)?,
            MediaType::ImageManifest => found.push(of_manifest(source, &member, &bytes)?),
            MediaType::Other(it) if it == DOCKER_MANIFEST => {
                found.push(of_manifest(source, &member, &bytes)?)
            }
            other => return Err(media_type(&member, other)),
        }
        if let Some(name) = names_of(descriptor) {
            found.iter_mut().skip(before).for_each(|it| it.names.push(name.clone()));
        }
    }
    Ok(())
}

/// Docker's own media types.
///
/// Source: `distribution/manifest/schema2` of distribution 2.8.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_LIST: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_LAYERS: [&str; 4] = [
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.diff.tar.gzip",
    "application/vnd.docker.image.rootfs.diff.tar.zstd",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
];

/// Whether a manifest is of an image that runs here; what does not say is.
fn is_for_us(descriptor: &Descriptor) -> bool {
    descriptor
        .platform()
        .as_ref()
        .is_none_or(|it| *it.os() == Os::Linux && *it.architecture() == Arch::default())
}

/// The names in an entry of an index; a bare tag is no name here.
fn names_of(descriptor: &Descriptor) -> Option<Reference> {
    let annotations = descriptor.annotations().as_ref()?;
    let text = NAME_ANNOTATIONS.iter().find_map(|it| annotations.get(*it))?;
    text.parse().ok()
}

fn of_manifest(source: &Source, member: &str, bytes: &[u8]) -> Result<Planned, ImageErrorKind> {
    let manifest: ImageManifest = parse(member, bytes)?;
    let (config_member, config) = verified(source, manifest.config())?;
    let layers = manifest.layers().iter().map(|it| {
        let (member, digest) = blob_of(it)?;
        let is_known = match it.media_type() {
            MediaType::ImageLayer
            | MediaType::ImageLayerGzip
            | MediaType::ImageLayerZstd
            | MediaType::ImageLayerNonDistributable
            | MediaType::ImageLayerNonDistributableGzip
            | MediaType::ImageLayerNonDistributableZstd => true,
            MediaType::Other(other) => DOCKER_LAYERS.contains(&other.as_str()),
            _ => false,
        };
        if is_known { Ok((member, Some(digest))) } else { Err(media_type(&member, it.media_type())) }
    });
    planned(&config_member, config, layers.collect::<Result<_, _>>()?, Vec::new())
}

fn of_docker(source: &Source, image: &DockerImage) -> Result<Planned, ImageErrorKind> {
    let config = source.document(&image.config)?;
    let layers = image.layers.iter().map(|it| (it.clone(), blob_in(it))).collect();
    let names = image.repo_tags.iter().flatten().map(|it| it.parse()).collect::<Result<_, _>>()?;
    let planned = planned(&image.config, config, layers, names)?;
    // The member is named by the digest, with `.json` after it or below `blobs/sha256`.
    let expected = image.config.strip_suffix(".json").map(|it| format!("sha256:{it}"));
    match expected.and_then(|it| it.parse().ok()).or(blob_in(&image.config)) {
        Some(expected) if planned.id != expected => {
            Err(ImageErrorKind::WrongDigest { what: image.config.clone(), expected, found: planned.id })
        }
        _ => Ok(planned),
    }
}

/// The digest that the name of a blob says it has.
fn blob_in(member: &str) -> Option<Digest> {
    let hex = member.rsplit('/').next().filter(|_| member.contains("blobs/sha256/"))?;
    format!("sha256:{hex}").parse().ok()
}

pub(super) fn planned(
    member: &str,
    config: Vec<u8>,
    layers: Vec<(String, Option<Digest>)>,
    names: Vec<Reference>,
) -> Result<Planned, ImageErrorKind> {
    let parsed: ImageConfiguration = parse(member, &config)?;
    let diff_ids = diff_ids(&parsed)?;
    if diff_ids.len() != layers.len() {
        let reason = format!("it names {} layers, and there are {}", diff_ids.len(), layers.len());
        return Err(malformed(member, reason));
    }
    if layers.is_empty() {
        return Err(malformed(member, "an image without layers".to_owned()));
    }
    let layers = layers.into_iter().zip(diff_ids);
    let layers = layers.map(|((member, blob), diff_id)| PlannedLayer { member, blob, diff_id }).collect();
    Ok(Planned { id: Digest::of(&config), config, names, layers })
}

/// An image whose topmost layer is `member`; the others are known by their DiffIDs alone.
pub(super) fn of_parts(
    config: Vec<u8>,
    member: &str,
    names: Vec<Reference>,
) -> Result<Planned, ImageErrorKind> {
    let parsed: ImageConfiguration = parse("the new configuration", &config)?;
    let layers = diff_ids(&parsed)?.iter().map(|_| (member.to_owned(), None)).collect();
    planned("the new configuration", config, layers, names)
}

/// The DiffIDs of a configuration, base first.
pub(crate) fn diff_ids(config: &ImageConfiguration) -> Result<Vec<Digest>, ImageErrorKind> {
    Ok(config.rootfs().diff_ids().iter().map(|it| it.parse()).collect::<Result<_, _>>()?)
}

fn blob_of(descriptor: &Descriptor) -> Result<(String, Digest), ImageErrorKind> {
    let digest: Digest = descriptor.digest().to_string().parse()?;
    Ok((format!("blobs/sha256/{}", digest.hex()), digest))
}

/// Reads what a descriptor describes.
fn verified(source: &Source, descriptor: &Descriptor) -> Result<(String, Vec<u8>), ImageErrorKind> {
    let (member, expected) = blob_of(descriptor)?;
    let bytes = source.document(&member)?;
    let found = Digest::of(&bytes);
    if found != expected {
        return Err(ImageErrorKind::WrongDigest { what: member, expected, found });
    }
    if bytes.len() as u64 != descriptor.size() {
        let reason = format!("{} bytes, and {} were said to be there", bytes.len(), descriptor.size());
        return Err(malformed(&member, reason));
    }
    Ok((member, bytes))
}

fn parse<T: serde::de::DeserializeOwned>(member: &str, bytes: &[u8]) -> Result<T, ImageErrorKind> {
    serde_json::from_slice(bytes).map_err(|error| malformed(member, error.to_string()))
}

fn malformed(member: &str, reason: String) -> ImageErrorKind {
    ImageErrorKind::Malformed { member: member.to_owned(), reason }
}

fn media_type(member: &str, media_type: &MediaType) -> ImageErrorKind {
    ImageErrorKind::MediaType { member: member.to_owned(), media_type: media_type.to_string() }
}
