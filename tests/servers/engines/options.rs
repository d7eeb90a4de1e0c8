//! What `source.build` says beside the Dockerfile, on every engine that can do it.

use std::process::Command;

use serde_json::{Value, json};

use super::{Fails, Got, Row, got, holds, put_on};
use crate::project::Project;
use crate::support::engine::{self, EngineKind};
use crate::support::git::file;
use crate::support::program::Program;
use crate::support::proxy::{Proxy, Then};
use crate::support::{image, server, servers, temporary};

const OLD: &[EngineKind] = &[EngineKind::Docker20];

#[test]
fn a_run_has_the_hosts_limits_and_network_that_are_given() {
    holds(&[
        Row {
            name: "options-hosts",
            dockerfile: "FROM {base}\nRUN mkdir /got && grep -h build.example /etc/hosts | tr -s '\\t ' ' ' >/got/hosts\n",
            files: &[],
            build: json!({"add_hosts": {"build.example": "192.0.2.7"}}),
            becomes: Got(&[("hosts", "192.0.2.7 build.example")]),
            except: &[],
        },
        Row {
            name: "options-ulimits",
            dockerfile: "FROM {base}\nRUN mkdir /got && ulimit -n >/got/files && df -k /dev/shm | tail -1 | tr -s ' ' | cut -d ' ' -f 2 >/got/shm\n",
            files: &[],
            build: json!({"ulimits": {"nofile": "1021:1022"}, "shm_size": "3m"}),
            becomes: Got(&[("files", "1021"), ("shm", "3072")]),
            except: OLD,
        },
        Row {
            name: "options-network",
            dockerfile: "FROM {base}\nRUN mkdir /got && ls /sys/class/net | tr '\\n' ' ' >/got/interfaces\n",
            files: &[],
            build: json!({"network": "none"}),
            becomes: Got(&[("interfaces", "lo ")]),
            except: &[],
        },
    ]);
}

#[test]
fn what_an_engine_does_not_allow_is_named() {
    holds(&[Row {
        name: "options-not-allowed",
        dockerfile: "FROM {base}\nRUN true\n",
        files: &[],
        build: json!({"allow": ["security.insecure"]}),
        becomes: Fails(
            "error: cannot build {image}: the engine does not allow security.insecure\n\
             hint: start the BuildKit daemon with --allow-insecure-entitlement and this name, and list it in `source.build.allow`\n",
        ),
        except: &[],
    }]);
}

#[test]
fn what_only_an_engine_that_pushes_can_do_is_refused_by_the_others() {
    for (number, (build, key)) in [
        (json!({"compression": "zstd"}), "compression"),
        (json!({"reproducible": true}), "reproducible: true"),
        (json!({"cache": true}), "cache: true"),
        (json!({"platforms": ["linux/amd64", "linux/arm64"]}), "platforms"),
    ]
    .into_iter()
    .enumerate()
    {
        let project = Project::new(Box::leak(format!("options-unable-{number}").into_boxed_str()));
        project.git.commit("master", &[file("ci/image/Dockerfile", "FROM scratch\nCOPY tool.sh /\n")]);
        let mut source = project.source.clone();
        for (name, value) in build.as_object().expect("it is a block") {
            source["build"][name] = value.clone();
        }
        let ran = put_on(EngineKind::Docker20, &project, &source, json!({}));
        let said = ran.stderr.split_once("error: ").map_or("", |(_, said)| said);
        assert!(
            said.starts_with(&format!("`source.build.{key}` is beyond Docker engine 20.10."))
                && said.ends_with(
                    "hint: a BuildKit daemon can, or a Docker engine with the containerd store: name one in \
                     `source.engine.host`, or leave the key out\n"
                ),
            "{said}"
        );
        assert_eq!(project.tags(), [""; 0]);
    }
}

#[test]
fn secrets_reach_a_run_from_values_files_and_variables_and_nothing_else() {
    for kind in EngineKind::ALL {
        let mut project = Project::empty(Box::leak(format!("options-secrets-{}", kind as u8).into_boxed_str()));
        let secret = |id: &str| {
            format!(
                "RUN --mount=type=secret,id={id} sha256sum </run/secrets/{id} >/got/{id} && cat /run/secrets/{id}\n"
            )
        };
        let dockerfile = format!(
            "FROM {}\nRUN mkdir /got\n{}{}{}RUN ! ls /run/secrets/value\n",
            servers().base_image(),
            secret("value"),
            secret("file"),
            secret("variable")
        );
        project.git.commit("master", &[file("Dockerfile", &dockerfile)]);
        project.source["build"] = json!({"secrets": {
            "value": "value-of-a-secret", "file": {"file": "given/token"}, "variable": {"env": "BUILD_TOKEN"},
        }});
        project.source["engine"] = json!({"host": engine::of(kind).host()});
        let artifacts = project.checkout("master", Some(1));
        std::fs::create_dir(artifacts.join("given")).expect("it is ours");
        std::fs::write(artifacts.join("given/token"), "file-of-a-secret").expect("it is ours");
        let ran = Program::put(&artifacts)
            .environment("BUILD_TOKEN", "variable-of-a-secret")
            .run(&json!({"source": project.source, "params": {"source": "repo"}}));
        let version = ran.succeeds()["version"].clone();
        let expected: Vec<(String, String)> = ["value", "file", "variable"]
            .into_iter()
            .map(|id| {
                let mut sum = Command::new("sh");
                let sum =
                    server::run(sum.args(["-c", "printf %s \"$1\" | sha256sum", "sh", &format!("{id}-of-a-secret")]));
                (id.to_owned(), sum)
            })
            .collect();
        let found = got(&project, &version);
        for (id, sum) in expected {
            assert_eq!(found[&id], sum, "{}", kind.name());
        }
        assert!(!ran.stderr.contains("of-a-secret"), "{}: a RUN printed them:\n{}", kind.name(), ran.stderr);
        assert_eq!(ran.stderr.matches("<redacted>").count(), 3, "{}", ran.stderr);
        let config = servers().registry().image_config(project.name, "master-latest").to_string();
        assert!(!config.contains("of-a-secret"), "{config}");
    }
}

#[test]
fn a_secret_that_is_not_there_is_named() {
    let mut project = Project::new("options-no-secret");
    for (secret, expected) in [
        (
            json!({"env": "NO_SUCH"}),
            "error: there is no variable NO_SUCH for `source.build.secrets.token` in the environment of this step\n\
             hint: Concourse sets only BUILD_… and what the image of the resource type sets; give the secret by `value: ((name))`, or by `file`\n",
        ),
        (
            json!({"file": "given/token"}),
            "error: there is no artifact `given` in this step\n\
             hint: there is `repo`. Concourse brings the artifacts that `inputs` of the put names, or without it those whose name begins a param; a get must have run before under the name `given`\n",
        ),
        (
            json!({"file": "../token"}),
            "error: `source.build.secrets.token.file` \"../token\" leads outside of the artifacts of this step\n\
             hint: write it as ARTIFACT or ARTIFACT/PATH\n",
        ),
    ] {
        project.source["build"]["secrets"] = json!({"token": secret});
        let ran = put_on(EngineKind::BuildKit, &project, &project.source, json!({}));
        assert!(ran.stderr.ends_with(expected), "{}", ran.stderr);
    }
}

/// Makes a key pair; the private key, and the public one as an agent lists it.
fn key_pair(passphrase: &str) -> (String, String) {
    let directory = temporary();
    let file = directory.path().join("key");
    let mut keygen = Command::new("ssh-keygen");
    server::run(keygen.args(["-q", "-t", "ed25519", "-C", "of-a-test", "-N", passphrase, "-f"]).arg(&file));
    let read = |path: std::path::PathBuf| std::fs::read_to_string(path).expect("it was made");
    let public = read(file.with_extension("pub"));
    (read(file), public.split(' ').nth(1).expect("a public key has three words").to_owned())
}

#[test]
fn a_run_may_use_ssh_keys_and_never_has_them() {
    let base = image::push_base_with(&["/usr/bin/ssh-add"], servers().registry(), "options-ssh-base", "1");
    let (plain, plain_public) = key_pair("");
    let (locked, locked_public) = key_pair("words of a pass");
    for kind in EngineKind::ALL {
        let mut project = Project::empty(Box::leak(format!("options-ssh-{}", kind as u8).into_boxed_str()));
        let dockerfile = format!(
            "FROM {base}\nRUN mkdir /got\nRUN --mount=type=ssh ssh-add -L >/got/default\n\
             RUN --mount=type=ssh,id=locked ssh-add -L >/got/locked\n",
        );
        project.git.commit("master", &[file("Dockerfile", &dockerfile)]);
        project.source["build"] = json!({"ssh": {
            "default": plain, "locked": {"private_key": locked, "private_key_passphrase": "words of a pass"},
        }});
        let ran = put_on(kind, &project, &project.source, json!({}));
        let found = got(&project, &ran.succeeds()["version"]);
        for (id, public) in [("default", &plain_public), ("locked", &locked_public)] {
            assert_eq!(found[id].split(' ').nth(1), Some(public.as_str()), "{id} on {}: {}", kind.name(), found[id]);
        }
    }
}

#[test]
fn an_ssh_key_that_cannot_be_used_is_named() {
    let (locked, _) = key_pair("words of a pass");
    for (number, key) in
        [json!(locked), json!({"private_key": locked, "private_key_passphrase": "wrong"}), json!("none")]
            .into_iter()
            .enumerate()
    {
        let mut project = Project::new(Box::leak(format!("options-bad-ssh-{number}").into_boxed_str()));
        project.source["build"]["ssh"] = json!({"default": key});
        let ran = put_on(EngineKind::BuildKit, &project, &project.source, json!({}));
        let said = ran.stderr.split_once("error: ").map_or("", |(_, said)| said);
        assert!(said.starts_with("`source.build.ssh.default` is not usable as an ssh key\ncause: "), "{said}");
        assert!(
            said.ends_with(
                "hint: write the whole private key there, with its BEGIN and END lines; one that is encrypted needs \
                 `source.build.ssh.default.private_key_passphrase`\n"
            ),
            "{said}"
        );
    }
}

#[test]
fn named_contexts_are_images_commits_and_directories() {
    let other = servers().git().repository("options-contexts-other");
    other.commit("master", &[file("words", "of a commit\n")]);
    let commit = other.id("master");
    let base = servers().base_image();
    holds(&[Row {
        name: "options-contexts",
        dockerfile: "FROM named AS image\nRUN mkdir /got && echo image >/got/image\nFROM image\nCOPY --from=code words /got/commit\nCOPY --from=here . /got/\n",
        files: &[file("shared/a", "a\n"), file("shared/b", "b\n"), file("c", "c\n")],
        build: json!({"contexts": {
            "named": format!("docker-image://{base}"),
            "code": format!("{}#{commit}", other.uri()),
            "here": "shared",
        }}),
        becomes: Got(&[("a", "a"), ("b", "b"), ("commit", "of a commit"), ("image", "image")]),
        except: OLD,
    }]);
}

#[test]
fn a_change_in_a_named_directory_is_a_new_version_and_elsewhere_it_is_not() {
    let mut project = Project::empty("options-context-version");
    project.source["build"] = json!({"contexts": {"here": "shared"}});
    project.git.commit(
        "master",
        &[file("Dockerfile", "FROM scratch\nCOPY --from=here a /\n"), file("shared/a", "1\n"), file("other", "1\n")],
    );
    let first = crate::project::only(&project.check(None));
    project.git.commit("master", &[file("other", "2\n")]);
    assert_eq!(crate::project::only(&project.check(None)), first);
    project.git.commit("master", &[file("shared/a", "2\n")]);
    assert_ne!(crate::project::only(&project.check(None)), first);
}

#[test]
fn no_cache_builds_a_step_again() {
    for kind in EngineKind::ALL {
        let project = Project::new(Box::leak(format!("options-no-cache-{}", kind as u8).into_boxed_str()));
        put_on(kind, &project, &project.source, json!({})).succeeds();
        for (no_cache, cached) in [(false, true), (true, false)] {
            let source = project.source_with(&[("/build/no_cache", json!(no_cache))]);
            let ran = put_on(kind, &project, &source, json!({"rebuild": true}));
            ran.succeeds();
            let copy = ran.stderr.lines().skip_while(|line| !line.contains(" COPY tool.sh ")).nth(1);
            let was_cached = copy.is_some_and(|line| line.ends_with(" cached"));
            assert_eq!(was_cached, cached, "{}:\n{}", kind.name(), ran.stderr);
        }
    }
}

/// The media types of an image's layers, the lowest first.
fn layers(project: &Project) -> Vec<String> {
    let manifest = servers().registry().image_manifest(project.name, "master-latest");
    let layers = manifest["layers"].as_array().expect("an image has layers");
    layers.iter().map(|layer| layer["mediaType"].as_str().expect("it is a text").to_owned()).collect()
}

#[test]
fn layers_are_compressed_as_asked() {
    for (number, (compression, expected)) in
        [(json!(null), "gzip"), (json!("zstd"), "zstd"), (json!({"type": "gzip", "level": "9"}), "gzip")]
            .into_iter()
            .enumerate()
    {
        for kind in [EngineKind::BuildKit, EngineKind::Docker28Containerd] {
            let project =
                Project::new(Box::leak(format!("options-compression-{number}-{}", kind as u8).into_boxed_str()));
            // A layer that the engine has already stays as it is, so this one is of this test alone.
            let dockerfile = format!("FROM {}\nRUN echo {} >/got\n", servers().base_image(), project.name);
            project.git.commit("master", &[file("ci/image/Dockerfile", &dockerfile)]);
            let source = project.source_with(&[("/build/compression", compression.clone())]);
            let version = put_on(kind, &project, &source, json!({})).succeeds()["version"].clone();
            let last = layers(&project).pop().expect("it has layers");
            assert!(last.ends_with(&format!("+{expected}")), "{compression} on {}: {last}", kind.name());
            let (_, ran) = project.get(&version, json!({}));
            ran.succeeds();
        }
    }
}

#[test]
fn an_empty_engine_reads_the_cache_that_another_wrote() {
    let project = Project::new("options-cache");
    let source = project.source_with(&[("/build/cache", json!(true))]);
    let first = put_on(EngineKind::BuildKit, &project, &source, json!({}));
    first.succeeds();
    assert!(first.stderr.contains("\ncache: "), "a missing cache is said and stops nothing:\n{}", first.stderr);
    assert!(!first.stderr.contains("failed"), "{}", first.stderr);
    let tags = project.tags();
    assert!(tags.iter().any(|tag| tag.starts_with("cache-") && tag.ends_with("-master")), "{tags:?}");
    let empty = engine::Engine::start(EngineKind::BuildKit, engine::Options::default());
    let mut source = source.clone();
    source["engine"] = json!({"host": empty.host()});
    let artifacts = project.checkout("master", Some(1));
    let params = json!({"source": "repo", "rebuild": true});
    let again = Program::put(&artifacts).run(&json!({"source": source, "params": params}));
    again.succeeds();
    assert!(
        again.stderr.contains("RUN chmod 0755 /usr/local/bin/tool\n") && again.stderr.contains(" cached\n"),
        "{}",
        again.stderr
    );
}

#[test]
fn a_cache_that_cannot_be_read_or_written_is_said_and_stops_nothing() {
    let mut project = Project::new("options-cache-refused");
    let proxy = Proxy::start(&servers().registry().host(), |request| {
        if request.contains("/manifests/cache-") { Then::Refuse } else { Then::Pass }
    });
    project.source["registry"] = json!({"repository": format!("{}/{}", proxy.host(), project.name), "insecure": true});
    project.source["build"]["cache"] = json!(true);
    let ran = put_on(EngineKind::BuildKit, &project, &project.source, json!({}));
    ran.succeeds();
    let said: Vec<&str> = ran.stderr.lines().filter(|line| line.starts_with("cache: ")).collect();
    let reference = format!("{}:cache-", project.source["registry"]["repository"].as_str().expect("it is text"));
    assert!(
        matches!(said[..], [read, write] if read.starts_with(&format!("cache: {reference}"))
            && write.starts_with("cache: it cannot be written: ")
            && [read, write].iter().all(|line| line.ends_with("; the build goes on without it"))),
        "{}",
        ran.stderr
    );
    assert_eq!(project.tags().len(), 3, "the image's three, and no cache: {:?}", project.tags());
}

#[test]
fn a_stage_that_must_build_stops_the_push() {
    for kind in [EngineKind::Docker20, EngineKind::BuildKit] {
        let mut project = Project::empty(Box::leak(format!("options-test-{}", kind as u8).into_boxed_str()));
        project.source["build"] = json!({"target": "image"});
        let dockerfile = |code: u8| {
            format!(
                "FROM {} AS image\nRUN mkdir /got && echo 1 >/got/one\nFROM image AS check\nRUN cat /got/one && exit {code}\n",
                servers().base_image()
            )
        };
        project.git.commit("master", &[file("Dockerfile", &dockerfile(3))]);
        let ran = put_on(kind, &project, &project.source, json!({"test": "check"}));
        assert!(
            ran.stderr.contains("RUN cat /got/one && exit 3 ended with exit code 3\n") && ran.code == Some(1),
            "{}",
            ran.stderr
        );
        assert_eq!(project.tags(), [""; 0]);
        project.git.commit("master", &[file("Dockerfile", &dockerfile(0))]);
        put_on(kind, &project, &project.source, json!({"test": "check"})).succeeds();
        assert_eq!(project.tags().len(), 3);
    }
}

#[test]
fn the_same_inputs_give_the_same_digest_when_asked_for() {
    let project = Project::new("options-reproducible");
    let mut digests = Vec::new();
    for _ in 0..2 {
        // An engine that has built nothing, so that every layer is made anew, at another time.
        let engine = engine::Engine::start(EngineKind::BuildKit, engine::Options::default());
        let source =
            project.source_with(&[("/build/reproducible", json!(true)), ("/engine", json!({"host": engine.host()}))]);
        let artifacts = project.checkout("master", Some(1));
        let params = json!({"source": "repo", "rebuild": true});
        Program::put(&artifacts).run(&json!({"source": source, "params": params})).succeeds();
        digests.push(project.digest("master-latest").expect("it was put"));
    }
    assert_eq!(digests[0], digests[1]);
}

#[test]
fn several_platforms_make_one_index() {
    let mut project = Project::empty("options-platforms");
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /got/\n";
    project.git.commit("master", &[file("Dockerfile", dockerfile), file("amd64/a", "amd\n"), file("arm64/a", "arm\n")]);
    project.source["build"] = json!({"platforms": ["linux/amd64", "linux/arm64"]});
    let ran = put_on(EngineKind::BuildKit, &project, &project.source, json!({}));
    let version = ran.succeeds()["version"].clone();
    let index: Value = servers().registry().image_manifest(project.name, "master-latest");
    let platforms: Vec<&str> = index["manifests"]
        .as_array()
        .expect("it is an index")
        .iter()
        .filter_map(|one| one["platform"]["architecture"].as_str())
        .collect();
    assert_eq!(platforms, ["amd64", "arm64"]);
    assert_eq!(got(&project, &version)["a"], "amd");
}

#[test]
fn platforms_with_engines_of_their_own_make_one_index() {
    let mut project = Project::empty("options-builders");
    let dockerfile = "FROM scratch\nARG TARGETARCH\nCOPY $TARGETARCH /got/\n";
    project.git.commit("master", &[file("Dockerfile", dockerfile), file("amd64/a", "amd\n"), file("arm64/a", "arm\n")]);
    project.source["build"] = json!({"platforms": ["linux/amd64", "linux/arm64"]});
    let (own, other) = (engine::of(EngineKind::BuildKit).host(), engine::of(EngineKind::Docker28Containerd).host());
    project.source["engine"] = json!({"host": own, "platforms": {"linux/arm64": other}});
    let artifacts = project.checkout("master", Some(1));
    let ran = Program::put(&artifacts).run(&json!({"source": project.source, "params": {"source": "repo"}}));
    let version = ran.succeeds()["version"].clone();
    let index: Value = servers().registry().image_manifest(project.name, "master-latest");
    let platforms: Vec<String> =
        index["manifests"].as_array().expect("it is an index").iter().map(|one| one["platform"].to_string()).collect();
    assert_eq!(platforms, [r#"{"architecture":"amd64","os":"linux"}"#, r#"{"architecture":"arm64","os":"linux"}"#]);
    assert_eq!(got(&project, &version)["a"], "amd");
}

#[test]
fn a_platform_whose_programs_nobody_can_run_is_an_error_before_the_build() {
    for kind in EngineKind::ALL {
        let mut project = Project::empty(Box::leak(format!("options-foreign-{}", kind as u8).into_boxed_str()));
        project.git.commit("master", &[file("Dockerfile", &format!("FROM {}\nRUN true\n", servers().base_image()))]);
        project.source["build"] = json!({"platforms": ["linux/s390x"]});
        let ran = put_on(kind, &project, &project.source, json!({}));
        let said = ran.stderr.split_once("error: ").map_or("", |(_, said)| said);
        assert!(said.starts_with("no RUN can be run for linux/s390x by "), "{}: {}", kind.name(), ran.stderr);
        assert!(!ran.stderr.contains("#1 "), "nothing was built: {}", ran.stderr);
    }
}

#[test]
fn labels_and_the_time_of_the_commit_are_in_the_image_of_every_engine() {
    for kind in EngineKind::ALL {
        let project = Project::new(Box::leak(format!("options-labels-{}", kind as u8).into_boxed_str()));
        let source = project.source_with(&[("/build/labels", json!({"com.example.team": "tools"}))]);
        put_on(kind, &project, &source, json!({"labels": {"build": "of-$BUILD_ID"}})).succeeds();
        let config = servers().registry().image_config(project.name, "master-latest");
        let labels = &config["config"]["Labels"];
        assert_eq!(
            (&labels["com.example.team"], &labels["build"]),
            (&json!("tools"), &json!("of-42")),
            "{}",
            kind.name()
        );
        // The classic stores know no SOURCE_DATE_EPOCH; the label tells the time there.
        let created = labels["org.opencontainers.image.created"].as_str().expect("it is labelled");
        if !matches!(kind, EngineKind::Docker20 | EngineKind::Docker28) {
            assert_eq!(config["created"], created, "{}", kind.name());
        }
    }
}

#[test]
fn the_proxies_of_the_worker_reach_a_run_and_stay_out_of_the_image() {
    for kind in EngineKind::ALL {
        let mut project = Project::empty(Box::leak(format!("options-proxies-{}", kind as u8).into_boxed_str()));
        let dockerfile = format!("FROM {}\nRUN mkdir /got && echo $no_proxy >/got/proxies\n", servers().base_image());
        project.git.commit("master", &[file("Dockerfile", &dockerfile)]);
        project.source["build"] = json!({});
        project.source["engine"] = json!({"host": engine::of(kind).host()});
        let artifacts = temporary();
        let program = Program::put(artifacts.path()).environment("no_proxy", "127.0.0.1,of-the-worker.example");
        let version = program.run(&json!({"source": project.source})).succeeds()["version"].clone();
        assert_eq!(got(&project, &version)["proxies"], "127.0.0.1,of-the-worker.example", "{}", kind.name());
        let config = servers().registry().image_config(project.name, "master-latest").to_string();
        assert!(!config.contains("of-the-worker"), "{}: {config}", kind.name());
    }
}

#[test]
fn files_keep_their_own_times_when_they_are_asked_to() {
    for (own, expected) in [(false, false), (true, true)] {
        let mut project = Project::empty(if own { "options-own-times" } else { "options-times" });
        let dockerfile =
            format!("FROM {}\nCOPY a /a\nRUN mkdir /got && stat -c %Y /a >/got/time\n", servers().base_image());
        project.git.commit("master", &[file("Dockerfile", &dockerfile), file("a", project.name)]);
        // Of other content each time: an engine takes the same content from its cache, whatever its times.
        project.source["build"] = json!({"content_times": !own});
        project.source["engine"] = json!({"host": engine::of(EngineKind::BuildKit).host()});
        let artifacts = project.checkout("master", Some(1));
        server::run(Command::new("touch").args(["-d", "@1234567890"]).arg(artifacts.join("repo/a")));
        let ran = Program::put(&artifacts).run(&json!({"source": project.source, "params": {"source": "repo"}}));
        let time = got(&project, &ran.succeeds()["version"])["time"].clone();
        assert_eq!(time == "1234567890", expected, "{time}");
    }
}

#[test]
fn an_engine_that_knows_no_named_contexts_says_so_and_takes_no_image_of_that_name() {
    let mut project = Project::empty("options-old-contexts");
    project.source["build"] = json!({"contexts": {"here": "shared"}});
    project
        .git
        .commit("master", &[file("Dockerfile", "FROM scratch\nCOPY --from=here a /\n"), file("shared/a", "1\n")]);
    let ran = put_on(EngineKind::Docker20, &project, &project.source, json!({}));
    let said = ran.stderr.split_once("error: ").map_or("", |(_, said)| said);
    assert!(
        said.starts_with("cannot build ") && said.contains(": the engine knows no named contexts\nhint: "),
        "{said}"
    );
}
