//! Reads the entries of a tar archive: ustar, GNU (long names, sparse files, base-256 numbers) and PAX.
//!
//! The fields of a header block are read by the tar crate. What describes the *next* entry is read here, for three
//! reasons: the crate (0.4) ends a PAX record at the first line end, where the record's length counts (a capability's
//! bytes may hold a line end); it reads extension headers of any size into memory; and of several records of one name
//! it takes the first, where POSIX says the last.

use std::io::{self, BufRead as _, ErrorKind, Read as _};

use tar::{EntryType, GnuExtSparseHeader, Header};

use super::blocks::{Blocks, Part};

const BLOCK: u64 = 512;

/// The largest extension header that is read: a hostile one must not fill the memory. Go's archive/tar has the same limit.
const MAX_EXTENSION: u64 = 1 << 20;

/// The most pieces that a sparse file may have, for the same reason.
const MAX_PIECES: usize = 1 << 18;

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    HardLink,
    Symlink,
    Directory,
    Fifo,
    CharacterDevice,
    BlockDevice,
}

/// One entry. The data of a file is read from the archive before the next entry is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub kind: Kind,
    /// The name as it is in the archive.
    pub path: Vec<u8>,
    /// What a link points to.
    pub target: Vec<u8>,
    /// Permissions with setuid, setgid and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds since 1970, and nanoseconds.
    pub mtime: (i64, u32),
    /// Major and minor number.
    pub device: (u32, u32),
    /// Extended attributes, by full name.
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// The size of the file when it is unpacked.
    pub size: u64,
    /// Where the stored data lies in the file, in order. An ordinary file is one piece.
    pub pieces: Vec<Piece>,
}

/// A part of a file that has data; the rest is holes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Piece {
    pub offset: u64,
    pub length: u64,
}

/// A tar archive that is read from its beginning to its end.
pub(super) struct Archive {
    input: Blocks,
    /// Bytes of the current entry's data that were not read yet.
    left: u64,
    /// Bytes that fill its last block.
    padding: u64,
}

impl Archive {
    pub fn new(input: Blocks) -> Self {
        Self { input, left: 0, padding: 0 }
    }

    /// The next entry, or `None` at the end mark or at the end of the input.
    pub fn next(&mut self) -> io::Result<Option<Entry>> {
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else {
                return if extensions.is_empty() {
                    Ok(None)
                } else {
                    Err(bad("an extension header describes no entry"))
                };
            };
            match header.entry_type() {
                EntryType::XGlobalHeader => drop(self.extension(&header)?),
                EntryType::XHeader => extensions.records = pax_records(&self.extension(&header)?)?,
                EntryType::GNULongName => extensions.path = Some(until_nul(self.extension(&header)?)),
                EntryType::GNULongLink => extensions.target = Some(until_nul(self.extension(&header)?)),
                kind => return self.entry(&header, kind, extensions).map(Some),
            }
        }
    }

    /// Some of the current entry's data, at most `limit` bytes; nothing at its end.
    pub fn data(&mut self, limit: u64) -> io::Result<Option<Part>> {
        let limit = limit.min(self.left);
        if limit == 0 {
            return Ok(None);
        }
        let part = self.input.part(usize::try_from(limit).unwrap_or(usize::MAX))?.ok_or_else(truncated)?;
        self.left -= part.bytes().len() as u64;
        Ok(Some(part))
    }

    /// Whether so much of the current entry's data can be had in one part.
    pub fn holds(&mut self, length: u64) -> io::Result<bool> {
        Ok(length == 0 || length <= self.input.fill_buf()?.len() as u64)
    }

    /// Reads what follows the end mark, so that everything was seen. Gives the size of all, in bytes.
    pub fn finish(self) -> io::Result<u64> {
        self.input.finish()
    }

    /// The next header block, after what is left of the entry before it.
    fn header(&mut self) -> io::Result<Option<Header>> {
        let skip = self.left + self.padding;
        if io::copy(&mut (&mut self.input).take(skip), &mut io::sink())? < skip {
            return Err(truncated());
        }
        (self.left, self.padding) = (0, 0);
        if self.input.fill_buf()?.is_empty() {
            return Ok(None);
        }
        let mut header = Header::new_old();
        self.block(header.as_mut_bytes())?;
        if header.as_bytes().iter().all(|&byte| byte == 0) {
            return Ok(None);
        }
        let bytes = header.as_bytes();
        let sum: u32 = bytes[..148].iter().chain(&bytes[156..]).map(|&byte| u32::from(byte)).sum::<u32>() + 8 * 32;
        if header.cksum().ok() != Some(sum) {
            return Err(bad("a header's checksum is wrong: this is no tar archive, or it is damaged"));
        }
        Ok(Some(header))
    }

    fn block(&mut self, block: &mut [u8]) -> io::Result<()> {
        self.input.read_exact(block).map_err(|error| match error.kind() {
            ErrorKind::UnexpectedEof => truncated(),
            _ => error,
        })
    }

    /// From here on, `size` bytes of data are read.
    fn begin_data(&mut self, size: u64) -> io::Result<()> {
        // Far beyond any disk, and far from an overflow.
        if size > 1 << 60 {
            return Err(bad("an entry's size is absurd"));
        }
        (self.left, self.padding) = (size, size.next_multiple_of(BLOCK) - size);
        Ok(())
    }

    fn extension(&mut self, header: &Header) -> io::Result<Vec<u8>> {
        let size = number(&header.as_old().size, header.entry_size())?;
        if size > MAX_EXTENSION {
            return Err(bad(format!("an extension header has {size} bytes, more than {MAX_EXTENSION}")));
        }
        self.begin_data(size)?;
        let mut bytes = vec![0; size as usize];
        self.block(&mut bytes)?;
        self.left = 0;
        Ok(bytes)
    }

    fn entry(&mut self, header: &Header, kind: EntryType, extensions: Extensions) -> io::Result<Entry> {
        let path = extensions.path(header);
        let old = header.as_old();
        let kind = match kind {
            // Before POSIX, a directory was told by its name.
            EntryType::Regular if path.ends_with(b"/") => Kind::Directory,
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
            EntryType::Link => Kind::HardLink,
            EntryType::Symlink => Kind::Symlink,
            EntryType::Directory => Kind::Directory,
            EntryType::Fifo => Kind::Fifo,
            EntryType::Char => Kind::CharacterDevice,
            EntryType::Block => Kind::BlockDevice,
            other => {
                let shown = String::from_utf8_lossy(&path).into_owned();
                return Err(bad(format!("entry {shown:?} has the unknown type {:?}", char::from(other.as_byte()))));
            }
        };
        let stored = extensions.number(b"size")?.map_or_else(|| number(&old.size, header.entry_size()), Ok)?;
        // Links, directories and devices have no data, whatever their size says: POSIX, "ustar Interchange Format".
        self.begin_data(if kind == Kind::File { stored } else { 0 })?;
        let (size, pieces) = match kind {
            Kind::File => self.pieces(header, &extensions, stored)?,
            _ => (0, Vec::new()),
        };
        let is_device = matches!(kind, Kind::CharacterDevice | Kind::BlockDevice);
        let major = if is_device { header.device_major().map_err(field)? } else { None };
        let minor = if is_device { header.device_minor().map_err(field)? } else { None };
        Ok(Entry {
            kind,
            path,
            target: extensions.target(header),
            mode: (number(&old.mode, header.mode().map(u64::from))? & 0o7777) as u32,
            uid: extensions.number(b"uid")?.map_or_else(|| number(&old.uid, header.uid()), Ok)?,
            gid: extensions.number(b"gid")?.map_or_else(|| number(&old.gid, header.gid()), Ok)?,
            mtime: match extensions.value(b"mtime") {
                Some(text) => time(text).ok_or_else(|| bad("a PAX mtime is no number"))?,
                // A time before 1970 is a negative base-256 number.
                None => (number(&old.mtime, header.mtime())?.cast_signed(), 0),
            },
            device: (major.unwrap_or(0), minor.unwrap_or(0)),
            xattrs: extensions.xattrs(),
            size,
            pieces,
        })
    }

    /// The size of a file and where its data lies.
    fn pieces(&mut self, header: &Header, extensions: &Extensions, stored: u64) -> io::Result<(u64, Vec<Piece>)> {
        let (size, pieces) = if header.entry_type() == EntryType::GNUSparse {
            self.gnu_sparse(header)?
        } else if let Some(size) = extensions.sparse_size()? {
            let pieces = match extensions.sparse_pieces()? {
                Some(pieces) => pieces,
                None => self.sparse_map()?,
            };
            (size, pieces)
        } else {
            return Ok((stored, vec![Piece { offset: 0, length: stored }]));
        };
        let mut end = 0;
        for piece in &pieces {
            let next = piece.offset.checked_add(piece.length).filter(|&next| next <= size && end <= piece.offset);
            end = next.ok_or_else(|| bad("the pieces of a sparse file overlap, or lie beyond its end"))?;
        }
        if pieces.iter().map(|piece| piece.length).sum::<u64>() != self.left {
            return Err(bad("the pieces of a sparse file are not as long as its data"));
        }
        Ok((size, pieces))
    }

    /// The pieces as old GNU tar has them: four in the header, more in blocks between header and data.
    fn gnu_sparse(&mut self, header: &Header) -> io::Result<(u64, Vec<Piece>)> {
        let gnu = header.as_gnu().ok_or_else(|| bad("a sparse entry has no GNU header"))?;
        let mut pieces = Vec::new();
        let mut add = |sparse: &tar::GnuSparseHeader| -> io::Result<()> {
            if !sparse.is_empty() {
                pieces.push(Piece { offset: sparse.offset().map_err(field)?, length: sparse.length().map_err(field)? });
            }
            if pieces.len() > MAX_PIECES {
                return Err(bad("a sparse file has too many pieces"));
            }
            Ok(())
        };
        gnu.sparse.iter().try_for_each(&mut add)?;
        let mut extended = gnu.is_extended();
        while extended {
            let mut more = GnuExtSparseHeader::new();
            self.block(more.as_mut_bytes())?;
            more.sparse.iter().try_for_each(&mut add)?;
            extended = more.is_extended();
        }
        Ok((gnu.real_size().map_err(field)?, pieces))
    }

    /// The pieces as PAX sparse format 1.0 has them: decimal lines in whole blocks before the data.
    fn sparse_map(&mut self) -> io::Result<Vec<Piece>> {
        let mut block = [0; BLOCK as usize];
        let mut numbers: Vec<u64> = Vec::new();
        let mut number = 0_u64;
        loop {
            if self.left < BLOCK {
                return Err(truncated());
            }
            self.block(&mut block)?;
            self.left -= BLOCK;
            for &byte in &block {
                match byte {
                    b'0'..=b'9' => {
                        let digit = u64::from(byte - b'0');
                        number = number
                            .checked_mul(10)
                            .and_then(|tens| tens.checked_add(digit))
                            .ok_or_else(|| bad("the map of a sparse file has an absurd number"))?;
                    }
                    b'\n' => numbers.push(std::mem::take(&mut number)),
                    _ => return Err(bad("the map of a sparse file is damaged")),
                }
                let count = numbers.first().copied().unwrap_or(0);
                if count > MAX_PIECES as u64 {
                    return Err(bad("a sparse file has too many pieces"));
                }
                if !numbers.is_empty() && numbers.len() as u64 == 1 + 2 * count {
                    return Ok(pairs(&numbers[1..]));
                }
            }
        }
    }
}

/// What the extension headers before an entry say of it.
#[derive(Default)]
struct Extensions {
    path: Option<Vec<u8>>,
    target: Option<Vec<u8>>,
    records: Vec<(Vec<u8>, Vec<u8>)>,
}

impl Extensions {
    fn is_empty(&self) -> bool {
        self.path.is_none() && self.target.is_none() && self.records.is_empty()
    }

    /// The last record of this name: POSIX, "pax Extended Header".
    fn value(&self, name: &[u8]) -> Option<&[u8]> {
        self.records.iter().rev().find(|(key, _)| key == name).map(|(_, value)| value.as_slice())
    }

    fn number(&self, name: &[u8]) -> io::Result<Option<u64>> {
        self.value(name).map(decimal).transpose()
    }

    fn path(&self, header: &Header) -> Vec<u8> {
        let path = self.value(b"GNU.sparse.name").or_else(|| self.value(b"path")).or(self.path.as_deref());
        path.map_or_else(|| header.path_bytes().into_owned(), <[u8]>::to_vec)
    }

    fn target(&self, header: &Header) -> Vec<u8> {
        match self.value(b"linkpath").or(self.target.as_deref()) {
            Some(target) => target.to_vec(),
            None => header.link_name_bytes().map(|name| name.into_owned()).unwrap_or_default(),
        }
    }

    fn xattrs(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        let named = self.records.iter().filter_map(|(key, value)| Some((key.strip_prefix(b"SCHILY.xattr.")?, value)));
        named.map(|(name, value)| (name.to_vec(), value.clone())).collect()
    }

    /// The real size, if the entry is a sparse file in one of the three PAX formats.
    fn sparse_size(&self) -> io::Result<Option<u64>> {
        match self.number(b"GNU.sparse.realsize")? {
            Some(size) => Ok(Some(size)),
            None => self.number(b"GNU.sparse.size"),
        }
    }

    /// The pieces, if they are in the header (formats 0.0 and 0.1).
    fn sparse_pieces(&self) -> io::Result<Option<Vec<Piece>>> {
        if let Some(map) = self.value(b"GNU.sparse.map") {
            let numbers = map.split(|&byte| byte == b',').filter(|part| !part.is_empty()).map(decimal);
            return numbers.collect::<io::Result<Vec<_>>>().map(|numbers| Some(pairs(&numbers)));
        }
        if self.value(b"GNU.sparse.major") == Some(b"1") {
            return Ok(None);
        }
        let in_order =
            self.records.iter().filter(|(key, _)| key == b"GNU.sparse.offset" || key == b"GNU.sparse.numbytes");
        let numbers = in_order.map(|(_, value)| decimal(value));
        numbers.collect::<io::Result<Vec<_>>>().map(|numbers| Some(pairs(&numbers)))
    }
}

fn pairs(numbers: &[u64]) -> Vec<Piece> {
    let pairs = numbers.chunks_exact(2).map(|pair| Piece { offset: pair[0], length: pair[1] });
    pairs.filter(|piece| piece.length > 0).collect()
}

/// The records of a PAX header: each is its length in decimal, a blank, `name=value` and a line end.
fn pax_records(mut bytes: &[u8]) -> io::Result<Vec<(Vec<u8>, Vec<u8>)>> {
    let mut records = Vec::new();
    while bytes.first().is_some_and(|&byte| byte != 0) {
        let record = pax_record(bytes).ok_or_else(|| bad("a PAX header is damaged"))?;
        records.push((record.name.to_vec(), record.value.to_vec()));
        bytes = &bytes[record.length..];
    }
    Ok(records)
}

struct PaxRecord<'a> {
    length: usize,
    name: &'a [u8],
    value: &'a [u8],
}

fn pax_record(bytes: &[u8]) -> Option<PaxRecord<'_>> {
    let blank = bytes.iter().position(|&byte| byte == b' ')?;
    let length: usize = std::str::from_utf8(&bytes[..blank]).ok()?.parse().ok()?;
    let body = bytes.get(blank + 1..length)?.strip_suffix(b"\n")?;
    let equals = body.iter().position(|&byte| byte == b'=')?;
    Some(PaxRecord { length, name: &body[..equals], value: &body[equals + 1..] })
}

fn decimal(text: &[u8]) -> io::Result<u64> {
    let number = std::str::from_utf8(text).ok().and_then(|text| text.parse().ok());
    number.ok_or_else(|| bad(format!("a PAX header has {:?} where a number must be", String::from_utf8_lossy(text))))
}

/// A PAX time: decimal seconds, perhaps negative, perhaps with a fraction of any length.
fn time(text: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(text).ok()?;
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let seconds: i64 = whole.parse().ok()?;
    if !fraction.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let nanoseconds: u32 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    if whole.starts_with('-') && nanoseconds > 0 {
        return Some((seconds.checked_sub(1)?, 1_000_000_000 - nanoseconds));
    }
    Some((seconds, nanoseconds))
}

fn until_nul(mut bytes: Vec<u8>) -> Vec<u8> {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    bytes.truncate(end);
    bytes
}

fn truncated() -> io::Error {
    io::Error::new(ErrorKind::UnexpectedEof, "the archive ends in the middle of an entry")
}

fn bad(why: impl Into<String>) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, why.into())
}

/// The tar crate's message repeats the entry's name as it is, which may hold anything.
fn field(_: io::Error) -> io::Error {
    bad("a number in a header is damaged")
}

/// A number of a header; a blank one is 0, as GNU tar has it.
fn number(raw: &[u8], parsed: io::Result<u64>) -> io::Result<u64> {
    if raw.iter().all(|&byte| byte == 0 || byte == b' ') { Ok(0) } else { parsed.map_err(field) }
}
