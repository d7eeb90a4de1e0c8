//! `git-image` as a person meets it: help, usage, completions, manual.

use std::process::Command;

use crate::support::program::Program;

fn git_image(arguments: &[&str]) -> crate::support::program::Ran {
    Program::git_image(arguments.iter().copied()).run_text("")
}

#[test]
fn wrong_usage_is_status_2_and_says_what_there_is() {
    for (arguments, message) in [
        (&["reep"][..], "error: unrecognized subcommand 'reep'\n\n  tip: a similar subcommand exists: 'reap'\n"),
        (&["man", "--outputs", "x"], "error: unexpected argument '--outputs' found\n"),
        (&["completions", "csh"], "error: invalid value 'csh' for '<SHELL>'\n  [possible values: "),
        (&[], "One image of one git branch: the command line\n"),
    ] {
        let ran = git_image(arguments);
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(2), ""), "{arguments:?}");
        assert!(ran.stderr.starts_with(message), "{arguments:?}: {}", ran.stderr);
    }
}

#[test]
fn help_that_no_terminal_shows_has_no_colours() {
    for arguments in [&["--help"][..], &["-h"], &["man", "--help"]] {
        let ran = git_image(arguments);
        assert_eq!((ran.code, ran.stderr.as_str()), (Some(0), ""));
        assert!(!ran.stdout.contains('\u{1b}'), "{arguments:?}");
    }
}

#[test]
fn the_manual_has_a_page_for_each_command() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let directory = directory.path().join("man1");
    let ran = git_image(&["man", "--output", directory.to_str().expect("the path is text")]);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{}", ran.stderr);
    for name in ["git-image.1", "git-image-reap.1", "git-image-man.1"] {
        let page = std::fs::read_to_string(directory.join(name)).expect("there is such a page");
        assert!(page.contains("\n.SH EXAMPLES\n"), "{page}");
    }
    let first = std::fs::read_to_string(directory.join("git-image.1")).expect("there is such a page");
    assert_eq!(git_image(&["man"]).stdout, first);
    git_image(&["man", "--output", "/dev/null/man1"])
        .fails_with("error: cannot write the manual into /dev/null/man1\ncause: Not a directory (os error 20)\n");
}

#[test]
fn bash_completes_commands_also_below_git() {
    for (call, expected) in [
        ("COMP_WORDS=(git-image re) COMP_CWORD=1; _git__image git-image re git-image", "reap\n"),
        // As git's own completion calls it.
        ("COMP_WORDS=(git image reap --app) COMP_CWORD=3; _git_image", "--apply\n"),
        ("COMP_WORDS=(git image re) COMP_CWORD=2; _git_image", "reap\n"),
    ] {
        let script = git_image(&["completions", "bash"]).stdout;
        let script = format!("{script}\n{call}\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n");
        let ran = Command::new("bash").args(["-c", &script]).output().expect("there is bash");
        assert_eq!(String::from_utf8_lossy(&ran.stdout), expected, "{call}: {}", String::from_utf8_lossy(&ran.stderr));
    }
}
