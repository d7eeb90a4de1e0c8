//! What check asks of a git server: one request for each thing where it knows the second protocol, and git's own way
//! wherever anything is odd.

use std::time::Duration;

use serde_json::{Value, json};

use crate::project::{check, only};
use crate::support::git::{GitRepository, GitServer, Options, Passphrase, Protocol, SshServer, file};
use crate::support::program::Program;
use crate::support::proxy::{Proxy, Then};
use crate::support::registry::{Account, Transport};
use crate::support::{servers, temporary};

const ACCOUNT: Account<'_> = Account { username: "ada", password: "right: pässword" };

/// What a check without anything new asks for.
const ONE: &str = "POST /NAME.git/git-upload-pack HTTP/1.1 200";
/// What git asks for, for the same.
const GIT: [&str; 2] = ["GET /NAME.git/info/refs?service=git-upload-pack HTTP/1.1 200", ONE];

fn commit(git: &GitRepository) {
    git.commit("master", &[file("ci/image/Dockerfile", "FROM scratch\nLABEL a=b\n")]);
}

fn source_of(git: Value) -> Value {
    json!({"git": git, "registry": {"repository": "127.0.0.1:1/none"}, "build": {"context": "ci/image"}})
}

/// Checks twice; the requests of the second check, with `NAME` for the repository's name.
#[track_caller]
fn second_check(server: &GitServer, name: &str, git: Value) -> Vec<String> {
    let source = source_of(git);
    let version = only(&check(&source, None));
    let before = server.requests_for(name).len();
    assert_eq!(only(&check(&source, Some(&version))), version);
    let requests = server.requests_for(name).split_off(before);
    requests.into_iter().map(|line| line.replace(&format!("/{name}.git"), "/NAME.git")).collect()
}

#[test]
fn a_password_is_shown_at_once() {
    let server = GitServer::start(Options { account: Some(ACCOUNT), ..Options::default() });
    let git = server.repository("password");
    commit(&git);
    let login = json!({"uri": git.uri(), "branch": "master", "username": "ada", "password": ACCOUNT.password});
    assert_eq!(second_check(&server, "password", login), [ONE]);
}

#[test]
fn an_authority_of_its_own_is_trusted_when_it_is_given_and_none_is_needed_without_verification() {
    let server = GitServer::start(Options { transport: Transport::Tls, ..Options::default() });
    let git = server.repository("authority");
    commit(&git);
    let ca_certs = json!([server.ca_certs().expect("the server has an authority")]);
    let trusting = json!({"uri": git.uri(), "branch": "master", "ca_certs": ca_certs});
    assert_eq!(second_check(&server, "authority", trusting), [ONE]);
    let careless = json!({"uri": git.uri(), "branch": "master", "skip_ssl_verification": true});
    assert_eq!(second_check(&server, "authority", careless), [ONE]);
}

#[test]
fn the_default_branch_is_one_request_too() {
    let git = servers().git().repository("refs-default");
    commit(&git);
    assert_eq!(second_check(servers().git(), "refs-default", json!({"uri": git.uri()})), [ONE]);
}

#[test]
fn resources_of_one_repository_cost_one_request_each() {
    let git = servers().git().repository("refs-several");
    commit(&git);
    let branches: Vec<String> = (0..5).map(|number| format!("feat/{number}")).collect();
    let sources = branches.iter().map(|branch| {
        git.set(branch, "master");
        git.commit(branch, &[file("app.sh", branch)]);
        source_of(json!({"uri": git.uri(), "branch": branch}))
    });
    let known: Vec<(Value, Value)> = sources.map(|source| (only(&check(&source, None)), source)).collect();
    let before = servers().git().requests_for("refs-several").len();
    for (version, source) in &known {
        assert_eq!(only(&check(source, Some(version))), *version);
    }
    let requests = servers().git().requests_for("refs-several").split_off(before);
    assert_eq!(requests, vec![ONE.replace("NAME", "refs-several"); branches.len()]);
}

#[test]
fn what_is_new_is_one_request_more_and_the_dockerfile_another() {
    let git = servers().git().repository("refs-new");
    commit(&git);
    let place = temporary();
    let source = source_of(json!({"uri": git.uri(), "branch": "master"}));
    let mut seen = 0;
    let mut requests = |version: Option<&Value>| {
        let request = json!({"source": source, "version": version});
        let version = only(&Program::check().environment("TMPDIR", place.path()).run(&request));
        let all = servers().git().requests_for("refs-new");
        let new = all[std::mem::replace(&mut seen, all.len())..].to_vec();
        assert!(new.iter().all(|line| *line == ONE.replace("NAME", "refs-new")), "{new:#?}");
        (version, new.len())
    };
    let (version, cold) = requests(None);
    assert_eq!(cold, 3, "refs, commits, the Dockerfile");
    git.commit("master", &[file("app.sh", "echo 2\n")]);
    assert_eq!(requests(Some(&version)), (version.clone(), 2));
    // A history that goes on from where the cache ends, and one that a force push made.
    git.set("side", "master~1");
    let merged = git.commit("side", &[file("ci/image/tool.sh", "x\n"), file("other", "1")]);
    git.merge("side", "master");
    assert_eq!(requests(Some(&version)), (version.clone(), 2), "tool.sh is not copied");
    git.set("master", &merged);
    git.commit("master", &[file("app.sh", "echo 3\n")]);
    assert_eq!(requests(Some(&version)), (version.clone(), 2));
}

#[test]
fn a_history_deeper_than_what_is_fetched_at_first_is_fetched_step_by_step() {
    let git = servers().git().repository("refs-deep");
    commit(&git);
    let brought = git.id("master");
    for number in 0..140 {
        git.commit("master", &[file("app.sh", &format!("echo {number}\n"))]);
    }
    let version = only(&check(&source_of(json!({"uri": git.uri(), "branch": "master"})), None));
    assert_eq!(version["ref"], json!(brought));
    let requests = servers().git().requests_for("refs-deep");
    // Refs, the Dockerfile, and 128 and 512 commits.
    assert_eq!(requests, vec![ONE.replace("NAME", "refs-deep"); 4]);
}

#[test]
fn objects_that_come_cut_off_or_in_a_way_that_is_not_known_are_fetched_by_git() {
    const TYPE: &str =
        "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\nConnection: close\r\n\r\n";
    let git = servers().git().repository("refs-objects");
    commit(&git);
    // The objects of a pack that ends in its first one, and a pack of nothing.
    for body in ["000dpackfile\n0011\u{1}PACK\0\0\0\u{2}0000", "000dpackfile\n0000", "0000", "0010ERR go away\n", ""] {
        let answer: &'static [u8] = format!("{TYPE}{body}").leak().as_bytes();
        let mut posts = 0;
        let proxy = Proxy::start(&servers().git().host(), move |request| {
            posts += usize::from(request.starts_with("POST"));
            if request.starts_with("POST") && posts == 2 { Then::Answer(answer) } else { Then::Pass }
        });
        let source = source_of(json!({"uri": format!("http://{}/refs-objects.git", proxy.host()), "branch": "master"}));
        assert_eq!(only(&check(&source, None))["ref"], json!(git.id("master")), "{body:?}");
    }
}

#[test]
fn a_check_that_is_killed_while_it_fetches_leaves_what_the_next_one_goes_on_with() {
    let git = servers().git().repository("refs-killed");
    commit(&git);
    let place = temporary();
    let mut posts = 0;
    // Killed with the first commits on their way, then with the Dockerfile on its way, which is after the commits.
    let proxy = Proxy::start(&servers().git().host(), move |_| {
        posts += 1;
        if [2, 5].contains(&posts) { Then::Hold } else { Then::Pass }
    });
    let source = source_of(json!({"uri": format!("http://{}/refs-killed.git", proxy.host()), "branch": "master"}));
    let program = || Program::check().environment("TMPDIR", place.path());
    for _ in 0..2 {
        let running = program().start(&json!({"source": source}).to_string());
        proxy.wait_until_held();
        running.terminate();
        assert_eq!(running.wait().code, Some(1));
    }
    assert_eq!(only(&program().run(&json!({"source": source})))["ref"], json!(git.id("master")));
}

#[test]
fn settings_of_git_that_may_matter_are_left_to_git() {
    let git = servers().git().repository("refs-settings");
    commit(&git);
    for (name, requests) in [("user.name", &GIT[1..]), ("http.extraHeader", &GIT), ("url.http://h/.insteadOf", &GIT)] {
        let settings = json!([{"name": name, "value": "X-Any: thing"}]);
        let source = json!({"uri": git.uri(), "branch": "master", "git_config": settings});
        assert_eq!(second_check(servers().git(), "refs-settings", source), requests, "{name}");
    }
}

#[test]
fn a_proxy_in_the_environment_is_left_to_git() {
    let git = servers().git().repository("refs-proxy");
    commit(&git);
    let request = json!({"source": source_of(json!({"uri": git.uri(), "branch": "master"}))});
    let ran = Program::check().environment("http_proxy", "http://127.0.0.1:1").run(&request);
    assert!(ran.stderr.contains("Failed to connect to 127.0.0.1 port 1 "), "{}", ran.stderr);
}

#[test]
fn ssh_is_gits() {
    let server = GitServer::start(Options::default());
    commit(&server.repository("ssh"));
    let ssh = SshServer::start(&server, Passphrase::None);
    let git = json!({"uri": ssh.uri("ssh"), "branch": "master", "private_key": ssh.private_key()});
    assert_eq!(second_check(&server, "ssh", git), Vec::<String>::new());
}

#[test]
fn a_server_of_the_first_protocol_is_asked_by_git() {
    let server = GitServer::start(Options { protocol: Protocol::Zero, ..Options::default() });
    let git = server.repository("old");
    commit(&git);
    let requests = second_check(&server, "old", json!({"uri": git.uri(), "branch": "master"}));
    // It takes the command for the name of an object, and says so with 200.
    assert_eq!(requests, [ONE, GIT[0]]);
    check(&source_of(json!({"uri": git.uri(), "branch": "none"})), None).fails_with(
        "error: no branch `none` in 127.0.0.1/old\n\
         hint: check `source.git.branch`; was the branch pushed, or deleted? Upper and lower case differ\n",
    );
}

#[test]
fn an_answer_that_is_odd_is_never_taken_for_refs() {
    const NONE: &str = "HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-result\r\nConnection: close\r\n";
    let git = servers().git().repository("refs-odd");
    commit(&git);
    let whole = |head: &str, body: &str| format!("{head}Content-Length: {}\r\n\r\n{body}", body.len());
    for (what, answer) in [
        ("not found", whole("HTTP/1.1 404 Not Found\r\n", "")),
        ("forbidden", whole("HTTP/1.1 403 Forbidden\r\n", "0000")),
        ("an error", whole("HTTP/1.1 500 Oops\r\n", "0000")),
        ("a redirect", whole("HTTP/1.1 307 Moved\r\nLocation: http://127.0.0.1:1/elsewhere\r\n", "")),
        ("a page", whole("HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n", "0000")),
        ("a page of unknown type", whole("HTTP/1.1 200 OK\r\n", "0000")),
        ("no content", whole("HTTP/1.1 204 No Content\r\nContent-Type: application/x-git-upload-pack-result\r\n", "")),
        ("an encoding", whole(&format!("{NONE}Content-Encoding: gzip\r\n"), "0000")),
        ("garbage", whole(NONE, "hi!\n")),
        ("nothing", whole(NONE, "")),
        ("an error in a packet", whole(NONE, "0010ERR go away\n0000")),
        ("cut off in the protocol", whole(NONE, "003daaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa refs/heads/other\n")),
        ("cut off in HTTP", format!("{NONE}Content-Length: 8\r\n\r\n0000")),
        ("cut off in a chunk", format!("{NONE}Transfer-Encoding: chunked\r\n\r\n4\r\n0000\r\n")),
        ("an empty connection", String::new()),
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n".to_owned()),
    ] {
        let answer: &'static [u8] = answer.leak().as_bytes();
        let mut first = true;
        let proxy = Proxy::start(&servers().git().host(), move |request| {
            let is_ours = std::mem::take(&mut first) && request == "POST /refs-odd.git/git-upload-pack";
            if is_ours { Then::Answer(answer) } else { Then::Pass }
        });
        let source = source_of(json!({"uri": format!("http://{}/refs-odd.git", proxy.host()), "branch": "master"}));
        let version = only(&check(&source, None));
        assert_eq!(version["ref"], json!(git.id("master")), "{what}");
    }
}

#[test]
fn a_server_that_says_nothing_is_asked_again_by_git() {
    let git = servers().git().repository("refs-silent");
    commit(&git);
    let mut first = true;
    let proxy = Proxy::start(
        &servers().git().host(),
        move |_| {
            if std::mem::take(&mut first) { Then::Hold } else { Then::Pass }
        },
    );
    let source = source_of(json!({"uri": format!("http://{}/refs-silent.git", proxy.host()), "branch": "master"}));
    let ran = check(&source, None);
    assert_eq!(only(&ran)["ref"], json!(git.id("master")));
    assert!(ran.elapsed < Duration::from_secs(30), "{:?}", ran.elapsed);
}

#[test]
fn a_redirect_gets_no_credentials_at_another_host() {
    let server = GitServer::start(Options { account: Some(ACCOUNT), ..Options::default() });
    let git = server.repository("refs-moved");
    commit(&git);
    // It says where to, for every request, and is asked by nobody who knows the password.
    let to = format!("HTTP/1.1 302 Found\r\nLocation: {}/info/refs?service=git-upload-pack\r\n\r\n", git.uri());
    let answer: &'static [u8] = to.leak().as_bytes();
    let moved = Proxy::start("127.0.0.1:1", move |_| Then::Answer(answer));
    let source = json!({
        "uri": format!("http://{}/refs-moved.git", moved.host()),
        "branch": "master", "username": "ada", "password": ACCOUNT.password,
    });
    let ran = check(&source_of(source), None);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("could not read Username"), "{}", ran.stderr);
    let requests = server.requests_for("refs-moved");
    assert!(requests.iter().all(|line| line.ends_with(" 401")), "{requests:#?}");
}

#[test]
fn a_repository_of_sha256_is_refused_by_name() {
    let git = servers().git().repository("refs-sha256");
    std::fs::remove_dir_all(git.path()).expect("the repository is empty");
    let path = git.path().to_str().expect("the path is text");
    let run = |arguments: &[&str]| crate::support::server::run(std::process::Command::new("git").args(arguments));
    run(&["init", "--quiet", "--bare", "--object-format=sha256", "--initial-branch=master", path]);
    let tree = run(&["-C", path, "mktree"]);
    let identity = ["-c", "user.name=Ada", "-c", "user.email=ada@acme.example"];
    let commit = run(&[&identity[..], &["-C", path, "commit-tree", "-m", "one", &tree]].concat());
    run(&["-C", path, "update-ref", "refs/heads/master", &commit]);
    let ran = check(&source_of(json!({"uri": git.uri(), "branch": "master"})), None);
    assert_eq!(ran.code, Some(1));
    assert!(ran.stderr.contains("SHA-256"), "{}", ran.stderr);
}
