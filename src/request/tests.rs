use super::*;
use crate::error::{Error, Report};

/// The smallest source, with one more piece of JSON inside the block `git`.
fn with_git(more: &str) -> String {
    format!(
        r#"{{"source": {{"git": {{"uri": "https://git.example.com/acme/app.git"{more}}}, "registry": {{"repository": "registry.example.com/acme/app-ci"}}}}}}"#
    )
}

fn with_build(more: &str) -> String {
    format!(
        r#"{{"source": {{"git": {{"uri": "https://git.example.com/acme/app.git"}}, "registry": {{"repository": "registry.example.com/acme/app-ci"}}, "build": {{{more}}}}}}}"#
    )
}

fn with_reap(block: &str) -> String {
    with_git("").replace(r#""registry":"#, &format!(r#""reap": {{{block}}}, "registry":"#))
}

fn report<Q: Request>(text: &str) -> String {
    match Q::parse(text.as_bytes()) {
        Ok(_) => panic!("{text} was taken"),
        Err(error) => Report(&Error::from(error)).to_string(),
    }
}

#[test]
fn a_request_that_cannot_be_served_says_which_key_and_what_to_write() {
    for (text, message) in [
        (
            r#"{"source": null}"#.to_owned(),
            "error: `source.git` is missing\nhint: for example git: {uri: https://git.example.com/acme/app.git}",
        ),
        (
            with_git(r#", "brnch": "main""#),
            "error: `source.git.brnch` is not a key of git-image\nhint: did you mean `source.git.branch`?",
        ),
        (
            r#"{"source": {"uri": "https://git.example.com/a/b"}}"#.to_owned(),
            "error: `source.uri` is not a key of git-image\nhint: did you mean `source.git.uri`?",
        ),
        (
            r#"{"source": {"follow_bases": true}}"#.to_owned(),
            "error: `source.follow_bases` is not a key of git-image\nhint: did you mean `source.build.follow_bases`?",
        ),
        (
            with_git(r#", "branch": 1.1"#),
            "error: `source.git.branch` must be a text, but it is the number 1.1\nhint: YAML made it so; write it in quotes: branch: \"…\"",
        ),
        (
            with_git(r#", "username": "u", "password": 12345"#),
            "error: `source.git.password` must be a text, but it is a number\nhint: YAML made it so; write it in quotes: password: \"…\"",
        ),
        (
            with_git(r#", "password": "p""#),
            "error: `source.git.password` is given without `source.git.username`\nhint: give both, or neither",
        ),
        (
            with_git(r#", "private_key": "k""#),
            "error: `source.git.private_key` does not go with `source.git.uri`, which is http(s)\nhint: give `source.git.username` and `source.git.password` for https, or an ssh address",
        ),
        (
            with_reap(r#""keep_last_per": "branch""#),
            "error: `source.reap.keep_last_per` is given without `source.reap.keep_last`\nhint: say how many are kept, or leave it out",
        ),
        (
            with_reap(r#""keep_last": 3, "keep_last_per": "commit""#),
            "error: `source.reap.keep_last_per` is not usable\ncause: text \"commit\" is neither branch nor image",
        ),
        (
            with_reap(r#""keep_last": 0"#),
            "error: `source.reap.keep_last` must be a whole number, 1 or more, but it is the number 0\nhint: write a number of 1 or more, without quotes: keep_last: 1",
        ),
        (
            with_reap(r#""grace": "1w""#),
            "error: `source.reap.grace` is not usable\ncause: duration \"1w\" is not a whole number and s, m, h or d, such as 24h",
        ),
        (
            with_reap(r#""branch_tags": ["{branch}"]"#),
            "error: `source.reap.branch_tags` is not usable\ncause: pattern \"{branch}\" is every tag; write something before or behind {branch}",
        ),
        (
            with_git(r#", "branch": "-x""#),
            "error: `source.git.branch` is not usable\ncause: branch \"-x\" begins with '-'",
        ),
        (
            with_git(r#", "forward_agent": true"#),
            "error: `source.git.forward_agent` is not supported by this release\nhint: it comes with a later release of git-image; leave it out until then",
        ),
        (
            with_git(r#", "commit_filter": {"exclude": [""]}"#),
            "error: `source.git.commit_filter.exclude` is not usable\ncause: pattern \"\" matches every message or none",
        ),
        (
            with_git(r#", "submodule_credentials": [{"username": "u", "password": "p"}]"#),
            "error: `source.git.submodule_credentials[0]` has neither `host` nor `url`\nhint: give host, username and password for http(s); or url, private_key and private_key_passphrase for ssh",
        ),
        (
            with_git(r#", "submodule_credentials": [{"host": "h", "private_key": "k"}]"#),
            "error: `source.git.submodule_credentials[0].private_key` does not go with `source.git.submodule_credentials[0].host`\nhint: give host, username and password for http(s); or url, private_key and private_key_passphrase for ssh",
        ),
        (
            with_git(r#", "submodule_credentials": [{"url": "../a"}]"#),
            "error: `source.git.submodule_credentials[0].url` is given without `source.git.submodule_credentials[0].private_key`\nhint: give host, username and password for http(s); or url, private_key and private_key_passphrase for ssh",
        ),
        (
            with_git(r#", "version_depth": 0"#),
            "error: `source.git.version_depth` must be a whole number, 1 or more, but it is the number 0\nhint: write a number of 1 or more, without quotes: version_depth: 1",
        ),
        (
            with_build(r#""args": {"A": true}"#),
            "error: `source.build.args.A` must be a text, but it is the boolean true\nhint: YAML made it so; write it in quotes: A: \"…\"",
        ),
        (
            with_build(r#""context": "../up""#),
            "error: `source.build.context` is not usable\ncause: path \"../up\" has '..'; paths stay inside the repository",
        ),
        (
            with_build(r#""reuse": "team""#),
            "error: `source.build.reuse` is not usable\ncause: setting \"team\" is neither `repository` nor `branch`",
        ),
        (
            with_build(r#""reuse": "branch""#),
            "error: `source.build.reuse: branch` is given without `source.git.branch`\nhint: name the branch: its name becomes part of what the image is made of",
        ),
        (
            with_build(r#""build_args": {}"#),
            "error: `source.build.build_args` is not supported by this release\nhint: its name here is `source.build.args`",
        ),
        (
            "[1]".to_owned(),
            "error: the request on stdin is not a JSON object with \"source\"\nhint: Concourse runs this program; by hand, give it {\"source\": {…}} on stdin",
        ),
    ] {
        assert_eq!(report::<CheckRequest>(&text), message, "{text}");
    }
}

#[test]
fn params_of_another_step_are_refused_and_the_message_says_where_they_belong() {
    let put = with_git("").replacen('{', r#"{"params": {"skip_download": true}, "#, 1);
    assert_eq!(
        report::<PutRequest>(&put),
        "error: `params.skip_download` is not supported by this release\nhint: it belongs to the get after the put: write it in `get_params`, or use `no_get: true`"
    );
    assert_eq!(
        report::<GetRequest>(&with_git("")),
        "error: `version` is missing\nhint: for example {\"ref\": \"<40 hex>\", \"inputs\": \"<64 hex>\"}, as check answers it"
    );
}

#[test]
fn params_that_git_does_not_describe_need_only_built_and_a_checkout() {
    let put = |more: &str, params: &str| {
        with_git("").replacen('{', &format!(r#"{{"params": {{{params}}}, "#), 1).replacen(
            r#""git": "#,
            &format!(r#"{more} "git": "#),
            1,
        )
    };
    let only_built = r#""only_built": true,"#;
    for (more, params, message) in [
        (
            "",
            r#""source": "repo", "context": "built""#,
            "error: `params.context` makes an image that git alone does not describe, whose version check cannot compute\n\
             hint: let check announce what was put: write the line `only_built: true` into the `source` of the resource",
        ),
        (
            "",
            r#""source": "repo", "args": {"A": "1"}"#,
            "error: `params.args` makes an image that git alone does not describe, whose version check cannot compute\n\
             hint: let check announce what was put: write the line `only_built: true` into the `source` of the resource",
        ),
        (
            only_built,
            r#""args_file": "built/args""#,
            "error: `params.args_file` is given without `params.source`\n\
             hint: name the artifact with the checkout, whose commit becomes the `ref` of the version",
        ),
        (
            only_built,
            r#""source": "repo", "args": {"A": "x$BUILD_ID"}"#,
            "error: `params.args.A` has a `$BUILD_…` variable: every build would make another image\n\
             hint: say which build it was in `params.labels` or `params.tags` of the put",
        ),
        (
            r#""only_built": true, "build": {"args": {"A": "1"}},"#,
            r#""source": "repo", "args": {"A": "2"}"#,
            "error: `params.args.A` has another value than `source.build.args.A`\n\
             hint: give it in one of the two",
        ),
        (
            "",
            r#""source": "repo", "contexts": {"base": "built/image.tar"}"#,
            "error: `params.contexts` makes an image that git alone does not describe, whose version check cannot compute\n\
             hint: let check announce what was put: write the line `only_built: true` into the `source` of the resource",
        ),
        (
            r#""only_built": true, "build": {"contexts": {"base": "docker-image://debian:12"}},"#,
            r#""source": "repo", "contexts": {"base": "built/image.tar"}"#,
            "error: `params.contexts.base` is `source.build.contexts.base` too\n\
             hint: give it in one of the two",
        ),
        (
            only_built,
            r#""source": "repo", "image": "built/a.tar", "contexts": {"base": "built/b.tar"}"#,
            "error: `params.contexts` does not go with `params.image`, which builds nothing\n\
             hint: the task that makes the image builds and tests it",
        ),
    ] {
        assert_eq!(report::<PutRequest>(&put(more, params)), message, "{params}");
    }
    let fine = put(only_built, r#""source": "repo", "args": {"A": "1"}, "context": "built/x""#);
    let params = PutRequest::parse(fine.as_bytes()).expect("all is there").params;
    assert_eq!((params.context.as_deref(), params.args["A"].as_str()), (Some("built/x"), "1"));
}

#[test]
fn null_means_that_nothing_was_given() {
    let request = CheckRequest::parse(with_git(r#", "branch": null, "brnch": null"#).as_bytes());
    assert_eq!(request.expect("null is nothing").source.git.branch, None);
}

#[test]
fn user_info_in_the_address_is_taken_out_and_used() {
    let text = with_git("").replace("https://git", "https://ada:s%40cret@git");
    let request = CheckRequest::parse(text.as_bytes()).expect("the address is right");
    let git = &request.source.git;
    assert_eq!(git.uri.as_str(), "https://git.example.com/acme/app.git");
    assert_eq!(git.uri.repository().as_str(), "git.example.com/acme/app");
    let credentials = git.credentials.as_ref().expect("they stood in the address");
    assert_eq!((credentials.username.as_str(), credentials.password.open()), ("ada", "s@cret"));
    assert!(!format!("{request:?}").contains("s@cret"));
}

#[test]
fn one_repository_has_one_name_however_it_is_reached() {
    for address in [
        "https://git.example.com/acme/app.git",
        "https://ada:pw@GIT.example.com:8443/acme/app",
        "http://git.example.com/acme/app.git/",
        "ssh://git@git.example.com:2222/acme/app.git",
        "git@git.example.com:acme/app.git",
        "git.example.com:/acme/app",
    ] {
        let (url, _) = GitUrl::parse(address).expect("the address is right");
        assert_eq!(url.repository().as_str(), "git.example.com/acme/app", "{address}");
    }
}

#[test]
fn an_address_that_could_be_an_option_or_a_command_is_refused() {
    for (address, why) in [
        ("--upload-pack=touch /tmp/x", "begins with '-'"),
        ("ext::sh -c touch", "has a space or a control character"),
        ("file:///etc", "has a scheme other than https, http and ssh"),
        ("ssh://-oProxyCommand=x/path", "has no host"),
        ("-oProxyCommand=x:path", "begins with '-'"),
        ("host:-path", "has no path"),
        ("https://git.example.com", "has no path"),
        ("/srv/git/app", "is neither a URL (https://…, ssh://…) nor user@host:path"),
    ] {
        assert_eq!(GitUrl::parse(address).expect_err("it is refused").why, why, "{address}");
    }
}

#[test]
fn what_is_wrong_with_a_repository_is_told() {
    let form = "is not host[:port]/name; a name has lower-case letters, digits and . _ - / between them";
    for (repository, why) in [
        ("registry.example:5000/acme/APP", "has upper-case letters, which a repository may not have"),
        ("registry.example/acme//app", form),
        (
            "https://registry.example/acme/app",
            "is a URL; give host and name alone, such as registry.example.com/acme/app",
        ),
        ("registry.example/acme/app:v1", "comes with a user, a tag or a digest; give the repository alone"),
    ] {
        assert_eq!(repository.parse::<Repository>().expect_err("it is refused").why, why, "{repository}");
    }
}

#[test]
fn each_registry_has_one_login_wherever_it_is_given() {
    let logins = |more: &str| {
        let source = format!(
            r#"{{"git": {{"uri": "https://git.example.com/a/b"}}, "registry": {{"repository": "r.example/a"{more}"#
        );
        let source = Source::parse(source.as_bytes()).expect("it is a source");
        let line = |(host, login): (String, Credentials)| format!("{host} {}", login.username);
        let own = source.registry.credentials.as_ref().map(|login| login.username.clone()).unwrap_or_default();
        (own, source.logins().into_iter().map(line).collect::<Vec<_>>().join(", "))
    };
    let config = r#", "docker_config_json": "{\"auths\": {\"https://index.docker.io/v1/\": {\"auth\": \"aHViOnA=\"}, \"r.example\": {\"auth\": \"Y29uZmlnOnA=\"}}}"}"#;
    for (more, own, all) in [
        ("}}".to_owned(), "", ""),
        (r#", "username": "own", "password": "p"}}"#.to_owned(), "own", "r.example own"),
        (
            r#"}, "registries": [{"host": "s.example", "username": "s", "password": "p"}, {"host": "t.example"}]}"#
                .to_owned(),
            "",
            "s.example s",
        ),
        (
            r#"}, "registries": [{"host": "r.example", "username": "list", "password": "p"}]}"#.to_owned(),
            "list",
            "r.example list",
        ),
        (format!("}}{config}"), "config", "r.example config, docker.io hub"),
        (format!(r#", "username": "config", "password": "p"}}{config}"#), "config", "r.example config, docker.io hub"),
    ] {
        assert_eq!(logins(&more), (own.to_owned(), all.to_owned()), "{more}");
    }
}

#[test]
fn the_passwords_of_further_registries_are_secrets() {
    let text = with_git("").replacen(
        r#""git""#,
        r#""registries": [{"host": "r.example", "username": "u", "password": "hunter2"}], "docker_config_json": "{\"auths\": {\"s.example\": {\"auth\": \"YWRhOmh1bnRlcjM=\"}}}", "git""#,
        1,
    );
    let request = CheckRequest::parse(text.as_bytes()).expect("it is a request");
    let secrets: Vec<&str> = request.secrets().into_iter().map(Secret::open).collect();
    assert_eq!(secrets, ["hunter2", "hunter3"]);
    assert!(!format!("{request:?}").contains("hunter"));
}
