//! What the help says, whole: a change of it is read in review.

use clap::CommandFactory as _;

use super::Cli;

/// The long help of a command, or without a name of the program.
fn help(name: &str) -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    match name {
        "git-image" => command.render_long_help().to_string(),
        name => command.find_subcommand_mut(name).expect("there is such a command").render_long_help().to_string(),
    }
}

#[test]
fn the_help_says_what_each_command_does_and_what_it_needs() {
    for (name, golden) in [
        ("git-image", include_str!("../../../tests/golden/help.txt")),
        ("init", include_str!("../../../tests/golden/init-help.txt")),
        ("set-pipeline", include_str!("../../../tests/golden/set-pipeline-help.txt")),
        ("destroy-pipeline", include_str!("../../../tests/golden/destroy-pipeline-help.txt")),
        ("branches", include_str!("../../../tests/golden/branches-help.txt")),
        ("inputs", include_str!("../../../tests/golden/inputs-help.txt")),
        ("doctor", include_str!("../../../tests/golden/doctor-help.txt")),
        ("badge", include_str!("../../../tests/golden/badge-help.txt")),
        ("prune", include_str!("../../../tests/golden/prune-help.txt")),
        ("completions", include_str!("../../../tests/golden/completions-help.txt")),
        ("man", include_str!("../../../tests/golden/man-help.txt")),
    ] {
        assert_eq!(help(name), golden, "{name}");
    }
}

#[test]
fn the_commands_fit_together() {
    Cli::command().debug_assert();
}

#[test]
fn every_command_has_examples() {
    let command = Cli::command();
    for command in command.get_subcommands() {
        let text = command.get_after_long_help().map(ToString::to_string).unwrap_or_default();
        assert!(text.starts_with("Examples:\n"), "{}: {text:?}", command.get_name());
    }
}
