//! The command `fetch` of git's protocol version 2: what is sent, and what the answer says.
//!
//! As with [`super::ls_refs`], what is not understood is left to the git program.
//!
//! Fact: gitprotocol-v2, "fetch".

use super::pkt_line::{DELIMITER, FLUSH, Packet, next, packet};
use super::remote::Depth;
use crate::names::{CommitId, ObjectId};

/// What is asked for.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    /// The objects that are wanted.
    pub(super) wants: &'a [ObjectId],
    /// How much of their history.
    pub(super) depth: Depth,
    /// The commits that we have, with what they lead to.
    pub(super) haves: &'a [CommitId],
    /// Where our history is cut off.
    pub(super) boundary: &'a [CommitId],
}

/// What a server sent.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fetched {
    /// Commits whose parents it does not send.
    pub(super) shallow: Vec<CommitId>,
    /// Commits of our boundary whose parents it sends now.
    pub(super) unshallow: Vec<CommitId>,
    /// The objects, as a pack.
    pub(super) pack: Vec<u8>,
}

impl Fetched {
    /// The boundary of our history with what was sent.
    pub(super) fn boundary(&self, before: &[CommitId]) -> Vec<CommitId> {
        let mut boundary: Vec<CommitId> = before.iter().chain(&self.shallow).copied().collect();
        boundary.sort_unstable();
        boundary.dedup();
        boundary.retain(|commit| !self.unshallow.contains(commit));
        boundary
    }

    /// Whether the pack has any objects.
    pub(super) fn has_objects(&self) -> bool {
        // The signature, the version, the number of objects.
        self.pack.get(8..12).is_some_and(|count| count != [0; 4])
    }
}

/// The request for commits and trees, without blobs but those that are wanted by name. `None`: it cannot be said so.
pub(super) fn request(asked: &Asked<'_>) -> Option<Vec<u8>> {
    let mut lines = vec!["no-progress".to_owned(), "ofs-delta".to_owned(), "filter blob:none".to_owned()];
    if !asked.haves.is_empty() {
        lines.push("thin-pack".to_owned());
    }
    lines.extend(asked.boundary.iter().map(|commit| format!("shallow {commit}")));
    match asked.depth {
        Depth::Keep => {}
        Depth::Commits(count) => lines.push(format!("deepen {count}")),
        Depth::DeepenBy(count) => lines.extend([format!("deepen {count}"), "deepen-relative".to_owned()]),
        // That may be gigabytes, which git writes to the disk while they come.
        Depth::Everything => return None,
    }
    lines.extend(asked.wants.iter().map(|object| format!("want {object}")));
    lines.extend(asked.haves.iter().map(|commit| format!("have {commit}")));
    lines.push("done".to_owned());
    let mut request = packet("command=fetch\n")?;
    request.extend_from_slice(DELIMITER);
    for line in lines {
        request.extend(packet(&format!("{line}\n"))?);
    }
    request.extend_from_slice(FLUSH);
    Some(request)
}

/// What an answer brings. `None`: it is cut off, an error, or nothing that is known.
pub(super) fn read(mut answer: &[u8]) -> Option<Fetched> {
    let mut fetched = Fetched::default();
    let mut first = next(&mut answer)?;
    if first == Packet::Data(b"shallow-info\n") {
        while let Packet::Data(line) = next(&mut answer)? {
            let (kind, commit) = std::str::from_utf8(line).ok()?.trim_end().split_once(' ')?;
            match kind {
                "shallow" => fetched.shallow.push(commit.parse().ok()?),
                "unshallow" => fetched.unshallow.push(commit.parse().ok()?),
                _ => return None,
            }
        }
        first = next(&mut answer)?;
    }
    if first != Packet::Data(b"packfile\n") {
        return None;
    }
    loop {
        match next(&mut answer)? {
            Packet::Data([1, bytes @ ..]) => fetched.pack.extend_from_slice(bytes),
            // Words for a person who waits.
            Packet::Data([2, ..]) => {}
            Packet::Data(_) | Packet::Delimiter => return None,
            Packet::Flush => break,
        }
    }
    // git verifies the rest of it.
    (answer.is_empty() && fetched.pack.starts_with(b"PACK")).then_some(fetched)
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU32;

    use proptest::prelude::*;

    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    fn id<T: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> T {
        text.parse().expect("it is an id")
    }

    fn packets(texts: &[&str]) -> Vec<u8> {
        let one = |text: &&str| match *text {
            "0000" | "0001" => text.as_bytes().to_vec(),
            text => packet(text).expect("it is short"),
        };
        texts.iter().flat_map(one).collect()
    }

    #[test]
    fn a_request_says_what_we_have_and_how_deep_it_goes() {
        let asked = Asked {
            wants: &[id(A)],
            depth: Depth::Commits(NonZeroU32::new(32).expect("it is not zero")),
            haves: &[id(B)],
            boundary: &[id(B)],
        };
        let lines = [
            "command=fetch\n",
            "0001",
            "no-progress\n",
            "ofs-delta\n",
            "filter blob:none\n",
            "thin-pack\n",
            &format!("shallow {B}\n"),
            "deepen 32\n",
            &format!("want {A}\n"),
            &format!("have {B}\n"),
            "done\n",
            "0000",
        ];
        assert_eq!(request(&asked), Some(packets(&lines)));
        assert_eq!(request(&Asked { depth: Depth::Everything, ..asked }), None);
    }

    #[test]
    fn an_answer_gives_the_pack_and_moves_the_boundary() {
        let (shallow, unshallow) = (format!("shallow {A}\n"), format!("unshallow {B}"));
        let answer = packets(&[
            "shallow-info\n",
            &shallow,
            &unshallow,
            "0001",
            "packfile\n",
            "\u{1}PA",
            "\u{2}wait",
            "\u{1}CK",
            "0000",
        ]);
        let fetched = read(&answer).expect("it is whole");
        assert_eq!(fetched.pack, b"PACK");
        assert_eq!(fetched.boundary(&[id(B)]), [id(A)]);
        assert_eq!(
            read(&packets(&["packfile\n", "\u{1}PACK", "0000"])).expect("it is whole").boundary(&[id(B)]),
            [id(B)]
        );
        for cut in 0..answer.len() {
            assert_eq!(read(&answer[..cut]), None, "{cut}");
        }
    }

    #[test]
    fn what_is_not_a_whole_pack_is_nothing() {
        for lines in [
            &["0000"][..],
            &["packfile\n", "0000"],
            &["packfile\n", "\u{1}hi!", "0000"],
            &["packfile\n", "\u{1}PACK", "\u{3}out of memory", "0000"],
            &["packfile\n", "\u{1}PACK", "0001", "0000"],
            &["packfile\n", "\u{1}PACK", "0000", "0000"],
            &["shallow-info\n", "0001", "0000"],
            &["shallow-info\n", "deep x\n", "0001", "packfile\n", "\u{1}PACK", "0000"],
            &["acknowledgments\n", "NAK\n", "0000"],
            &["ERR upload-pack: not our ref\n", "0000"],
        ] {
            assert_eq!(read(&packets(lines)), None, "{lines:?}");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(
            text in "(0000|0001|0011shallow-info\n|000dpackfile\n|0035shallow a{40}\n|0009\u{1}PACK|[0-9a-f]{4}|.){0,12}",
        ) {
            read(text.as_bytes());
        }
    }
}
