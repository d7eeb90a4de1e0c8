//! The image of the resource type, built from its Dockerfile of what this machine has: the programs under test, with the
//! libraries that they are linked to, the BuildKit of `make setup`, and this machine's git, ssh and runc.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::engine::{self, EngineKind, buildkit_program};
use super::program::Program;
use super::server::run;
use super::{servers, temporary};

/// The platform's name in images; `make setup` is for this one only.
const ARCHITECTURE: &str = "amd64";

/// The image's root filesystem; made once for a test binary.
#[track_caller]
pub fn root() -> &'static Path {
    static ROOT: OnceLock<(TempDir, PathBuf)> = OnceLock::new();
    let (_, root) = ROOT.get_or_init(|| {
        let directory = temporary();
        let root = directory.path().join("root");
        run(build(parts()).arg(format!("--output=type=local,dest={}", root.display())));
        (directory, root)
    });
    root
}

/// Pushes the image to the shared registry.
#[track_caller]
pub fn push(repository: &str, tag: &str) {
    let name = format!("{}:{tag}", servers().registry().repository(repository));
    run(build(parts()).arg(format!("--output=type=image,push=true,name={name}")));
}

/// The command that builds it, without what becomes of it.
fn build(parts: &Path) -> Command {
    let mut command = engine::of(EngineKind::BuildKit).buildctl();
    command.args(["build", "--progress=plain", "--frontend=dockerfile.v0"]);
    command.args([format!("--local=context={}", project().display()), "--opt=build-arg:VERSION=0".to_owned()]);
    command.arg(format!("--local=dockerfile={}", project().join("resource-image").display()));
    for part in ["programs", "buildkit", "system"] {
        command.arg(format!("--opt=context:{part}=local:{part}"));
        command.arg(format!("--local={part}={}", parts.join(part).display()));
    }
    command
}

/// What the stages of the Dockerfile would make, each in a directory of its name; made once.
#[track_caller]
fn parts() -> &'static Path {
    static PARTS: OnceLock<TempDir> = OnceLock::new();
    let parts = PARTS.get_or_init(|| {
        let directory = temporary();
        let part = |name: &str| directory.path().join(name).join(ARCHITECTURE);
        run(Command::new(project().join("resource-image/system")).arg(ARCHITECTURE).arg(part("system")).arg("/"));
        install(&buildkit_program("buildkitd"), &part("buildkit").join("buildkitd"));
        for (name, place) in [
            ("check", "opt/resource/check"),
            ("in", "opt/resource/in"),
            ("out", "opt/resource/out"),
            ("git-image", "usr/local/bin/git-image"),
        ] {
            let to = part("programs").join(place);
            install(&Program::path(name), &to);
            // Half of a program that was not released is what debuggers want to know.
            run(Command::new("strip").arg(&to));
            for library in libraries(&to) {
                install(
                    &library,
                    &part("programs").join("usr").join(library.strip_prefix("/").expect("an absolute path")),
                );
            }
        }
        directory
    });
    parts.path()
}

/// The libraries that a program is linked to, of this machine; released programs need none.
#[track_caller]
fn libraries(program: &Path) -> Vec<PathBuf> {
    let listed = run(Command::new("ldd").arg(program));
    let path = |line: &str| line.split_whitespace().find(|word| word.starts_with("/lib")).map(PathBuf::from);
    listed.lines().filter_map(path).collect()
}

#[track_caller]
fn install(from: &Path, to: &Path) {
    run(Command::new("install").arg("-D").arg(from).arg(to));
}

fn project() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
