//! The command `ls-refs` of git's protocol version 2: what is sent, and what the answer says.
//!
//! An answer is taken only when it is complete and every line of it is understood: a part of the refs must never pass
//! for all of them. What is not understood is left to the git program.
//!
//! Fact: gitprotocol-v2, "ls-refs"; docs/facts.md, `ls-refs`.

use super::pkt_line::{DELIMITER, FLUSH, Packet, next, packet};
use super::remote::Listed;
use crate::names::CommitId;

/// The request for the refs whose names begin with one of these texts, and for what symbolic ones point to.
///
/// `None`: a prefix is longer than a packet may be.
pub(super) fn request(prefixes: &[&str]) -> Option<Vec<u8>> {
    let mut request = packet("command=ls-refs\n")?;
    request.extend_from_slice(DELIMITER);
    request.extend(packet("symrefs\n")?);
    for prefix in prefixes {
        request.extend(packet(&format!("ref-prefix {prefix}\n"))?);
    }
    request.extend_from_slice(FLUSH);
    Some(request)
}

/// What an answer lists. `None`: it is cut off, an error, or nothing that is known.
pub(super) fn read(mut answer: &[u8]) -> Option<Listed> {
    let mut listed = Listed::default();
    loop {
        match next(&mut answer)? {
            Packet::Data(line) => read_line(line, &mut listed)?,
            Packet::Flush => return answer.is_empty().then_some(listed),
            Packet::Delimiter => return None,
        }
    }
}

/// Reads `<id> <name>`, and `symref-target:<name>` behind it.
fn read_line(line: &[u8], listed: &mut Listed) -> Option<()> {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    let mut words = line.split(|&byte| byte == b' ');
    // An id of SHA-256 is none here: git says what is to be said about it.
    let commit: CommitId = std::str::from_utf8(words.next()?).ok()?.parse().ok()?;
    let name = words.next().filter(|name| is_name(name))?;
    for attribute in words {
        let target = attribute.strip_prefix(b"symref-target:").filter(|target| is_name(target))?;
        if name == b"HEAD" {
            listed.point_head_to(target, commit);
        }
    }
    listed.refs.insert(name.to_vec(), commit);
    Some(())
}

/// Whether this may be a ref's name: HEAD, or a name below `refs/`.
fn is_name(name: &[u8]) -> bool {
    (name == b"HEAD" || name.starts_with(b"refs/")) && !name.iter().any(u8::is_ascii_control)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::pkt_line::PACKET_BYTES;
    use super::*;

    const A: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    const B: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

    /// An answer with these lines.
    fn answer(lines: &[String]) -> Vec<u8> {
        let packets = lines.iter().flat_map(|line| packet(&format!("{line}\n")).expect("the line is short"));
        packets.chain(FLUSH.iter().copied()).collect()
    }

    fn names(listed: &Listed) -> Vec<String> {
        listed.refs.keys().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
    }

    #[test]
    fn a_request_has_the_command_and_the_prefixes() {
        let request = request(&["HEAD", "refs/heads/main"]).expect("the names are short");
        let text = "0014command=ls-refs\n0001000csymrefs\n0014ref-prefix HEAD\n001fref-prefix refs/heads/main\n0000";
        assert_eq!(String::from_utf8_lossy(&request), text);
        assert_eq!(super::request(&[&"x".repeat(PACKET_BYTES)]), None);
    }

    #[test]
    fn an_answer_gives_refs_and_the_default_branch() {
        let listed = read(&answer(&[
            format!("{A} HEAD symref-target:refs/heads/main"),
            format!("{A} refs/heads/main-2"),
            format!("{B} refs/heads/alias symref-target:refs/heads/main"),
        ]));
        let listed = listed.expect("it is whole");
        assert_eq!(listed.head.as_ref().map(ToString::to_string).as_deref(), Some("main"));
        assert_eq!(names(&listed), ["HEAD", "refs/heads/alias", "refs/heads/main", "refs/heads/main-2"]);
        assert_eq!(read(FLUSH), Some(Listed::default()), "no refs, said as such");
    }

    #[test]
    fn what_is_not_a_whole_list_of_refs_is_nothing() {
        let wrong = [
            String::new(),
            "hi!\n".to_owned(),
            "00000000".to_owned(),
            "0000 ".to_owned(),
            "0001".to_owned(),
            "0002".to_owned(),
            "0003".to_owned(),
            "00040000".to_owned(),
            "+0100000".to_owned(),
            "ffff0000".to_owned(),
            "001eERR upload-pack: not allowed0000".to_owned(),
            "000eversion 2\n0000".to_owned(),
        ];
        let lines = [
            A.to_owned(),
            format!("{A} "),
            format!("{A}  refs/heads/main"),
            format!("{A} main"),
            format!("{A} refs/heads/ma\nin"),
            format!("{A} refs/heads/main peeled"),
            format!("{A} HEAD symref-target:main"),
            format!("{A}{} refs/heads/main", &A[..24]),
            format!("{} refs/heads/main", A.to_uppercase()),
            "unborn HEAD symref-target:refs/heads/main".to_owned(),
        ];
        let wrong = wrong.into_iter().map(String::into_bytes).chain(lines.into_iter().map(|line| answer(&[line])));
        for bytes in wrong {
            assert_eq!(read(&bytes), None, "{:?}", String::from_utf8_lossy(&bytes));
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            read(&bytes);
        }

        #[test]
        fn nothing_that_is_nearly_an_answer_makes_it_panic(
            text in "(0000|0001|00[0-9a-f]{2}|[a-b]{40}| |HEAD|refs/heads/x|symref-target:|\n|é){0,12}",
        ) {
            read(text.as_bytes());
        }

        #[test]
        fn an_answer_that_is_cut_off_or_goes_on_is_no_answer(
            branches in proptest::collection::btree_set("[a-z]{1,9}(/[a-z]{1,9})?", 0..9),
            cut in any::<proptest::sample::Index>(),
            more in proptest::collection::vec(any::<u8>(), 1..9),
        ) {
            let lines: Vec<String> = branches.iter().map(|branch| format!("{A} refs/heads/{branch}")).collect();
            let mut whole = answer(&lines);
            let listed = read(&whole).expect("it is whole");
            prop_assert_eq!(names(&listed), branches.iter().map(|name| format!("refs/heads/{name}")).collect::<Vec<_>>());
            prop_assert_eq!(read(&whole[..cut.index(whole.len())]), None);
            whole.extend(more);
            prop_assert_eq!(read(&whole), None);
        }
    }
}
