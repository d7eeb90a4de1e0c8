//! Registries and git servers that ask who we are.

use std::path::Path;

use base64::Engine as _;
use serde_json::{Value, json};

use super::{apply, lines};
use crate::project::Project;
use crate::support::git::{GitServer, Options as GitOptions, Passphrase, SshServer, file};
use crate::support::image;
use crate::support::program::{Program, Ran};
use crate::support::registry::{Access, Account, Options, Registry, Transport};
use crate::support::{servers, temporary};

const ACCOUNT: Account<'static> = Account { username: "ci", password: "pass word" };

/// The source of a project whose image is in repository `acme/app` of this registry.
pub fn source(project: &Project, registry: &Registry) -> Value {
    project.source_with(&[("/registry/repository", json!(registry.repository("acme/app")))])
}

/// Pushes an image for master, and one for a branch that is gone, each with the labels that `out` sets: our engine
/// cannot push to every registry here. The git repository is the one at the address of the source.
pub fn push(project: &Project, source: &Value, registry: &Registry, account: Option<Account<'_>>) {
    let name = repository(source["git"]["uri"].as_str().expect("a source has an address"));
    project.git.set("gone", "master");
    project.git.commit("gone", &[file("ci/image/tool.sh", "echo tool 2\n")]);
    for branch in ["master", "gone"] {
        let (commit, inputs) = (project.git.id(branch), hex::encode([branch.as_bytes()[0]; 32]));
        let labels = json!({"git-image.repository": name, "git-image.commit": commit, "git-image.inputs": inputs});
        let directory = temporary();
        layout(directory.path(), &json!({"Labels": labels}));
        for tag in [format!("inputs-{inputs}"), commit, format!("{branch}-latest")] {
            image::push(directory.path(), registry, "acme/app", &tag, account);
        }
    }
    project.git.delete("gone");
}

fn layout(directory: &Path, config: &Value) {
    let mut layer = tar::Builder::new(Vec::new());
    image::append(&mut layer, tar::EntryType::Regular, "file", 0o644, b"content\n");
    image::layout(directory, &[layer.into_inner().expect("memory can be written to")], config.clone());
}

/// The canonical name of a git repository: its address without scheme, user, port and `.git`.
fn repository(uri: &str) -> String {
    let (_, rest) = uri.split_once("://").expect("an address has a scheme");
    let (authority, path) = rest.split_once('/').expect("an address has a path");
    let host = authority.rsplit('@').next().unwrap_or(authority);
    let host = host.split(':').next().unwrap_or(host);
    format!("{host}/{}", path.trim_end_matches(".git"))
}

#[track_caller]
fn is_reaped(ran: &Ran, git: &str) {
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert_eq!(lines(&ran.stdout, "REMOVE").len(), 3, "{}", ran.stdout);
    assert_eq!(lines(&ran.stdout, "KEEP").len(), 3, "{}", ran.stdout);
    assert!(ran.stdout.contains(&format!("git      {git}: 1 branch, default master")), "{}", ran.stdout);
    assert!(ran.stderr.ends_with("tags removed: 3, kept tags verified: 3\n"), "{}", ran.stderr);
}

#[test]
fn a_registry_with_passwords_tokens_or_tls_is_reaped() {
    let project = Project::new("reap-access");
    for (name, access, transport) in [
        ("basic", Access::Basic(ACCOUNT), Transport::Plain),
        ("tokens", Access::Token(ACCOUNT), Transport::Plain),
        ("tls", Access::Open, Transport::Tls),
        ("basic and tls", Access::Basic(ACCOUNT), Transport::Tls),
    ] {
        let registry = Registry::start(Options { access, transport, ..Default::default() });
        let account = (!matches!(access, Access::Open)).then_some(ACCOUNT);
        push(&project, &project.source, &registry, account);
        let mut source = source(&project, &registry);
        if let Some(Account { username, password }) = account {
            source["registry"]["username"] = json!(username);
            source["registry"]["password"] = json!(password);
        }
        if let Some(authority) = registry.ca_certs() {
            source["registry"]["insecure"] = json!(false);
            source["registry"]["ca_certs"] = json!([authority]);
        }
        let ran = apply(&source);
        is_reaped(&ran, "127.0.0.1/reap-access");
        assert!(!ran.stderr.contains(ACCOUNT.password) && !ran.stdout.contains(ACCOUNT.password), "{name}");
        if let Some(tokens) = registry.tokens() {
            let scopes = tokens.requests();
            assert!(scopes.iter().any(|scope| scope.contains("delete")), "{name}: {scopes:?}");
        }
    }
}

#[test]
fn the_account_comes_from_stdin_the_environment_or_what_docker_keeps() {
    let project = Project::new("reap-logins");
    let registry = Registry::start(Options { access: Access::Basic(ACCOUNT), ..Default::default() });
    push(&project, &project.source, &registry, Some(ACCOUNT));
    let directory = temporary();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).expect("it is written");
    // As YAML, with a login that only a credential manager could fill in.
    let mut source = source(&project, &registry);
    source["registry"]["username"] = json!("((registry.username))");
    source["registry"]["password"] = json!("((registry.password))");
    write("source.yml", &source.to_string());
    let run = |arguments: &[&str], variables: &[(&str, &str)], stdin: &str| {
        let program = Program::git_image(["reap", "--source", "source.yml", "--grace", "0s"]);
        let program = arguments.iter().fold(program, Program::argument).working_directory(directory.path());
        let program = program.environment("DOCKER_CONFIG", directory.path());
        let program = program.environment("PATH", format!("{}:/usr/bin:/bin", directory.path().display()));
        let ran =
            variables.iter().fold(program, |program, (name, value)| program.environment(name, value)).run_text(stdin);
        assert!(!ran.stderr.contains(ACCOUNT.password) && !ran.stdout.contains(ACCOUNT.password), "{}", ran.stderr);
        ran
    };
    let succeeds = |ran: Ran| assert_eq!(ran.code, Some(0), "{}", ran.stderr);

    let refused = run(&[], &[], "");
    assert!(refused.stderr.contains("the registry answered 401"), "{}", refused.stderr);
    let hints = "\nhint: give `source.registry.username` and `source.registry.password`\n\
                 hint: on the command line: --username and --password-stdin; else GIT_IMAGE_REGISTRY_USERNAME and \
                 GIT_IMAGE_REGISTRY_PASSWORD; else the source; else what `docker login` left\n";
    assert!(refused.stderr.ends_with(hints), "{}", refused.stderr);
    succeeds(run(&["--username", ACCOUNT.username, "--password-stdin"], &[], &format!("{}\n", ACCOUNT.password)));
    let variables =
        [("GIT_IMAGE_REGISTRY_USERNAME", ACCOUNT.username), ("GIT_IMAGE_REGISTRY_PASSWORD", ACCOUNT.password)];
    succeeds(run(&[], &variables, ""));
    let variables = ["-v", &format!("registry.username={}", ACCOUNT.username), "-l", "vars.yml"];
    write("vars.yml", &format!("registry: {{password: {:?}}}\n", ACCOUNT.password));
    succeeds(run(&variables, &[], ""));

    let host = &registry.host();
    let auth = base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", ACCOUNT.username, ACCOUNT.password));
    write("config.json", &json!({"auths": {host: {"auth": auth}}}).to_string());
    succeeds(run(&[], &[], ""));
    write("config.json", &json!({"auths": {host: {}}, "credsStore": "test"}).to_string());
    let printed = json!({"ServerURL": host, "Username": ACCOUNT.username, "Secret": ACCOUNT.password});
    let helper = format!("#!/bin/sh\ntest \"$1 $(cat)\" = 'get {host}' && echo '{printed}'\n");
    write("docker-credential-test", &helper);
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(directory.path().join("docker-credential-test"), mode).expect("it is made a program");
    succeeds(run(&[], &[], ""));
    // A helper that keeps nothing is as none.
    write("docker-credential-test", "#!/bin/sh\necho credentials not found in native keychain\nexit 1\n");
    assert_eq!(run(&[], &[], "").stderr, refused.stderr);
}

#[test]
fn the_login_that_the_users_git_keeps_is_taken_where_no_other_is_given() {
    let server = GitServer::start(GitOptions { account: Some(ACCOUNT), ..Default::default() });
    let git = server.repository("user-login");
    git.commit("master", &[file("Dockerfile", "FROM scratch\n")]);
    let home = temporary();
    let write = |name: &str, text: &str| std::fs::write(home.path().join(name), text).expect("it is written");
    let source = json!({"git": {"uri": git.uri()}, "registry": {"repository": "127.0.0.1:1/none"}});
    let run = || {
        let program = Program::git_image(["inputs", "--source", "-"]).environment("HOME", home.path());
        let ran = program.run(&source);
        assert!(!ran.stderr.contains(ACCOUNT.password) && !ran.stdout.contains(ACCOUNT.password), "{}", ran.stderr);
        ran
    };
    run().fails_with(&format!(
        "error: the git server refused access to 127.0.0.1/user-login\n\
         cause: fatal: could not read Username for 'http://{}': terminal prompts disabled\n\
         hint: check `source.git.uri`; a private repository needs `source.git.username` and `source.git.password`, or \
         `source.git.private_key`\n\
         hint: on the command line: GIT_IMAGE_GIT_USERNAME and GIT_IMAGE_GIT_PASSWORD, or GIT_IMAGE_GIT_PRIVATE_KEY; else \
         the source; else what your git's credential helpers keep, or your ssh keys\n",
        server.host()
    ));
    write(".gitconfig", "[credential]\n\thelper = store\n");
    // A helper that keeps nothing for this server is as none.
    assert_eq!(run().code, Some(1));
    let login = format!("http://{}:{}@{}\n", ACCOUNT.username, ACCOUNT.password.replace(' ', "%20"), server.host());
    write(".git-credentials", &login);
    let ran = run();
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    assert!(ran.stdout.ends_with("\nDockerfile  the Dockerfile\n"), "{}", ran.stdout);
}

#[test]
fn an_account_that_may_only_read_is_told_so() {
    let registry = Registry::start(Options { access: Access::Token(ACCOUNT), ..Default::default() });
    let project = Project::new("reap-read-only");
    push(&project, &project.source, &registry, Some(ACCOUNT));
    let ran = apply(&source(&project, &registry));
    assert_eq!(ran.code, Some(1), "{}", ran.stdout);
    let repository = registry.repository("acme/app");
    let said = ran.stderr.split_once("error: ").map_or("", |(_, said)| said);
    assert!(said.starts_with("cannot delete "), "{}", ran.stderr);
    assert!(said.contains(&repository) && said.contains("hint: "), "{}", ran.stderr);
}

#[test]
fn git_is_reached_with_a_password_over_tls_and_over_ssh() {
    let registry = Registry::start(Options::default());

    let server =
        GitServer::start(GitOptions { account: Some(ACCOUNT), transport: Transport::Tls, ..Default::default() });
    let git = server.repository("reap-tls");
    let mut project = Project::new("reap-git-tls");
    git.commit("master", &[file("ci/image/Dockerfile", "FROM scratch\n")]);
    project.git = git;
    project.source["git"] = json!({
        "uri": project.git.uri(), "username": ACCOUNT.username, "password": ACCOUNT.password,
        "ca_certs": [server.ca_certs().expect("it speaks TLS")],
    });
    push(&project, &project.source, &registry, None);
    is_reaped(&apply(&source(&project, &registry)), "127.0.0.1/reap-tls");

    let registry = Registry::start(Options::default());
    let server = SshServer::start(servers().git(), Passphrase::Words("open sesame"));
    let mut project = Project::new("reap-git-ssh");
    let uri = server.uri(project.name);
    let name = repository(&uri);
    project.source["git"] = json!({
        "uri": uri, "private_key": server.private_key(), "private_key_passphrase": "open sesame",
        "known_hosts": server.known_hosts(),
    });
    push(&project, &project.source, &registry, None);
    is_reaped(&apply(&source(&project, &registry)), &name);
}
