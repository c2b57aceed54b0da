//! One header block of a tar archive, typed. Pure.
//!
//! Formats are told apart as Go does it: by `ustar` and what follows it. Only POSIX headers have a prefix to the name.
//! Old Go programs wrote one into GNU headers, too, over the times that stand there; a prefix that is text and no time counts.

use tar::Header;

use super::error::HeaderFault;
use super::numbers::{self, Time};

/// Length of headers, and what data is padded to, in bytes.
pub(crate) const BLOCK_LEN_BYTES: usize = 512;

/// What kind of entry a header announces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    File,
    /// A file whose header has a map of its data.
    GnuSparse,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
    /// The name or the link's target of the next entry.
    GnuLongName,
    GnuLongLink,
    /// Records about the next entry, or about all.
    Extended,
    Global,
    Unknown(u8),
}

/// A header as it stands, before extended headers change it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fields {
    pub(crate) kind: Kind,
    pub(crate) path: Vec<u8>,
    pub(crate) link: Vec<u8>,
    pub(crate) mode: u32,
    /// As they stand: an extended header may replace one that does not fit.
    pub(crate) uid: i64,
    pub(crate) gid: i64,
    pub(crate) size: u64,
    pub(crate) mtime: Time,
    /// Major and minor number of a device.
    pub(crate) device: (u32, u32),
}

/// Reads a block; none when it holds zeros alone, which ends an archive.
pub(crate) fn parse(block: &[u8; BLOCK_LEN_BYTES]) -> Result<Option<Fields>, HeaderFault> {
    if block.iter().all(|byte| *byte == 0) {
        return Ok(None);
    }
    let header = Header::from_byte_slice(block);
    if !is_sum_right(block) {
        return Err(HeaderFault::Checksum);
    }
    let old = header.as_old();
    let number = |bytes: &[u8], name| numbers::field(bytes).ok_or(HeaderFault::Number(name));
    let path = path_of(header);
    let kind = kind_of(old.linkflag[0], &path);
    let size = if has_data(kind) { number(&old.size, "size")? } else { 0 };
    Ok(Some(Fields {
        kind,
        path,
        link: text(&old.linkname).to_vec(),
        mode: permissions(number(&old.mode, "mode")?),
        uid: number(&old.uid, "uid")?,
        gid: number(&old.gid, "gid")?,
        size: u64::try_from(size).map_err(|_| HeaderFault::Number("size"))?,
        mtime: Time { seconds: number(&old.mtime, "mtime")?, nanoseconds: 0 },
        device: device_of(header, kind)?,
    }))
}

/// The twelve permission bits; headers of old writers have the type in front of them.
fn permissions(mode: i64) -> u32 {
    u32::try_from(mode & 0o7777).unwrap_or_default()
}

/// Whether the checksum is that of the block; old writers summed signed bytes.
fn is_sum_right(block: &[u8; BLOCK_LEN_BYTES]) -> bool {
    let bytes =
        block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { b' ' } else { *byte });
    let unsigned: i64 = bytes.clone().map(i64::from).sum();
    let signed: i64 = bytes.map(|byte| i64::from(byte.cast_signed())).sum();
    numbers::field(&block[148..156]).is_some_and(|sum| sum == unsigned || sum == signed)
}

fn kind_of(flag: u8, path: &[u8]) -> Kind {
    match flag {
        // Before POSIX a slash at the end was what made a directory.
        0 if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        b'L' => Kind::GnuLongName,
        b'K' => Kind::GnuLongLink,
        b'S' => Kind::GnuSparse,
        b'x' => Kind::Extended,
        b'g' => Kind::Global,
        other => Kind::Unknown(other),
    }
}

/// Whether data may follow; where none may, the size means nothing, as for Go.
pub(crate) fn has_data(kind: Kind) -> bool {
    !matches!(
        kind,
        Kind::HardLink
            | Kind::Symlink
            | Kind::CharacterDevice
            | Kind::BlockDevice
            | Kind::Directory
            | Kind::Fifo
    )
}

/// The bytes up to the first zero.
fn text(field: &[u8]) -> &[u8] {
    field.split(|byte| *byte == 0).next().unwrap_or_default()
}

fn path_of(header: &Header) -> Vec<u8> {
    let block = header.as_bytes();
    let name = text(&block[..100]);
    let prefix = match &block[257..263] {
        b"ustar\0" if &block[508..512] == b"tar\0" => text(&block[345..476]), // Of star, with times behind it.
        b"ustar\0" => text(&block[345..500]),
        b"ustar " => prefix_of_old_go(block),
        _ => b"",
    };
    if prefix.is_empty() { name.to_vec() } else { [prefix, b"/", name].concat() }
}

/// A prefix where GNU headers have times; see the module.
fn prefix_of_old_go(block: &[u8; BLOCK_LEN_BYTES]) -> &[u8] {
    let is_time = |field: &[u8]| field.first() == Some(&0) || numbers::field(field).is_some();
    let prefix = text(&block[345..500]);
    if (is_time(&block[345..357]) && is_time(&block[357..369])) || !prefix.is_ascii() { b"" } else { prefix }
}

fn device_of(header: &Header, kind: Kind) -> Result<(u32, u32), HeaderFault> {
    if !matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
        return Ok((0, 0));
    }
    let block = header.as_bytes();
    let number = |bytes: &[u8], name| {
        let number = numbers::field(bytes).and_then(|it| u32::try_from(it).ok());
        number.ok_or(HeaderFault::Number(name))
    };
    Ok((number(&block[329..337], "devmajor")?, number(&block[337..345], "devminor")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(change: impl FnOnce(&mut [u8; 512])) -> [u8; 512] {
        let mut header = Header::new_ustar();
        header.set_path("d/name").unwrap();
        header.set_mode(0o100_644);
        header.set_size(5);
        header.set_mtime(7);
        let mut block = *header.as_bytes();
        change(&mut block);
        let mut header = Header::from_byte_slice(&block).clone();
        header.set_cksum();
        *header.as_bytes()
    }

    fn path(change: impl FnOnce(&mut [u8; 512])) -> String {
        String::from_utf8(parse(&block(change)).unwrap().unwrap().path).unwrap()
    }

    fn put(block: &mut [u8; 512], at: usize, bytes: &[u8]) {
        block[at..at + bytes.len()].copy_from_slice(bytes);
    }

    #[test]
    fn the_format_says_whether_there_is_a_prefix() {
        assert_eq!(path(|it| put(it, 345, b"pre/fix")), "pre/fix/d/name");
        assert_eq!(path(|it| put(it, 257, b"\0\0\0\0\0\0")), "d/name");
        // GNU headers have times there: of digits, in base 256, or none.
        for times in [&b"00000000007\x0000000000007\0"[..], b"\0", &[0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]] {
            let gnu = |it: &mut [u8; 512]| {
                put(it, 257, b"ustar  \0");
                put(it, 345, times);
            };
            assert_eq!(path(gnu), "d/name", "{times:?}");
        }
        let of_old_go = |it: &mut [u8; 512]| {
            put(it, 257, b"ustar  \0");
            put(it, 345, b"root/.cpanm/work");
        };
        assert_eq!(path(of_old_go), "root/.cpanm/work/d/name");
        let of_star = |it: &mut [u8; 512]| {
            put(it, 345, &[b'p'; 131]);
            put(it, 476, b"00000000007\x0000000000007\0");
            put(it, 508, b"tar\0");
        };
        assert_eq!(path(of_star), format!("{}/d/name", "p".repeat(131)));
    }

    #[test]
    fn fields_are_taken_as_they_stand_and_checked() {
        let fields = parse(&block(|_| ())).unwrap().unwrap();
        assert_eq!((fields.kind, fields.mode, fields.size, fields.mtime.seconds), (Kind::File, 0o644, 5, 7));
        assert_eq!(parse(&[0; 512]), Ok(None));
        assert_eq!(parse(&[b'x'; 512]), Err(HeaderFault::Checksum));
        let fault = |at: usize, bytes: &[u8]| parse(&block(|it| put(it, at, bytes))).unwrap_err();
        assert_eq!(fault(124, b"zz"), HeaderFault::Number("size"));
        assert_eq!(fault(124, &[0xff; 12]), HeaderFault::Number("size"));
        assert_eq!(fault(136, b"9"), HeaderFault::Number("mtime"));
        // A size says nothing where no data can be.
        let link = block(|it| {
            put(it, 124, b"zz");
            it[156] = b'1';
        });
        assert_eq!(parse(&link).unwrap().unwrap().size, 0);
        let damaged = |at: usize| {
            let mut block = block(|_| ());
            block[at] ^= 1;
            parse(&block)
        };
        assert!((0..512).all(|at| (148..156).contains(&at) || damaged(at) == Err(HeaderFault::Checksum)));
    }

    #[test]
    fn both_kinds_of_checksums_are_right() {
        let mut signed = block(|it| put(it, 0, "é".as_bytes()));
        let sum: i32 = (0..512)
            .map(|at| if (148..156).contains(&at) { 32 } else { i32::from(signed[at].cast_signed()) })
            .sum();
        put(&mut signed, 148, format!("{sum:06o}\0 ").as_bytes());
        assert!(parse(&signed).is_ok());
    }
}
