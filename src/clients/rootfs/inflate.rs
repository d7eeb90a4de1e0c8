//! The bytes of a layer's archive, whatever it is compressed with.

use std::io::{self, BufRead, Cursor, Read};

use flate2::bufread::MultiGzDecoder;

type Whole<R> = io::Chain<Cursor<Vec<u8>>, R>;

/// A layer, inflated. Told by its first bytes, because media types are wrong in the wild.
pub(super) enum Inflated<R: BufRead> {
    Plain(Whole<R>),
    Gzip(Box<MultiGzDecoder<Whole<R>>>),
    Zstd(zstd::stream::read::Decoder<'static, Whole<R>>),
}

impl<R: BufRead> Inflated<R> {
    pub fn new(mut layer: R) -> io::Result<Self> {
        let mut magic = Vec::new();
        (&mut layer).take(4).read_to_end(&mut magic)?;
        let kind = <[u8; 4]>::try_from(magic.as_slice()).ok();
        let whole = Cursor::new(magic).chain(layer);
        match kind {
            // RFC 1952, 2.3.1.
            Some([0x1f, 0x8b, ..]) => Ok(Self::Gzip(Box::new(MultiGzDecoder::new(whole)))),
            // RFC 8878, 3.1.1; a frame to be skipped, 3.1.2, may come first.
            Some([0x28, 0xb5, 0x2f, 0xfd] | [0x50..=0x5f, 0x2a, 0x4d, 0x18]) => {
                Ok(Self::Zstd(zstd::stream::read::Decoder::with_buffer(whole)?))
            }
            _ => Ok(Self::Plain(whole)),
        }
    }
}

impl<R: BufRead> Read for Inflated<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(input) => input.read(buffer),
            Self::Gzip(input) => input.read(buffer),
            Self::Zstd(input) => input.read(buffer),
        }
    }
}
