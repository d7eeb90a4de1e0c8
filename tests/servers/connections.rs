//! The whole cycle of check, put and get over every kind of connection, and from every kind of checkout.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};

use crate::project::{Project, check, dockerfile, get, only, put, with_engine};
use crate::support::engine::{self, ADDRESS};
use crate::support::git::{Filters, GitRepository, GitServer, Options, Passphrase, SshServer, file, give_to};
use crate::support::program::{Program, Ran};
use crate::support::registry::{self, Access, Account, Clients, Registry, Transport};
use crate::support::tunnel::Tunnel;
use crate::support::{image, server, servers, temporary};

const ACCOUNT: Account<'static> = Account { username: "ada", password: "correct-horse-battery" };

/// What the three programs said.
struct Cycle {
    check: Ran,
    put: Ran,
    get: Ran,
}

impl Cycle {
    /// Everything that was written anywhere.
    fn output(&self) -> String {
        [&self.check, &self.put, &self.get].map(|ran| ran.stderr.clone() + &ran.stdout).concat()
    }
}

/// Check, put of the branch's tip, get with the image and the source. Nothing of it shows a password.
#[track_caller]
fn cycle(source: &Value) -> Cycle {
    let checked = check(source, None);
    let version = only(&checked);
    let artifacts = temporary();
    let put = put(source, artifacts.path(), json!({}));
    assert_eq!(put.succeeds()["version"], version, "{}", put.stderr);
    assert_eq!(only(&check(source, Some(&version))), version);
    let directory = artifacts.path().join("got");
    std::fs::create_dir(&directory).expect("the directory is ours");
    let got = get(source, &version, &directory, json!({"source": true}));
    assert_eq!(got.succeeds()["version"], version, "{}", got.stderr);
    let read = |path: &str| std::fs::read_to_string(directory.join(path)).expect("get made the file");
    assert_eq!(read("rootfs/usr/local/bin/tool"), "echo tool 1\n");
    assert_eq!(read("source/ci/image/tool.sh"), "echo tool 1\n");
    assert!(!read("source/.git/config").contains(ACCOUNT.password));
    let cycle = Cycle { check: checked, put, get: got };
    assert!(!cycle.output().contains(ACCOUNT.password), "{}", cycle.output());
    cycle
}

/// The image of [`Project::new`] on top of `base`, in another server's repository.
#[track_caller]
fn commit_image(git: &GitRepository, base: &str) {
    let dockerfile = dockerfile().replace(servers().base_image(), base);
    git.commit("master", &[file("ci/image/Dockerfile", &dockerfile), file("ci/image/tool.sh", "echo tool 1\n")]);
}

/// The source of an image of this repository, in the shared registry.
fn source_of(git: Value, name: &str) -> Value {
    json!({
        "git": git,
        "registry": {"repository": servers().registry().repository(name), "insecure": true},
        "build": {"context": "ci/image"},
    })
}

#[track_caller]
fn git_server(options: Options<'_>, name: &str) -> (GitServer, GitRepository) {
    let server = GitServer::start(options);
    let repository = server.repository(name);
    commit_image(&repository, servers().base_image());
    (server, repository)
}

#[test]
fn git_over_https_with_a_password_and_an_authority_of_its_own() {
    let name = "connect-https";
    let options = Options { account: Some(ACCOUNT), transport: Transport::Tls, ..Options::default() };
    let (server, git) = git_server(options, name);
    let (user, password) = (ACCOUNT.username, ACCOUNT.password);
    let uri = git.uri();
    cycle(&source_of(
        json!({"uri": uri, "branch": "master", "username": user, "password": password, "ca_certs": [server.ca_certs()]}),
        name,
    ));
}

#[test]
fn git_over_https_without_verification() {
    let name = "connect-unverified";
    let (_server, git) = git_server(Options { transport: Transport::Tls, ..Options::default() }, name);
    cycle(&source_of(json!({"uri": git.uri(), "branch": "master", "skip_ssl_verification": true}), name));
}

#[test]
fn git_with_user_and_password_in_the_address() {
    let name = "connect-user-info";
    let (_server, git) = git_server(Options { account: Some(ACCOUNT), ..Options::default() }, name);
    let uri = git.uri().replace("://", &format!("://{}:{}@", ACCOUNT.username, ACCOUNT.password));
    cycle(&source_of(json!({"uri": uri, "branch": "master"}), name));
    let config = servers().registry().image_config(name, "master-latest");
    assert_eq!(config["config"]["Labels"]["git-image.repository"], json!("127.0.0.1/connect-user-info"));
}

#[test]
fn git_config_reaches_the_server() {
    use base64::Engine as _;
    let name = "connect-git-config";
    // The header alone lets us in, so the server has seen it.
    let (_server, git) = git_server(Options { account: Some(ACCOUNT), ..Options::default() }, name);
    let token = format!("{}:{}", ACCOUNT.username, ACCOUNT.password);
    let token = base64::engine::general_purpose::STANDARD.encode(token);
    let settings = json!([{"name": "http.extraHeader", "value": format!("Authorization: Basic {token}")}]);
    let ran = cycle(&source_of(json!({"uri": git.uri(), "branch": "master", "git_config": settings}), name));
    assert!(!ran.output().contains(&token), "{}", ran.output());
}

#[test]
fn git_over_ssh_with_a_key_and_known_hosts() {
    let name = "connect-ssh";
    let (server, _git) = git_server(Options::default(), name);
    let ssh = SshServer::start(&server, Passphrase::None);
    let mut git = json!({
        "uri": ssh.uri(name), "branch": "master", "private_key": ssh.private_key(), "known_hosts": ssh.known_hosts(),
    });
    let ran = cycle(&source_of(git.clone(), name));
    assert!(!ran.output().contains("ssh: the host key"), "a key that was given is nothing to say:\n{}", ran.output());

    // The user of the address is nobody here; the one beside the key counts.
    git["uri"] = json!(ssh.uri(name).replace("root@", "git@"));
    git["private_key_user"] = json!("root");
    only(&check(&source_of(git.clone(), name), None));

    // Another host's key.
    let other = SshServer::start(&server, Passphrase::None);
    let port = |server: &SshServer| server.known_hosts().split(' ').next().map(str::to_owned).expect("host and port");
    git["known_hosts"] = json!(other.known_hosts().replace(&port(&other), &port(&ssh)));
    let ran = check(&source_of(git, name), None);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""), "{}", ran.stderr);
    assert!(ran.stderr.contains("source.git.known_hosts"), "{}", ran.stderr);
}

#[test]
fn git_over_ssh_with_a_passphrase_and_a_host_that_nobody_named() {
    let name = "connect-passphrase";
    let (server, _git) = git_server(Options::default(), name);
    let ssh = SshServer::start(&server, Passphrase::Words(ACCOUNT.password));
    let ran = cycle(&source_of(
        json!({
            "uri": ssh.uri(name), "branch": "master",
            "private_key": ssh.private_key(), "private_key_passphrase": ACCOUNT.password,
        }),
        name,
    ));
    for ran in [&ran.check, &ran.put, &ran.get] {
        assert!(ran.stderr.contains("accepted because source.git.known_hosts is not given"), "{}", ran.stderr);
        assert!(ran.stderr.contains("SHA256:"), "{}", ran.stderr);
    }
}

#[test]
fn git_over_ssh_by_an_address_in_scp_form() {
    let name = "connect-scp";
    let (server, _git) = git_server(Options::default(), name);
    // This form has no port.
    let ssh = SshServer::start_at(&server, Passphrase::None, 22);
    let uri = ssh.uri(name).replace("ssh://", "").replace(":22/", ":/");
    let git = json!({
        "uri": uri, "branch": "master", "private_key": ssh.private_key(),
        "known_hosts": ssh.known_hosts().replace("[127.0.0.1]:22", "127.0.0.1"),
    });
    cycle(&source_of(git, name));
}

#[test]
fn git_over_ssh_through_a_proxy_that_asks_for_a_password() {
    let name = "connect-tunnel-ssh";
    let (server, _git) = git_server(Options::default(), name);
    let ssh = SshServer::start(&server, Passphrase::None);
    let tunnel = Tunnel::start(Some(ACCOUNT));
    let mut git = json!({
        "uri": ssh.uri(name), "branch": "master", "private_key": ssh.private_key(), "known_hosts": ssh.known_hosts(),
        "https_tunnel": {
            "proxy_host": "127.0.0.1", "proxy_port": tunnel.port(),
            "proxy_user": ACCOUNT.username, "proxy_password": ACCOUNT.password,
        },
    });
    cycle(&source_of(git.clone(), name));
    let to = ssh
        .known_hosts()
        .split(['[', ']', ':', ' '])
        .filter(|part| !part.is_empty())
        .take(2)
        .collect::<Vec<_>>()
        .join(":");
    let requests = tunnel.requests();
    assert!(!requests.is_empty() && requests.iter().all(|line| *line == format!("CONNECT {to} 200")), "{requests:?}");

    // Another host's key, as without a proxy; and a host that nobody named.
    let other = SshServer::start(&server, Passphrase::None);
    let port = |server: &SshServer| server.known_hosts().split(' ').next().map(str::to_owned).expect("host and port");
    git["known_hosts"] = json!(other.known_hosts().replace(&port(&other), &port(&ssh)));
    let ran = check(&source_of(git.clone(), name), None);
    assert!(ran.stderr.contains("source.git.known_hosts"), "{}", ran.stderr);
    git["known_hosts"] = Value::Null;
    let ran = check(&source_of(git.clone(), name), None);
    assert!(ran.stderr.starts_with(&format!("ssh: the host key of {} is SHA256:", port(&ssh))), "{}", ran.stderr);
    only(&ran);

    let refused = |git: &Value, cause: &str, hint: &str| {
        let proxy = format!("127.0.0.1:{}", git["https_tunnel"]["proxy_port"]);
        let repository = format!("127.0.0.1{}/{name}", server.repositories().display());
        check(&source_of(git.clone(), name), None).fails_with(&format!(
            "error: cannot reach the git server of {repository} through the proxy {proxy}\n\
             cause: {cause}\n\
             hint: {hint}\n"
        ));
    };
    let denied = "it answered 407 Proxy Authentication Required to CONNECT";
    git["https_tunnel"]["proxy_password"] = json!("wrong");
    refused(&git, denied, "check `source.git.https_tunnel.proxy_user` and `proxy_password`");
    git["https_tunnel"] = json!({"proxy_host": "127.0.0.1", "proxy_port": tunnel.port().to_string()});
    let shown = git["https_tunnel"].clone();
    git["https_tunnel"]["proxy_port"] = json!(tunnel.port());
    refused(&git, denied, "give `source.git.https_tunnel.proxy_user` and `proxy_password`");
    git["https_tunnel"] = shown;
    let ran = check(&source_of(git.clone(), name), None);
    assert!(ran.stderr.contains(denied), "a port may be in quotes: {}", ran.stderr);
    git["https_tunnel"]["proxy_port"] = json!(1);
    refused(
        &git,
        "Connection refused (os error 111)",
        "check `source.git.https_tunnel.proxy_host` and `proxy_port`, and that workers reach it",
    );
}

#[test]
fn git_over_https_through_a_proxy_that_asks_for_a_password() {
    let name = "connect-tunnel-https";
    let options = Options { account: Some(ACCOUNT), transport: Transport::Tls, ..Options::default() };
    let (server, git) = git_server(options, name);
    let proxy = Account { username: "proxy@acme", password: "another/pass word" };
    let tunnel = Tunnel::start(Some(proxy));
    let mut block = json!({
        "uri": git.uri(), "branch": "master", "ca_certs": [server.ca_certs()],
        "username": ACCOUNT.username, "password": ACCOUNT.password,
        "https_tunnel": {
            "proxy_host": "127.0.0.1", "proxy_port": tunnel.port(),
            "proxy_user": proxy.username, "proxy_password": proxy.password,
        },
    });
    let ran = cycle(&source_of(block.clone(), name));
    assert!(!ran.output().contains(proxy.password), "{}", ran.output());
    let passed = tunnel.requests().iter().filter(|line| line.ends_with(" 200")).count();
    assert!(0 < passed, "{:?}", tunnel.requests());

    block["https_tunnel"]["proxy_password"] = json!("wrong-password");
    let ran = check(&source_of(block, name), None);
    assert!(ran.stderr.contains("407"), "{}", ran.stderr);
    assert!(ran.stderr.starts_with("error: cannot reach the git server of "), "{}", ran.stderr);
}

#[test]
fn a_git_server_that_refuses_partial_clones() {
    let name = "connect-filters";
    let (_server, git) = git_server(Options { filters: Filters::Refused, ..Options::default() }, name);
    cycle(&source_of(json!({"uri": git.uri(), "branch": "master"}), name));
}

/// A registry of its own, without TLS with a private base image, and the source of an image on top of it.
#[track_caller]
fn private_registry(name: &'static str, options: registry::Options<'_>) -> (Registry, Value) {
    let registry = Registry::start(options);
    let project = Project::empty(name);
    let account = match options.access {
        Access::Open => None,
        Access::Basic(account) | Access::Token(account) => Some(account),
    };
    // Engines of 20.10 reach 127.0.0.0/8 by plain http only for base images.
    let base = match options.transport {
        Transport::Plain => image::push_base(&registry, "private/base", "1", account),
        Transport::Tls => servers().base_image().to_owned(),
    };
    commit_image(&project.git, &base);
    let mut block = json!({"repository": registry.repository(name)});
    if let Some(account) = account {
        block["username"] = json!(account.username);
        block["password"] = json!(account.password);
    }
    match registry.ca_certs() {
        Some(authority) => block["ca_certs"] = json!([authority]),
        None => block["insecure"] = json!(true),
    }
    let source = project.source_with(&[("/registry", block)]);
    (registry, source)
}

#[test]
fn a_registry_with_a_password_and_a_private_base_image_in_it() {
    let options = registry::Options { access: Access::Basic(ACCOUNT), ..Default::default() };
    let (_registry, source) = private_registry("connect-basic", options);
    cycle(&source);
}

#[test]
fn base_images_of_three_registries_each_with_its_own_account() {
    let name = "connect-registries";
    let account = |username, password| Account { username, password };
    let accounts = [account("own", "own-password"), account("base", "base-password"), account("tool", "tool-password")];
    let start = |access| Registry::start(registry::Options { access, ..Default::default() });
    let own = start(Access::Basic(accounts[0]));
    let (base, tools) = (start(Access::Basic(accounts[1])), start(Access::Token(accounts[2])));
    let from = image::push_base(&base, "private/base", "1", Some(accounts[1]));
    let tool = image::push_base(&tools, "private/tool", "1", Some(accounts[2]));
    let project = Project::empty(name);
    let dockerfile = format!(
        "FROM {from}\nCOPY --from={tool} /bin/busybox /usr/local/bin/other\nCOPY tool.sh /usr/local/bin/tool\n"
    );
    project
        .git
        .commit("master", &[file("ci/image/Dockerfile", &dockerfile), file("ci/image/tool.sh", "echo tool 1\n")]);
    let auth = |account: Account<'_>| {
        use base64::Engine as _;
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", account.username, account.password))
    };
    let config = json!({"auths": {
        tools.host(): {"auth": auth(accounts[2])},
        // The image's own registry: `source.registry` gives no user.
        format!("https://{}/v2/", own.host()): {"auth": auth(accounts[0])},
    }});
    let source = project.source_with(&[
        ("/registry", json!({"repository": own.repository(name), "insecure": true})),
        (
            "/registries",
            json!([{"host": base.host(), "username": "base", "password": "base-password", "insecure": true}]),
        ),
        ("/docker_config_json", json!(config.to_string())),
    ]);
    let output = cycle(&source).output();
    for account in accounts {
        assert!(!output.contains(account.password) && !output.contains(&auth(account)), "{output}");
    }

    // Without its account, a registry is asked as by anybody.
    let source = project.source_with(&[
        ("/registry", source["registry"].clone()),
        ("/docker_config_json", source["docker_config_json"].clone()),
        ("/build/epoch", json!("2")),
    ]);
    let artifacts = temporary();
    let ran = put(&source, artifacts.path(), json!({}));
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    assert!(ran.stderr.contains(&from), "{}", ran.stderr);
}

#[test]
fn a_registry_with_tokens_is_asked_for_few_of_them() {
    let options = registry::Options { access: Access::Token(ACCOUNT), ..Default::default() };
    let (registry, source) = private_registry("connect-tokens", options);
    cycle(&source);
    let before = registry.tokens().expect("it has a token server").requests().len();
    let before_requests = registry.requests_for("connect-tokens").len();
    let artifacts = temporary();
    put(&source, artifacts.path(), json!({})).succeeds();
    let tokens = registry.tokens().expect("it has a token server").requests().split_off(before);
    assert_eq!(tokens, ["repository:connect-tokens:pull"], "reading needs one token that only reads");
    let requests = registry.requests_for("connect-tokens").split_off(before_requests);
    assert!(requests.len() <= 6, "{requests:#?}");
}

#[test]
fn a_registry_with_tls_of_its_own_authority() {
    let options = registry::Options { transport: Transport::Tls, ..Default::default() };
    let (_registry, source) = private_registry("connect-tls", options);
    cycle(&source);
}

#[test]
fn a_registry_with_tls_and_a_password() {
    let options = registry::Options { access: Access::Basic(ACCOUNT), transport: Transport::Tls, ..Default::default() };
    let (_registry, source) = private_registry("connect-tls-basic", options);
    cycle(&source);
}

#[test]
fn a_registry_that_lets_in_whom_it_knows_by_certificate() {
    let options = registry::Options { transport: Transport::Tls, clients: Clients::Certified, ..Default::default() };
    let registry = Registry::start(options);
    let project = Project::new("connect-certificate");
    let block = json!({"repository": registry.repository("connect-certificate"), "ca_certs": [registry.ca_certs()]});
    let mut source = project.source_with(&[("/registry", block), ("/only_built", json!(true))]);
    let hint = "hint: give a certificate that it accepts, with its key, in `source.registry.client_certs`\n";
    let refused = |source: &Value| {
        let ran = check(source, None);
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.contains(" lets in only whom it knows by certificate\n"), "{}", ran.stderr);
        assert!(ran.stderr.ends_with(hint), "{}", ran.stderr);
    };
    // What the server says may be lost with the connection.
    (0..5).for_each(|_| refused(&source));

    let mut entry = registry.client_cert().expect("it has TLS");
    entry["domain"] = json!(registry.host());
    source["registry"]["client_certs"] = json!([entry]);
    assert_eq!(check(&source, None).succeeds(), json!([]), "nothing is built, which the registry told");

    // It is for another registry.
    source["registry"]["client_certs"][0]["domain"] = json!("other.example");
    refused(&source);
}

#[test]
fn an_image_of_docker_hub_is_read_from_the_mirror() {
    let name = "connect-mirror";
    let mirror = Registry::start(registry::Options { access: Access::Basic(ACCOUNT), ..Default::default() });
    let project = Project::new(name);
    // What a pull-through cache would have of Docker Hub, which nobody reaches from here.
    let direct = json!({
        "repository": mirror.repository("acme/app"), "insecure": true,
        "username": ACCOUNT.username, "password": ACCOUNT.password,
    });
    let direct = project.source_with(&[("/registry", direct)]);
    let version = project.put(&direct, "master").succeeds()["version"].clone();
    let behind = |password: &str| {
        let account = json!({"host": mirror.host(), "username": ACCOUNT.username, "password": password});
        project.source_with(&[
            ("/registry", json!({"repository": "acme/app", "insecure": true, "registry_mirror": account})),
            ("/only_built", json!(true)),
        ])
    };
    let source = behind(ACCOUNT.password);
    assert_eq!(only(&check(&source, None)), version);
    let directory = temporary();
    let ran = get(&source, &version, directory.path(), json!({}));
    assert_eq!(ran.succeeds()["version"], version, "{}", ran.stderr);
    let read = |path: &str| std::fs::read_to_string(directory.path().join(path)).expect("get made the file");
    assert_eq!(read("rootfs/usr/local/bin/tool"), "echo tool 1\n");
    assert_eq!(read("repository"), "docker.io/acme/app");
    assert!(!ran.stderr.contains(ACCOUNT.password), "{}", ran.stderr);

    // A mirror that fails is said once, and its registry is asked.
    let ran = check(&behind("wrong-password"), None);
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let lost = format!("mirror: {} fails: the registry answered 401 Unauthorized", mirror.host());
    assert_eq!(ran.stderr.matches(&lost).count(), 1, "{}", ran.stderr);
    assert!(ran.stderr.contains("index.docker.io"), "{}", ran.stderr);
}

#[test]
fn a_proxy_of_the_worker_is_used_for_the_registry() {
    for transport in [Transport::Plain, Transport::Tls] {
        let registry = Registry::start(registry::Options { transport, ..Default::default() });
        let project = Project::new(match transport {
            Transport::Plain => "connect-proxy-plain",
            Transport::Tls => "connect-proxy-tls",
        });
        let tunnel = Tunnel::start(Some(ACCOUNT));
        let mut block = json!({"repository": registry.repository(project.name)});
        match registry.ca_certs() {
            Some(authority) => block["ca_certs"] = json!([authority]),
            None => block["insecure"] = json!(true),
        }
        let source = project.source_with(&[("/registry", block), ("/only_built", json!(true))]);
        let run = |user: &str| {
            let proxy = format!("http://{user}127.0.0.1:{}", tunnel.port());
            let name = if transport == Transport::Plain { "http_proxy" } else { "https_proxy" };
            Program::check().environment(name, proxy).run(&json!({"source": source}))
        };
        let ran = run(&format!("{}:{}@", ACCOUNT.username, ACCOUNT.password));
        assert_eq!(ran.succeeds(), json!([]), "{}", ran.stderr);
        let expected = match transport {
            Transport::Plain => format!(" {}", registry.url(project.name)),
            Transport::Tls => format!("CONNECT {}", registry.host()),
        };
        let requests: Vec<String> = tunnel.requests().into_iter().filter(|line| line.contains(&expected)).collect();
        assert!(requests.iter().all(|line| line.ends_with(" 200")), "{requests:?}");
        assert!(!requests.is_empty() && !ran.stderr.contains(ACCOUNT.password), "{requests:?} {}", ran.stderr);

        let ran = run("");
        assert_eq!(ran.code, Some(1), "{}", ran.stderr);
        assert!(ran.stderr.to_lowercase().contains("proxy"), "{}", ran.stderr);
    }
}

#[test]
fn an_engine_that_does_not_trust_the_registry_is_told_how() {
    let options = registry::Options { transport: Transport::Tls, ..Default::default() };
    let registry = Registry::start(options);
    let project = Project::new("connect-trust");
    let _ = servers().engine();
    // Engines skip verification for 127.0.0.0/8, so the registry is reached by another address.
    let host = relay(&registry);
    let block = json!({"repository": format!("{host}/connect-trust"), "ca_certs": [registry.ca_certs()]});
    let source = project.source_with(&[("/registry", block)]);
    let ran = project.put(&source, "master");
    assert_eq!(ran.code, Some(1), "{}", ran.stderr);
    let expected = format!(
        "cause: Get \"https://{host}/v2/\": x509: certificate signed by unknown authority\n\
         hint: the engine reaches registries by its own settings: name the registry in `insecure-registries` of the engine's daemon.json, \
         or put its CA into /etc/docker/certs.d/<host:port>/ca.crt there; `source.registry.ca_certs` and `insecure` serve only git-image itself\n"
    );
    assert!(ran.stderr.ends_with(&expected), "{}\n---\n{expected}", ran.stderr);

    // Only this run's mount namespace sees it.
    let directory = Path::new("/etc/docker");
    std::fs::create_dir_all(directory).expect("the machine has a place for an engine's settings");
    server::run(Command::new("mount").args(["-t", "tmpfs", "git-image", "/etc/docker"]));
    let trusted = directory.join("certs.d").join(&host);
    std::fs::create_dir_all(&trusted).expect("the directory is ours");
    std::fs::write(trusted.join("ca.crt"), registry.ca_certs().expect("it has TLS")).expect("the directory is ours");
    cycle(&source);
}

/// Passes connections on to a registry, from an address that is not loopback. Its threads end with the process.
#[track_caller]
pub fn relay(registry: &Registry) -> String {
    engine::make_address();
    let port = server::free_port();
    let listener = std::net::TcpListener::bind((ADDRESS, port)).expect("the address is ours");
    let target = registry.host();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let Ok(server) = std::net::TcpStream::connect(&target) else { continue };
            pass(&client, &server);
            pass(&server, &client);
        }
    });
    format!("{ADDRESS}:{port}")
}

fn pass(from: &std::net::TcpStream, to: &std::net::TcpStream) {
    let (Ok(mut from), Ok(mut to)) = (from.try_clone(), to.try_clone()) else { return };
    std::thread::spawn(move || {
        // A connection that breaks is seen by both ends.
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(std::net::Shutdown::Write);
    });
}

#[test]
fn an_engine_on_a_port() {
    let project = Project::new("connect-tcp");
    let mut source = with_engine(&project.source);
    source["engine"] = json!({"host": servers().engine().tcp_host()});
    let artifacts = project.checkout("master", Some(1));
    let ran = Program::put(&artifacts).run(&json!({"source": source, "params": {"source": "repo"}}));
    ran.succeeds();
    assert!(ran.stderr.contains(&servers().engine().tcp_host()), "{}", ran.stderr);
    assert_eq!(project.tags().len(), 3);
}

/// git in a checkout, as a task runs it.
#[track_caller]
fn task(checkout: &Path, arguments: &[&str]) -> String {
    let mut git = Command::new("git");
    git.arg("-C").arg(checkout).args(["-c", "user.name=Task", "-c", "user.email=task@acme.example"]);
    server::run(git.args(arguments))
}

#[test]
fn a_checkout_of_any_depth_owner_and_place_gives_the_same_version() {
    let project = Project::new("connect-checkouts");
    for number in 0..3 {
        project.git.commit("master", &[file("app.sh", &format!("echo app {number}\n"))]);
    }
    let version = only(&project.check(None));
    project.put(&project.source, "master").succeeds();
    let whole = |artifacts: &Path| artifacts.join("repo");
    type Change<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Option<u32>, Change<'_>); 7] = [
        ("whole history", None, &|_| {}),
        ("depth 2", Some(2), &|_| {}),
        ("another owner", Some(1), &|artifacts| {
            give_to(&whole(artifacts), 1000, 1000);
            let private = std::fs::Permissions::from_mode(0o700);
            std::fs::set_permissions(whole(artifacts), private).expect("the checkout is ours");
        }),
        ("packed refs", None, &|artifacts| {
            task(&whole(artifacts), &["pack-refs", "--all"]);
        }),
        ("attached HEAD", None, &|artifacts| {
            task(&whole(artifacts), &["checkout", "--quiet", "master"]);
        }),
        ("attached HEAD, packed", None, &|artifacts| {
            task(&whole(artifacts), &["checkout", "--quiet", "master"]);
            task(&whole(artifacts), &["pack-refs", "--all"]);
        }),
        ("packed objects", None, &|artifacts| {
            task(&whole(artifacts), &["gc", "--quiet"]);
        }),
    ];
    for (name, depth, change) in cases {
        let artifacts = project.checkout("master", depth);
        change(&artifacts);
        let ran = put(&project.source, &artifacts, json!({"source": "repo"}));
        assert_eq!(ran.succeeds()["version"], version, "{name}");
        assert!(ran.stderr.contains("nothing to build"), "{name}: {}", ran.stderr);
    }
}

#[test]
fn a_checkout_inside_of_a_tasks_output_is_found() {
    let project = Project::new("connect-nested");
    let version = only(&project.check(None));
    let artifacts = project.checkout("master", Some(1));
    std::fs::create_dir(artifacts.join("out")).expect("the directory is ours");
    std::fs::rename(artifacts.join("repo"), artifacts.join("out/repo")).expect("the directory is ours");
    for path in ["out/repo", "./out//repo/"] {
        let ran = put(&project.source, &artifacts, json!({"source": path}));
        assert_eq!(ran.succeeds()["version"], version, "{path}");
    }
    let ran = put(&project.source, &artifacts, json!({"source": "out/../../repo"}));
    assert!(ran.stderr.starts_with("error: `params.source` \"out/../../repo\" leads outside"), "{}", ran.stderr);
}

#[test]
fn a_checkout_of_another_branch_gets_its_image_and_leaves_the_tag_of_the_branch() {
    let project = Project::new("connect-other-branch");
    project.git.set("other", "master");
    project.git.commit("other", &[file("ci/image/tool.sh", "echo other\n")]);
    let ran = project.put(&project.source, "other");
    let version = ran.succeeds()["version"].clone();
    assert_eq!(version["ref"], json!(project.git.id("other")));
    assert!(ran.stderr.contains("tag: master-latest left: "), "{}", ran.stderr);
    assert!(ran.stderr.contains("is not on the first-parent line of branch master"), "{}", ran.stderr);
    assert_eq!(project.digest("master-latest"), None);
    assert_eq!(project.tags().len(), 2);
}

#[test]
fn a_commit_that_a_task_made_gets_its_image_and_leaves_the_tag_of_the_branch() {
    for (name, depth) in [("connect-local-whole", None), ("connect-local-shallow", Some(1))] {
        let project = Project::new(name);
        let artifacts = project.checkout("master", depth);
        let checkout = artifacts.join("repo");
        std::fs::write(checkout.join("ci/image/tool.sh"), "echo task\n").expect("the checkout is ours");
        task(&checkout, &["commit", "--quiet", "--all", "--message", "task"]);
        let ran = put(&project.source, &artifacts, json!({"source": "repo"}));
        let version = ran.succeeds()["version"].clone();
        assert_eq!(version["ref"], json!(task(&checkout, &["rev-parse", "HEAD"])), "{name}");
        assert!(ran.stderr.contains("tag: master-latest left: "), "{name}: {}", ran.stderr);
        assert_eq!(project.digest("master-latest"), None, "{name}");
    }
}

#[test]
fn a_commit_of_a_task_that_does_not_touch_the_image_has_the_version_of_its_branch() {
    for (name, depth) in [("connect-same-whole", None), ("connect-same-shallow", Some(1))] {
        let project = Project::new(name);
        project.git.commit("master", &[file("app.sh", "echo app 2\n")]);
        let version = only(&project.check(None));
        let artifacts = project.checkout("master", depth);
        let checkout = artifacts.join("repo");
        std::fs::write(checkout.join("app.sh"), "echo app 3\n").expect("the checkout is ours");
        task(&checkout, &["commit", "--quiet", "--all", "--message", "task"]);
        let ran = put(&project.source, &artifacts, json!({"source": "repo"}));
        assert_eq!(ran.succeeds()["version"], version, "{name}: {}", ran.stderr);
    }
}
