use proptest::prelude::*;

use super::*;

fn read_with(text: &str, args: &[(&str, &str)]) -> Sources {
    let args = args.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    sources(text.as_bytes(), &args)
}

/// The patterns as text, or `WHOLE`.
fn shown(sources: &Sources) -> String {
    let piece = |piece: &Piece| match piece {
        Piece::Byte(byte) => char::from(*byte),
        Piece::One => '?',
        Piece::Any => '*',
    };
    match sources {
        Sources::Whole(_) => "WHOLE".to_owned(),
        Sources::Patterns(sources) => {
            let one = |source: &Source| {
                let parts: Vec<String> =
                    source.pattern.parts.iter().map(|part| part.iter().map(piece).collect()).collect();
                format!("{}:{}", source.line, parts.join("/"))
            };
            sources.iter().map(one).collect::<Vec<_>>().join(" ")
        }
    }
}

#[test]
fn sources_are_found_or_the_whole_context_counts() {
    for (text, expected) in [
        ("FROM a", ""),
        ("FROM a\nCOPY x /y", "2:x"),
        ("\u{feff}FROM a\r\nCOPY x \\\r\n  y/z /\r\n", "2:x 2:y/z"),
        ("FROM a\nCOPY [\"a b\", \"c\", \"/\"]", "2:a b 2:c"),
        ("FROM a\nADD ../../x ./y//z/ /d/", "2:x 2:y/z"),
        ("FROM a\nCOPY . /", "WHOLE"),
        ("FROM a\nCOPY / /", "WHOLE"),
        ("FROM a\nCOPY a/.. /", "WHOLE"),
        ("FROM a\nCOPY *.txt a?/b* /", "2:*.txt 2:a?/b*"),
        ("FROM a\nCOPY [a-z]x /", "WHOLE"),
        ("FROM a\nCOPY a\\ b /", "WHOLE"),
        ("FROM a\nCOPY \"a\" 'b' /", "2:a 2:b"),
        ("FROM a\nCOPY \"a b\" /", "WHOLE"),
        // Flags.
        ("FROM a AS b\nFROM c\nCOPY --from=b x /y\nCOPY --chown=1:1 --link --chmod=755 z /", "4:z"),
        ("FROM a\nCOPY --from= x /y", "2:x"),
        ("FROM a\nCOPY --parents a/./b /", "WHOLE"),
        ("FROM a\nCOPY --exclude=*.md src /", "2:src"),
        ("FROM a\nCOPY --new=1 x /", "WHOLE"),
        ("FROM a\nCOPY -- --from=b x /", "WHOLE"),
        ("FROM a\nCOPY --from=\"b c\" x /", "WHOLE"),
        ("FROM a\nADD --checksum=sha256:00 https://h/x y /", "2:y"),
        ("FROM a\nADD https://h/$X/y /", ""),
        ("FROM a\nCOPY <<EOF /x\nCOPY no /\nEOF\nCOPY yes /", "5:yes"),
        // Mounts.
        ("FROM a\nRUN --mount=type=bind,source=s/t,target=/t make", "2:s/t"),
        ("FROM a\nRUN --mount=src=s,target=/t make", "2:s"),
        ("FROM a\nRUN --mount=target=/t make", "WHOLE"),
        ("FROM a\nRUN --mount=type=bind,from=b,target=/t make", ""),
        ("FROM a\nRUN --mount=type=cache,target=/t --mount=type=secret,id=x make", ""),
        ("FROM a\nRUN --mount=type=tmpfs,target=/t make", "WHOLE"),
        ("FROM a\nRUN --mount=type=tmpfs,from=scratch,target=/t make", ""),
        ("FROM a\nRUN --mount=type=new,target=/t make", "WHOLE"),
        ("FROM a\nRUN --mount=source=$X,target=/t make", "WHOLE"),
        ("FROM a\nRUN --mount make", "WHOLE"),
        ("FROM a\nRUN --network=none make", ""),
        // Here-documents of RUN.
        ("FROM a\nRUN <<EOF\nCOPY no /\nEOF\nCOPY yes /", "5:yes"),
        ("FROM a\nRUN cat <<EOF > /f\nCOPY x /\nEOF", "WHOLE"),
        ("FROM a\nRUN cat <<CMD\nRUN <<X\nCMD\nCOPY s /\nX", "WHOLE"),
        ("FROM a\nRUN <<A cat <<B\nA\nB", "WHOLE"),
        ("FROM a\nRUN cat <<< x\nCOPY y /", "3:y"),
        // Directives.
        ("# syntax=docker/dockerfile:1.7\nFROM a\nCOPY x /", "3:x"),
        ("# syntax = docker.io/docker/dockerfile@sha256:00\nFROM a\nCOPY x /", "3:x"),
        ("# syntax=evil/dockerfile\nFROM a\nCOPY x /", "WHOLE"),
        ("# syntax=docker/dockerfile-evil\nFROM a\nCOPY x /", "WHOLE"),
        ("# a=b\n\n# SYNTAX=evil\nFROM a\nCOPY x /", "WHOLE"),
        ("#!/usr/bin/env x\n# syntax=evil\nFROM a", "WHOLE"),
        ("# escape=`\nFROM a\nCOPY x `\n  y /", "3:x 3:y"),
        ("# a comment\n# escape=`\nFROM a\nCOPY x /", "WHOLE"),
        ("# escape=x\nFROM a", "WHOLE"),
        // Lines that the engine divides otherwise.
        ("FROM a\nRUN echo \\\\\nCOPY x /", "WHOLE"),
        ("FROM a\nRUN echo \\\u{b}\nCOPY x /", "WHOLE"),
        ("FROM a\nRUN echo \\\n# a comment\n\n  y\nCOPY x /", "6:x"),
        // What is not understood.
        ("", "WHOLE"),
        ("COPY x /", "WHOLE"),
        ("FROM a\nFOO x", "WHOLE"),
        ("FROM a\nCOPY x", "WHOLE"),
        ("FROM a\nONBUILD COPY x /", "2:x"),
        ("FROM a\nENV X=1\nONBUILD COPY $X /", "WHOLE"),
        ("FROM a AS b\nENV X=1\nONBUILD ENV X=2\nFROM b\nCOPY $X /", "WHOLE"),
        ("FROM a\n# a\u{a0}comment \\\\\nCOPY x /", "3:x"),
        ("FROM a\nCOPY\u{a0}x y /", "WHOLE"),
        ("ARG B=b\nFROM a AS b\nENV X=1\nFROM $B\nCOPY $X /", "5:1"),
        ("ARG B\nFROM a AS b\nENV X=1\nFROM $B\nARG X=2\nCOPY $X /", "WHOLE"),
        ("ARG B\nFROM $B\nARG X=2\nCOPY $X /", "4:2"),
    ] {
        assert_eq!(shown(&read_with(text, &[])), expected, "{text:?}");
    }
    assert_eq!(shown(&sources(b"FROM a\nCOPY \xff /", &BTreeMap::new())), "WHOLE");
}

#[test]
fn variables_are_expanded_only_when_they_are_certain() {
    let args = [("GIVEN", "g"), ("TARGETARCH", "mine")];
    for (body, expected) in [
        ("ARG X=1\nCOPY a$X ${X}b /", "4:a1 4:1b"),
        ("ARG GIVEN=default\nCOPY $GIVEN /", "4:g"),
        ("ARG GIVEN\nCOPY $GIVEN /", "4:g"),
        ("COPY $GIVEN /", "WHOLE"),
        ("ARG TARGETARCH\nCOPY $TARGETARCH /", "WHOLE"),
        ("ARG X\nCOPY $X /", "WHOLE"),
        ("COPY $GLOBAL /", "WHOLE"),
        ("ARG GLOBAL\nCOPY $GLOBAL/x /", "4:all/x"),
        ("ENV X=e\nARG X=a\nCOPY $X /", "WHOLE"),
        ("ENV X=e\nARG X=e\nCOPY $X /", "5:e"),
        ("ENV X old form\nCOPY [\"$X\", \"/\"]", "4:old form"),
        ("ENV A=1 B=$A\nCOPY $B /", "WHOLE"),
        ("ARG A=1 B=$A\nCOPY $B /", "WHOLE"),
        ("ARG A=1\nARG B=${A}2\nCOPY $B /", "5:12"),
        ("ARG A=\nCOPY x${A:-y} x${A:+z}w /", "4:xy 4:xw"),
        ("ARG A=1\nCOPY x${A:-y} x${A:+z} /", "4:x1 4:xz"),
        ("ARG A=abc\nCOPY ${A#a} /", "WHOLE"),
        ("ARG A=abc\nCOPY ${A:-$B} /", "WHOLE"),
        ("ARG A=\nCOPY $A /", "WHOLE"),
        ("ARG A=..\nCOPY x/$A/y /", "4:y"),
        ("ARG A='q r' B=\"s\"\nCOPY $B /", "4:s"),
        ("ENV P=a\\ b\nCOPY x /", "4:x"),
        ("ENV P=a\\ b\nCOPY x$P /", "WHOLE"),
        ("ENV E=1\nFROM first\nCOPY $E /", "5:1"),
        ("COPY $ /", "WHOLE"),
        ("COPY a$1 /", "WHOLE"),
    ] {
        let text = format!("ARG GLOBAL=all\nFROM a AS first\n{body}");
        assert_eq!(shown(&read_with(&text, &args)), expected, "{body:?}");
    }
    let inherited = "FROM a AS One\nENV E=1\nARG A=2\nFROM one\nCOPY $E /";
    assert_eq!(shown(&read_with(inherited, &[])), "5:1");
    assert_eq!(shown(&read_with(&inherited.replace("$E", "$A"), &[])), "WHOLE");
    assert_eq!(shown(&read_with("FROM a\nCOPY x /", &[("BUILDKIT_SYNTAX", "evil")])), "WHOLE");
}

#[test]
fn the_reason_for_the_whole_context_names_the_line() {
    let Sources::Whole(whole) = read_with("FROM a\n\nCOPY $X /", &[]) else { panic!("it is not certain") };
    assert_eq!(whole.line, Some(3));
    assert_eq!(whole.why, "`COPY $X` is not certain: $X is not declared here, so it would come from the base image");
}

#[test]
fn wildcards_stop_at_slashes_and_take_what_lies_below() {
    for (pattern, path, position) in [
        ("a", "a", Position::At),
        ("a", "a/b/c", Position::Below),
        ("a/b", "a", Position::Above),
        ("a/b", "c", Position::Apart),
        ("a", "ab", Position::Apart),
        ("*.txt", "x.txt", Position::At),
        ("*.txt", "d/x.txt", Position::Apart),
        ("*/x", "d", Position::Above),
        ("*/x", "d/x/y", Position::Below),
        ("a?", "aé", Position::At),
        ("a?", "a", Position::Apart),
        ("*a*b*", "xaxbx", Position::At),
    ] {
        let read = Pattern::read(pattern).expect("a pattern");
        assert_eq!(read.position(&GitPath::new(path)), position, "{pattern} {path}");
    }
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(
        words in proptest::collection::vec(
            prop_oneof![
                Just("FROM "), Just("COPY "), Just("ADD "), Just("RUN "), Just("ARG "), Just("ENV "), Just("ONBUILD "),
                Just("HEALTHCHECK "), Just("VOLUME "), Just("SHELL "), Just("CMD "), Just("AS "), Just("\n"), Just("\r\n"),
                Just("\\"), Just("`"), Just("# escape="), Just("#"), Just("<<"), Just("<<-"), Just("EOF"), Just("\""),
                Just("'"), Just("["), Just("]"), Just(","), Just("--"), Just("mount"), Just("="), Just("$"), Just("{"),
                Just("}"), Just(":-"), Just(" "), Just("\t"), Just("x"), Just("é"), Just("\\u12"), Just("\u{feff}"),
            ],
            0..40,
        ),
    ) {
        let _ = read_with(&words.concat(), &[]);
        let _ = read_with(&format!("FROM a\n{}", words.concat()), &[]);
    }
}
