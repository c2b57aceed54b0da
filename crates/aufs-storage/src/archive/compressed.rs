//! Layers as they are distributed: plain, or compressed by gzip or zstd.

use std::io::{self, BufReader, Chain, Cursor, Read};

use flate2::bufread::MultiGzDecoder;
use zstd::stream::read::Decoder;

/// How much of the compressed stream is read at once.
const BUFFER_LEN_BYTES: usize = 256 << 10;

/// Largest window of a zstd stream, as a power of two, and so what decoding takes of memory: 128 MiB, which is what
/// decoders must support without being asked.
const WINDOW_LOG_MAX: u32 = 27;

/// Bytes of the beginning that tell the forms apart.
const MAGIC_LEN_MAX: usize = 6;

/// What a compressed stream may become; more ends it with [`CompressionError`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompressionLimits {
    /// Bytes of the stream once it is unpacked. Default: 128 GiB.
    pub bytes: u64,
    /// Bytes unpacked for each byte read, on the average so far. Default: 500; text has 5, empty disk images have 1000.
    pub ratio: u64,
    /// Bytes unpacked up to which the ratio does not count. Default: 256 MiB.
    pub ratio_from_bytes: u64,
}

impl Default for CompressionLimits {
    fn default() -> Self {
        Self { bytes: 128 << 30, ratio: 500, ratio_from_bytes: 256 << 20 }
    }
}

/// A compressed stream is damaged, or becomes too much; found in the [`io::Error`] that reading it reports.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CompressionError {
    /// It becomes longer than [`CompressionLimits::bytes`].
    #[error("more than {max} bytes once it is unpacked")]
    Bytes {
        /// The limit.
        max: u64,
    },
    /// It grows more than [`CompressionLimits::ratio`].
    #[error("more than {max} bytes for each compressed one")]
    Ratio {
        /// The limit.
        max: u64,
    },
    /// It is cut off, or no such stream at all.
    #[error("the {form} stream is damaged")]
    Damaged {
        /// `gzip` or `zstd`.
        form: &'static str,
        /// What the decoder says.
        #[source]
        error: io::Error,
    },
    /// It is compressed in a way that no layer is.
    #[error("{0} is not supported")]
    Unsupported(&'static str),
}

/// Counts what is read, and remembers whether that failed.
#[derive(Debug)]
struct Counted<R> {
    input: R,
    count: u64,
    has_failed: bool,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.input.read(buffer) {
            Ok(count) => {
                self.count += count as u64;
                Ok(count)
            }
            Err(error) => {
                self.has_failed = error.kind() != io::ErrorKind::Interrupted;
                Err(error)
            }
        }
    }
}

/// What was read of the beginning, and the rest.
type Source<R> = Counted<Chain<Cursor<Vec<u8>>, R>>;

type Input<R> = BufReader<Source<R>>;

/// The uncompressed bytes of a layer; see [`open_compressed`].
#[expect(missing_debug_implementations, reason = "the decoder of zstd has none")]
pub struct Decompressed<R: Read> {
    form: Form<R>,
    limits: CompressionLimits,
    count: u64,
}

enum Form<R: Read> {
    Plain(Input<R>),
    Gzip(Box<MultiGzDecoder<Input<R>>>),
    Zstd(Decoder<'static, Input<R>>),
}

/// Recognises how `reader` is compressed by its first bytes, and returns a reader of the uncompressed ones.
///
/// Gzip may have several members and zstd several frames. What is neither is taken for plain; so is empty input.
///
/// # Errors
///
/// What reading reports; a [`CompressionError`] inside where the form is known and not supported.
pub fn open_compressed<R: Read>(mut reader: R, limits: &CompressionLimits) -> io::Result<Decompressed<R>> {
    let mut magic = Vec::with_capacity(MAGIC_LEN_MAX);
    reader.by_ref().take(MAGIC_LEN_MAX as u64).read_to_end(&mut magic)?;
    let kind = kind_of(&magic).map_err(io::Error::other)?;
    let input = Counted { input: Cursor::new(magic).chain(reader), count: 0, has_failed: false };
    let input = BufReader::with_capacity(BUFFER_LEN_BYTES, input);
    let form = match kind {
        Kind::Plain => Form::Plain(input),
        Kind::Gzip => Form::Gzip(Box::new(MultiGzDecoder::new(input))),
        Kind::Zstd => {
            let mut decoder = Decoder::with_buffer(input)?;
            decoder.window_log_max(WINDOW_LOG_MAX)?;
            Form::Zstd(decoder)
        }
    };
    Ok(Decompressed { form, limits: limits.clone(), count: 0 })
}

/// How a stream is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Plain,
    Gzip,
    Zstd,
}

fn kind_of(magic: &[u8]) -> Result<Kind, CompressionError> {
    match magic {
        [0x1f, 0x8b, ..] => Ok(Kind::Gzip),
        // A frame, or one to skip, which may come first.
        [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Kind::Zstd),
        [b'B', b'Z', b'h', b'1'..=b'9', 0x31, 0x41, ..] => Err(CompressionError::Unsupported("bzip2")),
        [0xfd, b'7', b'z', b'X', b'Z', 0, ..] => Err(CompressionError::Unsupported("xz")),
        _ => Ok(Kind::Plain),
    }
}

impl<R: Read> Decompressed<R> {
    fn counted(&self) -> (&'static str, &Source<R>) {
        match &self.form {
            Form::Plain(input) => ("plain", input.get_ref()),
            Form::Gzip(decoder) => ("gzip", decoder.get_ref().get_ref()),
            Form::Zstd(decoder) => ("zstd", decoder.get_ref().get_ref()),
        }
    }

    /// Returns how the stream is compressed: `plain`, `gzip` or `zstd`.
    pub fn form(&self) -> &'static str {
        self.counted().0
    }

    /// Refuses what becomes too much.
    fn check(&self) -> Result<(), CompressionError> {
        let CompressionLimits { bytes, ratio, ratio_from_bytes } = self.limits;
        if bytes < self.count {
            return Err(CompressionError::Bytes { max: bytes });
        }
        let allowed = self.counted().1.count.saturating_mul(ratio);
        if ratio_from_bytes < self.count && allowed < self.count {
            return Err(CompressionError::Ratio { max: ratio });
        }
        Ok(())
    }
}

impl<R: Read> Read for Decompressed<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let outcome = match &mut self.form {
            Form::Plain(input) => input.read(buffer),
            Form::Gzip(decoder) => decoder.read(buffer),
            Form::Zstd(decoder) => decoder.read(buffer),
        };
        match outcome {
            Ok(count) => {
                self.count += count as u64;
                self.check().map_err(io::Error::other)?;
                Ok(count)
            }
            // What the source reports is no damage of the stream.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => match self.counted() {
                (_, counted) if counted.has_failed => Err(error),
                (form, _) => Err(io::Error::other(CompressionError::Damaged { form, error })),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 1).unwrap()
    }

    /// Gives one byte at a time, as a slow pipe may.
    struct Trickle<'a>(&'a [u8]);

    impl Read for Trickle<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let len = buffer.len().min(1);
            self.0.read(&mut buffer[..len])
        }
    }

    fn unpacked(bytes: &[u8], limits: &CompressionLimits) -> Result<(&'static str, Vec<u8>), String> {
        let mut all = Vec::new();
        let mut reader = open_compressed(Trickle(bytes), limits).map_err(|it| it.to_string())?;
        reader.read_to_end(&mut all).map_err(|it| it.to_string())?;
        Ok((reader.form(), all))
    }

    #[test]
    fn forms_are_told_by_their_first_bytes() {
        let text = b"some text, more text, still more text".repeat(10);
        let limits = CompressionLimits::default();
        let skip = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        for (form, bytes) in [
            ("plain", text.clone()),
            ("gzip", gzip(&text)),
            ("gzip", [gzip(&text[..7]), gzip(&text[7..])].concat()),
            ("zstd", zstd(&text)),
            ("zstd", [zstd(&text[..7]), skip.clone(), zstd(&text[7..])].concat()),
            ("zstd", [skip, zstd(&text)].concat()),
        ] {
            assert_eq!(unpacked(&bytes, &limits), Ok((form, text.clone())), "{form}");
        }
        for short in [&b""[..], b"a", b"\x1f"] {
            assert_eq!(unpacked(short, &limits), Ok(("plain", short.to_vec())));
        }
        assert_eq!(unpacked(b"\xfd7zXZ\0", &limits), Err("xz is not supported".to_owned()));
        assert_eq!(unpacked(b"BZh91AY", &limits), Err("bzip2 is not supported".to_owned()));
    }

    #[test]
    fn damaged_streams_are_told_from_failing_sources() {
        let limits = CompressionLimits::default();
        let text = b"text".repeat(1000);
        for (form, whole) in [("gzip", gzip(&text)), ("zstd", zstd(&text))] {
            let damaged = Err(format!("the {form} stream is damaged"));
            for len in MAGIC_LEN_MAX..whole.len() {
                assert_eq!(unpacked(&whole[..len], &limits), damaged, "{form} cut at {len}");
            }
            assert_eq!(unpacked(&[&whole[..], b"garbage"].concat(), &limits), damaged);
        }
        struct Failing;
        impl Read for Failing {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            }
        }
        let whole = gzip(&text);
        let mut reader = open_compressed(whole[..20].chain(Failing), &limits).unwrap();
        let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }

    #[test]
    fn what_grows_too_much_ends() {
        let zeros = vec![0; 4 << 20];
        let limits = CompressionLimits { bytes: 3 << 20, ratio: 100, ratio_from_bytes: 2 << 20 };
        for bytes in [gzip(&zeros), zstd(&zeros)] {
            let ratio = Err("more than 100 bytes for each compressed one".to_owned());
            assert_eq!(unpacked(&bytes, &limits), ratio);
            let no_ratio = CompressionLimits { ratio: u64::MAX, ..limits.clone() };
            let too_long = Err("more than 3145728 bytes once it is unpacked".to_owned());
            assert_eq!(unpacked(&bytes, &no_ratio), too_long);
            // Little may grow much.
            let late = CompressionLimits { bytes: 4 << 20, ratio: 100, ratio_from_bytes: 4 << 20 };
            assert_eq!(unpacked(&bytes, &late).map(|it| it.1.len()), Ok(4 << 20));
        }
    }
}
