//! Requests that cannot be served: the whole of what a user reads.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::program::Program;

/// The smallest request, with these blocks merged into its source.
fn with(more: &Value) -> String {
    let mut request = json!({"source": {
        "git": {"uri": "https://git.example.com/acme/app.git"},
        "registry": {"repository": "registry.example.com/acme/app-ci"},
    }});
    merge(&mut request["source"], more);
    request.to_string()
}

/// The smallest request, with something beside its source.
fn beside(more: &Value) -> String {
    let mut request = serde_json::from_str(&with(&json!({}))).expect("it is JSON");
    merge(&mut request, more);
    request.to_string()
}

fn merge(into: &mut Value, more: &Value) {
    match (into, more) {
        (Value::Object(into), Value::Object(more)) => {
            for (key, value) in more {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, more) => *into = more.clone(),
    }
}

fn version() -> Value {
    json!({"ref": "0".repeat(40), "inputs": "1".repeat(64)})
}

#[track_caller]
fn refused(program: Program, request: &str, stderr: &str) {
    let ran = program.run_text(request);
    assert_eq!((ran.stderr.as_str(), ran.stdout.as_str(), ran.code), (stderr, "", Some(1)), "{request}");
}

#[test]
fn a_program_without_its_directory_says_what_it_needs() {
    for program in ["in", "out"] {
        let ran = Program::bare(program).run_text(&beside(&match program {
            "in" => json!({"version": version()}),
            _ => json!({}),
        }));
        ran.fails_with(
            "error: no directory was given as the first argument\n\
             hint: Concourse gives `in` the directory to fill and `out` the one with the artifacts; do the same by hand\n",
        );
    }
}

#[test]
fn a_request_that_cannot_be_read_is_an_error() {
    let directory = std::fs::File::open("/").expect("the root is a directory");
    let output = Command::new(Program::path("check"))
        .stdin(Stdio::from(directory))
        .output()
        .expect("the program is built with the tests");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: cannot read the request from stdin\n\
         cause: Is a directory (os error 21)\n\
         hint: Concourse runs this program; by hand, give it {\"source\": {…}} on stdin\n"
    );
    assert_eq!((output.stdout.as_slice(), output.status.code()), (b"".as_slice(), Some(1)));
}

#[test]
fn a_text_in_the_place_of_a_block_is_not_shown_as_it_may_hold_a_password() {
    refused(
        Program::check(),
        &with(&json!({"git": "https://ada:hunter2@git.example.com/acme/app.git"})),
        "error: `source.git` must be a block, but it is a text\n\
         hint: write a block: git: {uri: …, branch: …, username: …, password: …, private_key: …, …}\n",
    );
    refused(
        Program::check(),
        &with(&json!({"registry": {"repository": "ada:hunter2@registry.example.com/acme/app"}})),
        "error: `source.registry.repository` is not usable\n\
         cause: repository \"registry.example.com/acme/app\" comes with a user, a tag or a digest; give the repository alone\n",
    );
}

#[test]
fn check_refuses_what_it_cannot_serve_and_says_what_to_write() {
    for (request, stderr) in [
        (
            "".to_owned(),
            "error: the request on stdin is not a JSON object with \"source\"\n\
             cause: EOF while parsing a value at line 1 column 0\n\
             hint: Concourse runs this program; by hand, give it {\"source\": {…}} on stdin\n",
        ),
        (
            r#"{"source""#.to_owned(),
            "error: the request on stdin is not a JSON object with \"source\"\n\
             cause: EOF while parsing an object at line 1 column 9\n\
             hint: Concourse runs this program; by hand, give it {\"source\": {…}} on stdin\n",
        ),
        (
            "[1]".to_owned(),
            "error: the request on stdin is not a JSON object with \"source\"\n\
             hint: Concourse runs this program; by hand, give it {\"source\": {…}} on stdin\n",
        ),
        (
            r#""source""#.to_owned(),
            "error: the request on stdin is not a JSON object with \"source\"\n\
             hint: Concourse runs this program; by hand, give it {\"source\": {…}} on stdin\n",
        ),
        (
            r#"{"source": "https://git.example.com/acme/app.git"}"#.to_owned(),
            "error: `source` must be a block, but it is a text\n\
             hint: write a block: source: {git: …, registry: …, registries: …, docker_config_json: …, build: …, …}\n",
        ),
        (
            "{}".to_owned(),
            "error: `source.git` is missing\n\
             hint: for example git: {uri: https://git.example.com/acme/app.git}\n",
        ),
        (
            r#"{"source": {"uri": "https://git.example.com/acme/app.git", "branch": "master"}}"#.to_owned(),
            "error: `source.branch` is not a key of git-image\n\
             hint: did you mean `source.git.branch`?\n",
        ),
        (
            r#"{"source": {"git": {"uri": "https://git.example.com/acme/app.git"}}}"#.to_owned(),
            "error: `source.registry` is missing\n\
             hint: for example registry: {repository: registry.example.com/acme/app-ci}\n",
        ),
        (
            r#"{"source": {"git": {}, "registry": {"repository": "registry.example.com/acme/app-ci"}}}"#.to_owned(),
            "error: `source.git.uri` is missing\n\
             hint: for example uri: https://git.example.com/acme/app.git\n",
        ),
        (
            r#"{"source": {"git": {"uri": "https://git.example.com/acme/app.git"}, "registry": {}}}"#.to_owned(),
            "error: `source.registry.repository` is missing\n\
             hint: for example repository: registry.example.com/acme/app-ci\n",
        ),
        (
            with(&json!({"git": {"brnch": "main"}})),
            "error: `source.git.brnch` is not a key of git-image\n\
             hint: did you mean `source.git.branch`?\n",
        ),
        (
            with(&json!({"git": {"paths": ["a"]}})),
            "error: `source.git.paths` is not supported by this release\n\
             hint: which files count is said in `source.build.paths`, and read from the Dockerfile without it\n",
        ),
        (
            with(&json!({"registry": {"tag": "latest"}})),
            "error: `source.registry.tag` is not supported by this release\n\
             hint: tags are made from the version; further ones are `params.tags` of the put\n",
        ),
        (
            with(&json!({"build": {"argz": {"A": "1"}}})),
            "error: `source.build.argz` is not a key of git-image\n\
             hint: did you mean `source.build.args`?\n",
        ),
        (
            with(&json!({"something": {}})),
            "error: `source.something` is not a key of git-image\n\
             hint: known here: git, registry, registries, docker_config_json, build, engine, only_built, release_branches, reap\n",
        ),
        (
            with(&json!({"git": {"branch": 1.1}})),
            "error: `source.git.branch` must be a text, but it is the number 1.1\n\
             hint: YAML made it so; write it in quotes: branch: \"…\"\n",
        ),
        (
            with(&json!({"git": {"branch": true}})),
            "error: `source.git.branch` must be a text, but it is the boolean true\n\
             hint: YAML made it so; write it in quotes: branch: \"…\"\n",
        ),
        (
            with(&json!({"git": {"username": "u", "password": 12345}})),
            "error: `source.git.password` must be a text, but it is a number\n\
             hint: YAML made it so; write it in quotes: password: \"…\"\n",
        ),
        (
            with(&json!({"git": {"uri": ["a"]}})),
            "error: `source.git.uri` must be a text, but it is a list\n\
             hint: write one text: uri: \"…\"\n",
        ),
        (
            with(&json!({"git": {"skip_ssl_verification": "yes"}})),
            "error: `source.git.skip_ssl_verification` must be true or false, but it is the text \"yes\"\n\
             hint: write it without quotes: skip_ssl_verification: true\n",
        ),
        (
            with(&json!({"git": {"version_depth": 0}})),
            "error: `source.git.version_depth` must be a whole number, 1 or more, but it is the number 0\n\
             hint: write a number of 1 or more, without quotes: version_depth: 1\n",
        ),
        (
            with(&json!({"git": {"ca_certs": "-----BEGIN"}})),
            "error: `source.git.ca_certs` must be a list of texts, but it is the text \"-----BEGIN\"\n\
             hint: write a list, also for one: ca_certs: [\"…\"]\n",
        ),
        (
            with(&json!({"git": {"git_config": {"a": "b"}}})),
            "error: `source.git.git_config` must be a list of blocks, but it is a block\n\
             hint: write a list of blocks: git_config: [{name: …, value: …}]\n",
        ),
        (
            with(&json!({"git": {"git_config": [{"name": "http.version"}]}})),
            "error: `source.git.git_config[0].value` is missing\n\
             hint: for example value: HTTP/1.1\n",
        ),
        (
            with(&json!({"build": "ci/image"})),
            "error: `source.build` must be a block, but it is a text\n\
             hint: write a block: build: {context: …, dockerfile: …, paths: …, ignore_paths: …, details: …, …}\n",
        ),
        (
            with(&json!({"build": {"args": {"A": 1}}})),
            "error: `source.build.args.A` must be a text, but it is the number 1\n\
             hint: YAML made it so; write it in quotes: A: \"…\"\n",
        ),
        (
            with(&json!({"build": {"args": ["A=1"]}})),
            "error: `source.build.args` must be a block of texts, but it is a list\n\
             hint: write name and value as a block: args: {NAME: \"…\"}\n",
        ),
        (
            with(&json!({"build": {"paths": "ci"}})),
            "error: `source.build.paths` must be a list of texts, but it is the text \"ci\"\n\
             hint: write a list, also for one: paths: [\"…\"]\n",
        ),
        (
            with(&json!({"git": {"uri": "file:///srv/app"}})),
            "error: `source.git.uri` is not usable\n\
             cause: git address \"file:///srv/app\" has a scheme other than https, http and ssh\n",
        ),
        (
            with(&json!({"git": {"uri": "--upload-pack=x"}})),
            "error: `source.git.uri` is not usable\n\
             cause: git address \"--upload-pack=x\" begins with '-'\n",
        ),
        (
            with(&json!({"git": {"uri": "https://ada:secret@git.example.com"}})),
            "error: `source.git.uri` is not usable\n\
             cause: git address \"git.example.com\" has no path\n",
        ),
        (
            with(&json!({"git": {"branch": "-x"}})),
            "error: `source.git.branch` is not usable\n\
             cause: branch \"-x\" begins with '-'\n",
        ),
        (
            with(&json!({"git": {"branch": "a..b"}})),
            "error: `source.git.branch` is not usable\n\
             cause: branch \"a..b\" is not a name that git allows for a branch\n",
        ),
        (
            with(&json!({"git": {"password": "p"}})),
            "error: `source.git.password` is given without `source.git.username`\n\
             hint: give both, or neither\n",
        ),
        (
            with(&json!({"git": {"username": "u"}})),
            "error: `source.git.username` is given without `source.git.password`\n\
             hint: give both, or neither\n",
        ),
        (
            with(&json!({"registry": {"username": "u"}})),
            "error: `source.registry.username` is given without `source.registry.password`\n\
             hint: give both, or neither\n",
        ),
        (
            with(&json!({"registries": {"host": "r.example"}})),
            "error: `source.registries` must be a list of blocks, but it is a block\n\
             hint: write a list of blocks: registries: [{host: …, username: …, password: …, insecure: …, ca_certs: …}]\n",
        ),
        (
            with(&json!({"registries": [{"registry": "r.example", "username": "u", "password": "p"}]})),
            "error: `source.registries[0].registry` is not supported by this release\n\
             hint: its name here is `host`: host[:port] of the registry\n",
        ),
        (
            with(&json!({"registries": [{"username": "u", "password": "p"}]})),
            "error: `source.registries[0].host` is missing\n\
             hint: for example host: registry.example.com\n",
        ),
        (
            with(&json!({"registries": [{"host": "https://ada:pw@r.example"}]})),
            "error: `source.registries[0].host` is not usable\n\
             cause: registry \"r.example\" is a URL; give host[:port] alone, such as registry.example.com\n",
        ),
        (
            with(&json!({"registries": [{"host": "r.example/acme"}]})),
            "error: `source.registries[0].host` is not usable\n\
             cause: registry \"r.example/acme\" has a path; give host[:port] alone, such as registry.example.com\n",
        ),
        (
            with(&json!({"registries": [{"host": "r.example", "username": "u"}]})),
            "error: `source.registries[0].username` is given without `source.registries[0].password`\n\
             hint: give both, or neither\n",
        ),
        (
            with(&json!({"registries": [{"host": "docker.io"}, {"host": "index.docker.io"}]})),
            "error: `source.registries[1]` is a second entry for docker.io, after `source.registries[0]`\n\
             hint: give one entry for each registry\n",
        ),
        (
            with(&json!({
                "registry": {"username": "u", "password": "p"},
                "registries": [{"host": "registry.example.com", "username": "u", "password": "q"}],
            })),
            "error: `source.registry` and `source.registries[0]` have different credentials for registry.example.com\n\
             hint: give one user for each registry\n",
        ),
        (
            with(&json!({
                "registries": [{"host": "r.example", "username": "u", "password": "q"}],
                "docker_config_json": r#"{"auths": {"r.example": {"auth": "dTpw"}}}"#,
            })),
            "error: `source.registries[0]` and `source.docker_config_json` have different credentials for r.example\n\
             hint: give one user for each registry\n",
        ),
        (
            with(&json!({"docker_config_json": {"auths": {}}})),
            "error: `source.docker_config_json` must be a text, but it is a block\n\
             hint: write one text: docker_config_json: \"…\"\n",
        ),
        (
            with(&json!({"docker_config_json": "hunter2"})),
            "error: `source.docker_config_json` is not usable\n\
             cause: it is not a config.json: line 1, column 1\n\
             hint: give the content of the file that `docker login` writes, as one text\n",
        ),
        (
            with(&json!({"docker_config_json": r#"{"auths": {"r.example": {"identitytoken": "hunter2"}}}"#})),
            "error: `source.docker_config_json` is not usable\n\
             cause: its entry for r.example is an identity token\n\
             hint: give user and password, or user and token, in `source.registries`\n",
        ),
        (
            with(&json!({"docker_config_json": r#"{"auths": {"r.example": {}}, "credsStore": "desktop"}"#})),
            "error: `source.docker_config_json` is not usable\n\
             cause: its `credsStore` names programs that keep the passwords on another machine\n\
             hint: log in where no credential helper is set, or give user and password in `source.registries`\n",
        ),
        (
            with(&json!({"docker_config_json": r#"{"auths": {"r.example/acme": {"auth": "dTpw"}}}"#})),
            "error: `source.docker_config_json` is not usable\n\
             cause: its entry \"r.example/acme\" is for a part of a registry\n\
             hint: credentials are for whole registries: name the host alone\n",
        ),
        (
            with(&json!({"registry": {"client_certs": {"cert": "c", "key": "hunter2"}}})),
            "error: `source.registry.client_certs` must be a list of blocks, but it is a block\n\
             hint: write a list of blocks: client_certs: [{cert: …, key: …, domain: …}]\n",
        ),
        (
            with(&json!({"registry": {"client_certs": [{"cert": "c"}]}})),
            "error: `source.registry.client_certs[0].key` is missing\n\
             hint: for example key: ((registry.client_key))\n",
        ),
        (
            with(&json!({"registry": {"client_certs": [
                {"cert": "c", "key": "hunter2"},
                {"cert": "c", "key": "hunter2", "domain": "registry.example.com"},
            ]}})),
            "error: `source.registry.client_certs[1]` is a second certificate for registry.example.com, \
             after `source.registry.client_certs[0]`\n\
             hint: give one for each registry; `domain` says for which it is\n",
        ),
        (
            with(&json!({"registry": {"api": {"product": "quay"}}})),
            "error: `source.registry.api.product` is not usable\n\
             cause: product \"quay\" is none of harbor, gitlab, nexus, docker-hub, ghcr, ecr, acr, gar, none\n",
        ),
        (
            with(&json!({"registry": {"api": {"url": "https://u:hunter2@nexus.example.com"}}})),
            "error: `source.registry.api.url` is not usable\n\
             cause: address \"nexus.example.com\" has a user; give it in `source.registry.username`\n",
        ),
        (
            with(&json!({"registry": {"api": {"aws_secret_access_key": "hunter2"}}})),
            "error: `source.registry.api.aws_secret_access_key` is given without `source.registry.api.aws_access_key_id`\n\
             hint: an access key of AWS has both\n",
        ),
        (
            with(&json!({"registry": {"registry_mirror": "https://mirror.example.com"}})),
            "error: `source.registry.registry_mirror` must be a block, but it is a text\n\
             hint: write a block: registry_mirror: {host: …, username: …, password: …}\n",
        ),
        (
            with(&json!({"registry": {"registry_mirror": {"username": "u", "password": "p"}}})),
            "error: `source.registry.registry_mirror.host` is missing\n\
             hint: for example host: mirror.example.com\n",
        ),
        (
            with(&json!({"registry": {"registry_mirror": {"host": "https://mirror.example.com"}}})),
            "error: `source.registry.registry_mirror.host` is not usable\n\
             cause: registry \"https://mirror.example.com\" is a URL; give host[:port] alone, such as registry.example.com\n",
        ),
        (
            with(&json!({"git": {"https_tunnel": {"proxy_port": 8080}}})),
            "error: `source.git.https_tunnel.proxy_host` is missing\n\
             hint: for example proxy_host: proxy.example.com\n",
        ),
        (
            with(
                &json!({"git": {"https_tunnel": {"proxy_host": "http://ada:hunter2@proxy.example.com", "proxy_port": 8080}}}),
            ),
            "error: `source.git.https_tunnel.proxy_host` is not usable\n\
             cause: host \"proxy.example.com\" is not a host alone; the port is `proxy_port`\n",
        ),
        (
            with(&json!({"git": {"https_tunnel": {"proxy_host": "proxy.example.com"}}})),
            "error: `source.git.https_tunnel.proxy_port` is missing\n\
             hint: for example proxy_port: 8080\n",
        ),
        (
            with(&json!({"git": {"https_tunnel": {"proxy_host": "proxy.example.com", "proxy_port": 70000}}})),
            "error: `source.git.https_tunnel.proxy_port` must be a port, 1 to 65535, but it is the number 70000\n\
             hint: write a number: proxy_port: 8080\n",
        ),
        (
            with(
                &json!({"git": {"https_tunnel": {"proxy_host": "proxy.example.com", "proxy_port": "8080", "proxy_user": "u"}}}),
            ),
            "error: `source.git.https_tunnel.proxy_user` is given without `source.git.https_tunnel.proxy_password`\n\
             hint: give both, or neither\n",
        ),
        (
            with(&json!({"git": {"private_key": "k"}})),
            "error: `source.git.private_key` does not go with `source.git.uri`, which is http(s)\n\
             hint: give `source.git.username` and `source.git.password` for https, or an ssh address\n",
        ),
        (
            with(&json!({"git": {"uri": "git@git.example.com:a/b", "username": "u", "password": "p"}})),
            "error: `source.git.username` does not go with `source.git.uri`, which is ssh\n\
             hint: give `source.git.private_key` for ssh, or an https address\n",
        ),
        (
            with(&json!({"git": {"uri": "ssh://git:pw@git.example.com/a/b"}})),
            "error: `source.git.uri` has a password, which ssh does not take from there\n\
             hint: take the password out of the address, and give `source.git.private_key`\n",
        ),
        (
            with(&json!({"git": {"uri": "ssh://git@git.example.com/a/b", "private_key_passphrase": "pw"}})),
            "error: `source.git.private_key_passphrase` is given without `source.git.private_key`\n\
             hint: give both, or neither\n",
        ),
        (
            with(&json!({"git": {"uri": "https://ada:secret@git.example.com/a/b", "username": "u", "password": "p"}})),
            "error: `source.git.uri` holds a user, and `source.git.username` another one\n\
             hint: take the user out of the address\n",
        ),
        (
            with(&json!({"registry": {"repository": "registry.example.com/Acme/App"}})),
            "error: `source.registry.repository` is not usable\n\
             cause: repository \"registry.example.com/Acme/App\" has upper-case letters, which a repository may not have\n",
        ),
        (
            with(&json!({"registry": {"repository": "registry.example.com/acme/app:v1"}})),
            "error: `source.registry.repository` is not usable\n\
             cause: repository \"registry.example.com/acme/app:v1\" comes with a user, a tag or a digest; give the repository alone\n",
        ),
        (
            with(&json!({"registry": {"repository": "https://registry.example.com/acme/app"}})),
            "error: `source.registry.repository` is not usable\n\
             cause: repository \"https://registry.example.com/acme/app\" is a URL; give host and name alone, such as registry.example.com/acme/app\n",
        ),
        (
            with(&json!({"registry": {"variant": "-x"}})),
            "error: `source.registry.variant` is not usable\n\
             cause: variant \"-x\" has '-' at position 0, which is not allowed there\n",
        ),
        (
            with(&json!({"registry": {"tag_prefix": "-x"}})),
            "error: `source.registry.tag_prefix` is not usable\n\
             cause: tag prefix \"-x\" has '-' at position 0, which is not allowed there\n",
        ),
        (
            with(&json!({"registry": {"tag_prefix": "xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"}})),
            "error: `source.registry.tag_prefix` is not usable\n\
             cause: tag prefix \"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\" has 60 characters, more than 57\n",
        ),
        (
            with(&json!({"build": {"context": "../up"}})),
            "error: `source.build.context` is not usable\n\
             cause: path \"../up\" has '..'; paths stay inside the repository\n",
        ),
        (
            with(&json!({"build": {"context": "/abs"}})),
            "error: `source.build.context` is not usable\n\
             cause: path \"/abs\" begins with '/'; paths are relative to the root of the repository\n",
        ),
        (
            with(&json!({"build": {"dockerfile": ""}})),
            "error: `source.build.dockerfile` is not usable\n\
             cause: path \"\" names no file\n",
        ),
        (
            with(&json!({"build": {"args": {"NUMBER": "${BUILD_ID}"}}})),
            "error: `source.build.args.NUMBER` has a `$BUILD_…` variable: every build would make another image\n\
             hint: say which build it was in `params.labels` or `params.tags` of the put\n",
        ),
        (
            with(&json!({"build": {"args": {"NUMBER": "1.$BUILD_NAME"}}})),
            "error: `source.build.args.NUMBER` has a `$BUILD_…` variable: every build would make another image\n\
             hint: say which build it was in `params.labels` or `params.tags` of the put\n",
        ),
        (
            with(&json!({"engine": {"host": "ssh://ada:pass@builder"}})),
            "error: `source.engine.host` has a password, which ssh does not take from there\n\
             hint: take the password out of the address, and give `source.engine.private_key`\n",
        ),
        (
            with(&json!({"engine": {"host": "tcp://builder:1", "known_hosts": "x"}})),
            "error: `source.engine.known_hosts` is given, and no `source.engine.host` is ssh://\n\
             hint: keys are for engines at ssh://user@host; leave it out for others\n",
        ),
        (
            with(&json!({"build": {"secrets": {"token": {"value": "x", "env": "Y"}}}})),
            "error: `source.build.secrets.token` has more than one source\n\
             hint: give one of: value, file (artifact/path), env (a variable)\n",
        ),
        (
            with(&json!({"build": {"secrets": {"token": {}}}})),
            "error: `source.build.secrets.token` has no source\n\
             hint: give one of: value, file (artifact/path), env (a variable)\n",
        ),
        (
            with(&json!({"build": {"secrets": {"token": 1234}}})),
            "error: `source.build.secrets.token` must be a text or a block, but it is a number\n\
             hint: YAML made it so; write it in quotes: token: \"…\"\n",
        ),
        (
            with(&json!({"build": {"ssh": {"default": {"key": "x"}}}})),
            "error: `source.build.ssh.default.key` is not a key of git-image\n\
             hint: known here: private_key, private_key_passphrase, file, env\n",
        ),
        (
            with(&json!({"build": {"platforms": ["amd64"]}})),
            "error: `source.build.platforms` is not usable\n\
             cause: platform \"amd64\" is not of the form os/architecture or os/architecture/variant\n",
        ),
        (
            with(&json!({"build": {"contexts": {"code": "https://git.example.com/acme/lib.git#master"}}})),
            "error: `source.build.contexts.code` is not usable\n\
             cause: context \"https://git.example.com/acme/lib.git#master\" names no commit behind #, 40 hexadecimal digits: a branch would move without a new version\n",
        ),
        (
            with(&json!({"build": {"add_hosts": {"a": "b"}}})),
            "error: `source.build.add_hosts.a` is not usable\n\
             cause: address \"b\" is no IP address\n",
        ),
        (
            with(&json!({"build": {"network": "bridge"}})),
            "error: `source.build.network` is not usable\n\
             cause: word \"bridge\" is none of: default, none, host\n",
        ),
        (
            with(&json!({"build": {"allow": ["all"]}})),
            "error: `source.build.allow` is not usable\n\
             cause: entitlement \"all\" is none of: network.host, security.insecure\n",
        ),
        (
            with(&json!({"build": {"shm_size": "64 MiB"}})),
            "error: `source.build.shm_size` is not usable\n\
             cause: size \"64 MiB\" is no size: a number of bytes, or one with k, m or g behind it\n",
        ),
        (
            with(&json!({"registry": {"max_unpacked_size": "20 GB"}})),
            "error: `source.registry.max_unpacked_size` is not usable\n\
             cause: size \"20 GB\" is no size: a number of bytes, or one with k, m or g behind it, or 0 for no limit\n",
        ),
        (
            with(&json!({"build": {"ulimits": {"nofile": "many"}}})),
            "error: `source.build.ulimits.nofile` is not usable\n\
             cause: limit \"many\" is not of the form soft:hard, two numbers, or one for both\n",
        ),
        (
            with(&json!({"build": {"compression": "xz"}})),
            "error: `source.build.compression.type` is not usable\n\
             cause: compression \"xz\" is none of: gzip, zstd\n",
        ),
        (
            with(&json!({"build": {"compression": {"type": "gzip", "level": "10"}}})),
            "error: `source.build.compression.level` is not usable\n\
             cause: compression \"10\" is no number from 0 to 9\n",
        ),
        (
            with(&json!({"engine": {"host": "builder:1234"}})),
            "error: `source.engine.host` is not usable\n\
             cause: address \"builder:1234\" is none of: unix:///path, tcp://host:port, ssh://user@host\n",
        ),
        (
            with(&json!({"engine": {"host": "tcp://builder"}})),
            "error: `source.engine.host` is not usable\n\
             cause: address \"tcp://builder\" has no host and port behind tcp://\n",
        ),
        (
            with(&json!({"engine": {"host": ["tcp://a:1", "tcp://b"]}})),
            "error: `source.engine.host[1]` is not usable\n\
             cause: address \"tcp://b\" has no host and port behind tcp://\n",
        ),
        (
            with(&json!({"engine": {"host": 1234}})),
            "error: `source.engine.host` must be a text or a list of texts, but it is the number 1234\n\
             hint: write one text, or a list: host: \"…\"\n",
        ),
        (
            with(&json!({"engine": {"host": "unix:///run/docker.sock", "tls": {"ca": "x"}}})),
            "error: `source.engine.tls` is given, and no `source.engine.host` is tcp://\n\
             hint: TLS is for engines at tcp://host:port; leave it out for a socket\n",
        ),
        (
            with(&json!({"engine": {"host": "tcp://a:1", "tls": {"cert": "x"}}})),
            "error: `source.engine.tls.cert` is given without `source.engine.tls.key`\n\
             hint: give both, or neither\n",
        ),
        (
            with(&json!({"engine": {"host": "unix://run/docker.sock"}})),
            "error: `source.engine.host` is not usable\n\
             cause: address \"unix://run/docker.sock\" has no absolute path behind unix://\n",
        ),
        (
            beside(
                &json!({"version": {"ref": "abc", "inputs": "1111111111111111111111111111111111111111111111111111111111111111"}}),
            ),
            "error: `version.ref` is not usable\n\
             cause: commit \"abc\" is not 40 hexadecimal digits in lower case\n",
        ),
        (
            beside(&json!({"version": {"ref": "0000000000000000000000000000000000000000"}})),
            "error: `version.inputs` is missing\n\
             hint: for example a version as check answers it\n",
        ),
        (
            beside(&json!({"version": {"commit": "0000000000000000000000000000000000000000"}})),
            "error: `version.commit` is not a key of git-image\n\
             hint: known here: ref, inputs, bases\n",
        ),
    ] {
        refused(Program::check(), &request, stderr);
    }
}

#[test]
fn in_refuses_what_it_cannot_serve_and_says_what_to_write() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    for (request, stderr) in [
        (
            with(&json!({})),
            "error: `version` is missing\n\
             hint: for example {\"ref\": \"<40 hex>\", \"inputs\": \"<64 hex>\"}, as check answers it\n",
        ),
        (
            with(&json!({"registry": {"repository": "registry.example/acme/app", "download_timeout": "90"}})),
            "error: `source.registry.download_timeout` is not usable\n\
             cause: duration \"90\" is not a whole number and s, m, h or d, such as 24h\n",
        ),
        (
            with(&json!({"registry": {"repository": "registry.example/acme/app", "download_timeout": "0m"}})),
            "error: `source.registry.download_timeout` is not usable\n\
             cause: duration \"0m\" leaves no time for anything\n",
        ),
        (
            beside(&json!({"version": version(), "params": {"platform": "linux/arm64"}})),
            "error: `params.platform` must be a block, but it is a text\n\
             hint: write a block: platform: {architecture: …, os: …, variant: …}\n",
        ),
        (
            beside(&json!({"version": version(), "params": {"format": "tar"}})),
            "error: `params.format` is not usable\n\
             cause: format \"tar\" is none of: rootfs, oci, oci-layout\n",
        ),
        (
            beside(&json!({"version": version(), "params": {"skip_downlaod": true}})),
            "error: `params.skip_downlaod` is not a key of git-image\n\
             hint: did you mean `params.skip_download`?\n",
        ),
        (
            beside(&json!({"version": version(), "params": {"unpack": true}})),
            "error: `params.unpack` is not a key of git-image\n\
             hint: known here: format, skip_download, source, platform\n",
        ),
    ] {
        refused(Program::get(directory.path()), &request, stderr);
    }
}

#[test]
fn out_refuses_what_it_cannot_serve_and_says_what_to_write() {
    let directory = tempfile::tempdir().expect("a directory can be made");
    for (request, stderr) in [
        (
            beside(&json!({"params": {"repository": "repo"}})),
            "error: `params.repository` is not a key of git-image\n\
             hint: known here: source, tags, additional_tags, rebuild, labels, version, bump_aliases, context, contexts, args, args_file, image, test\n",
        ),
        (
            beside(&json!({"params": {"skip_download": true}})),
            "error: `params.skip_download` is not supported by this release\n\
             hint: it belongs to the get after the put: write it in `get_params`, or use `no_get: true`\n",
        ),
        (
            beside(&json!({"params": {"version": 1.2}})),
            "error: `params.version` must be a text, but it is the number 1.2\n\
             hint: YAML made it so; write it in quotes: version: \"…\"\n",
        ),
        (
            beside(&json!({"params": {"version": "1.2"}})),
            "error: `params.version` is not usable\n\
             cause: version \"1.2\" is not X.Y.Z, as semantic versions are: unexpected end of input while parsing minor version number\n",
        ),
        (
            beside(&json!({"params": {"tags": "v1"}})),
            "error: `params.tags` must be a list of texts, but it is the text \"v1\"\n\
             hint: write a list, also for one: tags: [\"…\"]\n",
        ),
        (
            beside(&json!({"params": ["a"]})),
            "error: `params` must be a block, but it is a list\n\
             hint: write a block: params: {source: …, tags: …, additional_tags: …, rebuild: …, labels: …, …}\n",
        ),
    ] {
        refused(Program::put(directory.path()), &request, stderr);
    }
}
