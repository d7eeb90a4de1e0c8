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

/// A command that needs a source, with these arguments and stdin.
fn reap(arguments: &[&str], stdin: &str) -> crate::support::program::Ran {
    Program::git_image(std::iter::once("reap").chain(arguments.iter().copied())).run_text(stdin)
}

#[test]
fn what_is_wrong_with_the_source_is_said_whole() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    let file = |name: &str, text: &str| {
        let path = directory.path().join(name);
        std::fs::write(&path, text).expect("the file can be written");
        path.to_str().expect("the path is text").to_owned()
    };
    let image = "source: {git: {uri: 'https://git.example.com/a.git'}, registry: {repository: ((repository))}}";
    let two = file("two.yml", &format!("resources:\n- {{name: a, {image}}}\n- {{name: b, {image}}}\n"));
    let list = file("list.yml", "- a\n");
    let broken = file("broken.yml", "a: 1\na: 2\n");
    for (arguments, stdin, stderr) in [
        (&["--source", "/nonexistent"][..], "", "error: cannot read /nonexistent\ncause: No such file or directory (os error 2)\n".to_owned()),
        (&["--source", "-"], "{", "error: cannot read stdin as YAML\ncause: line 2: while parsing a node, did not find expected node content\n".to_owned()),
        (&["--source", "-"], "[]", "error: `source` must be a block, but it is a list\nhint: write a block: source: {git: …, registry: …, registries: …, docker_config_json: …, build: …, …}\n".to_owned()),
        (&["--source", &broken], "", format!("error: cannot read {broken} as YAML\ncause: line 2: \"a\" is given a second time\n")),
        (
            &["--pipeline", &two],
            "",
            format!("error: cannot take an image from the pipeline {two}\ncause: it has several resources of git-image: a, b\nhint: name one with --resource\n"),
        ),
        (
            &["--pipeline", &list],
            "",
            format!("error: cannot take an image from the pipeline {list}\ncause: it has no list `resources`\nhint: give the block `source` of the resource with --source FILE\n"),
        ),
        (
            &["--pipeline", &two, "--resource", "b"],
            "",
            "error: the source needs a value for ((repository))\nhint: give it with --load-vars-from FILE or --var NAME=VALUE\n".to_owned(),
        ),
        (
            &["--pipeline", &two, "--resource", "b", "-l", &list],
            "",
            format!("error: {list} has no variables: it is not a block of names with values\nhint: write it as for fly: `name: value` lines\n"),
        ),
        (
            &["--pipeline", &two, "--resource", "b", "-y", "repository=[a"],
            "",
            "error: cannot read the value of --yaml-var repository as YAML\ncause: line 2: while parsing a flow sequence, expected ',' or ']'\n".to_owned(),
        ),
        (
            &["--pipeline", &two, "--resource", "b", "-v", "repository=A"],
            "",
            "error: `source.registry.repository` is not usable\ncause: repository \"A\" has upper-case letters, which a repository may not have\n".to_owned(),
        ),
        (
            &["--pipeline", &two, "--resource", "b", "--repository", "r.example.com/a", "--username", "ada", "--password-stdin"],
            "\n",
            "error: there is no password on stdin\nhint: pipe it: --password-stdin < FILE\n".to_owned(),
        ),
        (
            &["--repository", "r.example.com/a"],
            "",
            "error: the present directory is in no git working tree\ncause: fatal: not a git repository (or any of the parent directories): .git\nhint: run it in a clone of the repository\n".to_owned(),
        ),
    ] {
        reap(arguments, stdin).fails_with(&stderr);
    }
}

#[test]
fn arguments_that_do_not_fit_together_end_with_2() {
    for (arguments, stderr) in [
        (
            &[][..],
            "error: no image is named\n\
             hint: give its source with --source FILE or --pipeline FILE; inside a working tree, --repository REGISTRY/NAME is enough\n",
        ),
        (
            &["--source", "-", "--username", "ada", "--password-stdin"],
            "error: stdin cannot be both the source and the password\nhint: give the source as a file\n",
        ),
    ] {
        let ran = reap(arguments, "{}");
        assert_eq!((ran.code, ran.stdout.as_str(), ran.stderr.as_str()), (Some(2), "", stderr));
    }
}

#[test]
fn a_login_of_which_the_half_is_missing_is_refused() {
    let source = r#"{"git": {"uri": "https://h/a.git"}, "registry": {"repository": "r.example.com/a"}}"#;
    for (variable, message) in [
        (
            "GIT_IMAGE_REGISTRY_USERNAME",
            "error: GIT_IMAGE_REGISTRY_USERNAME is set in the environment, and GIT_IMAGE_REGISTRY_PASSWORD is not\nhint: set both, or neither\n",
        ),
        (
            "GIT_IMAGE_GIT_PASSWORD",
            "error: GIT_IMAGE_GIT_PASSWORD is set in the environment, and GIT_IMAGE_GIT_USERNAME is not\nhint: set both, or neither\n",
        ),
    ] {
        let program = Program::git_image(["reap", "--source", "-"]).environment(variable, "x");
        program.run_text(source).fails_with(message);
    }
    let ran = Program::git_image(["reap", "--source", "-", "--username", "ada"]).run_text(source);
    assert_eq!(ran.code, Some(2), "{}", ran.stderr);
}

#[test]
fn a_credential_helper_that_fails_is_said_with_its_words() {
    use std::os::unix::fs::PermissionsExt as _;

    let directory = tempfile::tempdir().expect("a directory can be made");
    let path = directory.path();
    let config = path.join("config.json");
    let source = r#"{"git": {"uri": "https://h/a.git"}, "registry": {"repository": "r.example.com/a"}}"#;
    let run = || {
        Program::git_image(["reap", "--source", "-"])
            .environment("DOCKER_CONFIG", path)
            .environment("PATH", format!("{}:/usr/bin:/bin", path.display()))
            .run_text(source)
    };
    let otherwise =
        "give --username and --password-stdin, or GIT_IMAGE_REGISTRY_USERNAME and GIT_IMAGE_REGISTRY_PASSWORD";
    for (settings, script, stderr) in [
        (
            r#"{"credsStore": "gone"}"#,
            "",
            format!(
                "error: cannot get the password of r.example.com from docker's credential helper\n\
                 cause: cannot run docker-credential-gone get: there is no program `docker-credential-gone`\n\
                 hint: docker's config.json names it; install docker-credential-gone, or {otherwise}\n"
            ),
        ),
        (
            r#"{"credsStore": "test"}"#,
            "echo locked; exit 1",
            format!(
                "error: cannot get the password of r.example.com from docker's credential helper\n\
                 cause: docker-credential-test get failed\n\
                 cause: locked\n\
                 hint: {otherwise}\n"
            ),
        ),
        (
            r#"{"credsStore": "test"}"#,
            "echo secret",
            format!("error: docker-credential-test printed no credentials for r.example.com\nhint: {otherwise}\n"),
        ),
        (
            r#"{"credHelpers": {"r.example.com": "test"}}"#,
            r#"echo '{"Username": "<token>", "Secret": "secret"}'"#,
            format!(
                "error: docker-credential-test keeps an identity token for r.example.com, and no password\nhint: {otherwise}\n"
            ),
        ),
        (
            r#"{"credsStore": "../test"}"#,
            "",
            "error: docker's config.json names a credential helper \"../test\", which is no name of a program\n\
             hint: correct `credsStore` or `credHelpers` in it\n"
                .to_owned(),
        ),
        (
            "{",
            "",
            format!(
                "error: cannot take a login from {}\n\
                 cause: it is not a config.json: line 1, column 1\n\
                 hint: log in again with `docker login`, or give --username and --password-stdin\n",
                config.display()
            ),
        ),
    ] {
        std::fs::write(&config, settings).expect("the file can be written");
        let helper = path.join("docker-credential-test");
        std::fs::write(&helper, format!("#!/bin/sh\n{script}\n")).expect("the file can be written");
        std::fs::set_permissions(&helper, std::fs::Permissions::from_mode(0o755)).expect("it can be made a program");
        run().fails_with(&stderr);
    }
}
