//! Packets, of which requests and answers of git's protocol are made.
//!
//! Fact: gitprotocol-common, "pkt-line Format"; gitprotocol-v2, "Packet-Line Framing".

/// The most bytes of one packet, its own length included.
pub(super) const PACKET_BYTES: usize = 65_520;
/// How many bytes tell the length of a packet.
const LENGTH_BYTES: usize = 4;
/// The end of a request and of an answer.
pub(super) const FLUSH: &[u8] = b"0000";
/// What separates the sections of one.
pub(super) const DELIMITER: &[u8] = b"0001";

/// One packet.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Packet<'a> {
    /// What it carries.
    Data(&'a [u8]),
    /// A section ends.
    Delimiter,
    /// The answer ends.
    Flush,
}

/// A packet with this text. `None`: it is longer than a packet may be.
pub(super) fn packet(text: &str) -> Option<Vec<u8>> {
    let length = text.len() + LENGTH_BYTES;
    (length <= PACKET_BYTES).then(|| format!("{length:04x}{text}").into_bytes())
}

/// Takes the first packet off an answer. `None`: it is cut off, or no packet.
pub(super) fn next<'a>(answer: &mut &'a [u8]) -> Option<Packet<'a>> {
    let (length, rest) = answer.split_at_checked(LENGTH_BYTES)?;
    let (packet, rest) = match length {
        FLUSH => (Packet::Flush, rest),
        DELIMITER => (Packet::Delimiter, rest),
        length => {
            let (data, rest) = rest.split_at_checked(length_of(length)?.checked_sub(LENGTH_BYTES)?)?;
            (Packet::Data(data), rest)
        }
    };
    *answer = rest;
    Some(packet)
}

fn length_of(digits: &[u8]) -> Option<usize> {
    // A number with a sign would be read too.
    let digits = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
    usize::from_str_radix(digits, 16).ok().filter(|length| *length <= PACKET_BYTES)
}
