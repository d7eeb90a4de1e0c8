//! Errors of the engine and of the build.

use serde_json::{Value, json};

use super::{ends_with, put_tip, reference};
use crate::project::Project;
use crate::support::git::file;
use crate::support::program::{Program, Ran};
use crate::support::registry::{Access, Account, Options, Registry};
use crate::support::{image, servers, temporary};

/// Puts an image with this Dockerfile.
fn put_dockerfile(name: &'static str, dockerfile: &str, build: Value) -> Ran {
    let project = Project::empty(name);
    project.git.commit("master", &[file("ci/image/Dockerfile", dockerfile), file("ci/image/tool.sh", "x\n")]);
    let mut source = project.source.clone();
    source["build"].as_object_mut().expect("a block").extend(build.as_object().expect("a block").clone());
    let ran = put_tip(&source);
    assert_eq!(project.tags(), [""; 0]);
    ran
}

/// The image that could not be built.
#[track_caller]
fn content(name: &str, ran: &Ran) -> String {
    reference(ran, &servers().registry().repository(name))
}

#[test]
fn a_run_that_fails_is_named_and_its_output_stands_before_the_error() {
    let name = "errors-run";
    let base = servers().base_image();
    let ran = put_dockerfile(name, &format!("FROM {base}\nRUN echo one && echo two && exit 3\n"), json!({}));
    let repeated =
        "the output of the step that failed, [2/2] RUN echo one && echo two && exit 3:\n  one\n  two\nerror: ";
    assert!(ran.stderr.contains(repeated), "{}", ran.stderr);
    ends_with(
        &ran,
        &format!(
            "error: cannot build {}: [2/2] RUN echo one && echo two && exit 3 ended with exit code 3\n\
             hint: the output of the failed step is repeated above\n",
            content(name, &ran)
        ),
    );
}

#[test]
fn a_dockerfile_that_cannot_be_read_is_named_with_its_line() {
    let name = "errors-parse";
    let ran = put_dockerfile(name, "FROM scratch\nCOPPY a b\n", json!({}));
    ends_with(
        &ran,
        &format!(
            "error: cannot build {}: the Dockerfile has an error in line 2\n\
             cause: dockerfile parse error line 2: unknown instruction: COPPY\n\
             hint: if the line is right, it is newer than this engine: Docker 20.10 knows no here-documents, for one; `# syntax=docker/dockerfile:1` in the first line brings them\n",
            content(name, &ran)
        ),
    );
}

#[test]
fn a_target_that_is_no_stage_is_named() {
    let name = "errors-stage";
    let ran = put_dockerfile(name, "FROM scratch AS one\nCOPY tool.sh /\n", json!({"target": "two"}));
    ends_with(
        &ran,
        &format!(
            "error: cannot build {}: the Dockerfile has no stage \"two\"\n\
             hint: `source.build.target`, and `params.test`, must be a name that stands after AS in a FROM line\n",
            content(name, &ran)
        ),
    );
}

#[test]
fn a_copy_of_what_is_not_there_is_named() {
    let name = "errors-copy";
    let ran = put_dockerfile(name, "FROM scratch\nCOPY tool.sh missing.sh /\n", json!({}));
    ends_with(
        &ran,
        &format!(
            "error: cannot build {}: [1/1] COPY tool.sh missing.sh / needs \"missing.sh\", which is not in the build context\n\
             hint: check the path and the ignore file; a file that an earlier task made is not in git, so add it to the repository or make it in the Dockerfile\n",
            content(name, &ran)
        ),
    );
}

#[test]
fn a_base_image_that_is_not_there_is_named() {
    let name = "errors-base";
    let registry = servers().registry();
    let ran = put_dockerfile(name, &format!("FROM {}\n", registry.repository("none:1")), json!({}));
    ends_with(
        &ran,
        &format!(
            "error: cannot build {}: base image {none} was not found\n\
             cause: {none}: not found\n\
             hint: check the name; registries often say the same for a missing and for a private image, and only the host of `source.registry.repository` is asked with `source.registry.username`\n",
            content(name, &ran),
            none = servers().registry().repository("none:1")
        ),
    );
}

#[test]
fn a_base_image_that_is_private_is_named() {
    let name = "errors-private";
    let account = Account { username: "ada", password: "right-password" };
    let private = Registry::start(Options { access: Access::Basic(account), ..Options::default() });
    let base = image::push_base(&private, "base", "1", Some(account));
    let ran = put_dockerfile(name, &format!("FROM {base}\nCOPY tool.sh /\n"), json!({}));
    ends_with(
        &ran,
        &format!(
            "error: cannot build {}: base image {base} was refused by its registry\n\
             cause: pulling from host {host} failed with status code [manifests 1]: 401 Unauthorized\n\
             hint: check the name; registries often say the same for a missing and for a private image, and only the host of `source.registry.repository` is asked with `source.registry.username`\n",
            content(name, &ran),
            host = private.host()
        ),
    );
}

#[test]
fn an_engine_that_does_not_answer_is_named_by_its_address() {
    let project = Project::new("errors-engine");
    let put = |engine: Value| {
        let directory = temporary();
        let mut source = project.source.clone();
        source["engine"] = engine;
        Program::put(directory.path()).run(&json!({"source": source}))
    };
    ends_with(
        &put(json!({"host": "unix:///nowhere/docker.sock"})),
        "error: cannot reach the engine at unix:///nowhere/docker.sock\n\
         cause: No such file or directory (os error 2)\n\
         hint: check `source.engine.host`: a BuildKit daemon or a Docker engine (20.10 or newer) must listen there, with TLS exactly when `source.engine.tls` is given, and the worker must be allowed to connect\n",
    );
    ends_with(
        &put(json!({"host": "tcp://127.0.0.1:1"})),
        "error: cannot reach the engine at tcp://127.0.0.1:1\n\
         cause: Connection refused (os error 111)\n\
         hint: check `source.engine.host`: a BuildKit daemon or a Docker engine (20.10 or newer) must listen there, with TLS exactly when `source.engine.tls` is given, and the worker must be allowed to connect\n",
    );
    ends_with(
        &put(Value::Null),
        "error: there is no engine to build with: neither /var/run/docker.sock nor /run/buildkit/buildkitd.sock exists, and there is no program `buildkitd`\n\
         hint: give `source.engine.host`: tcp://host:port or unix:///path of a BuildKit daemon or a Docker engine; or put `buildkitd` and `runc` into the image of this resource type\n",
    );
}
