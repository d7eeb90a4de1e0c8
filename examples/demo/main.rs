//! `make demo`: the life of one image, on real servers, with the JSON that Concourse would send.
//!
//! - [`story`]: how a step is shown, and a claim checked;
//! - [`project`]: the git repository, the resource's source, and the programs' inputs;
//! - [`scenes`]: what happens, in order.
//!
//! The servers live in namespaces that `tests/support/in-namespace` makes and that end with this program.

#![expect(
    clippy::disallowed_methods,
    reason = "the product's rules for environment and programs are not those of its demo"
)]

mod project;
mod scenes;
mod story;
#[path = "../../tests/support/mod.rs"]
mod support;

use std::io::Write;

use project::Project;
use story::Story;

fn main() {
    // The profile aborts on a panic, so the exit code is decided here.
    std::panic::set_hook(Box::new(|panic| {
        let _ = writeln!(std::io::stderr(), "\ndemo: failed: {panic}");
        std::process::exit(1);
    }));
    let mut story = Story::begin();
    scenes::opening(&mut story);
    let project = Project::create();
    let first = scenes::first_image(&mut story, &project);
    scenes::application_commit(&mut story, &project, &first);
    let branch = scenes::branch(&mut story, &project, &first.version);
    let newest = scenes::late_build(&mut story, &project);
    scenes::branch_deleted(&mut story, &project, &branch);
    scenes::still_pulls(&mut story, &project, &newest);
    scenes::what_is_left(&mut story, &project);
    story.end();
}
