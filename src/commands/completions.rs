//! `git-image completions`: the script that lets a shell complete commands and options.

use std::io::Write;

use clap::CommandFactory as _;
use clap_complete::Shell;

use super::cli::{Cli, output};
use crate::error::Error;

/// Prints the script that lets a shell complete commands and options.
#[derive(Debug, Clone, clap::Args)]
#[command(after_long_help = EXAMPLES)]
pub struct CompletionsArgs {
    /// The shell
    shell: Shell,
}

const EXAMPLES: &str = "\
Examples:
  git-image completions bash > /etc/bash_completion.d/git-image
  git-image completions zsh > /usr/local/share/zsh/site-functions/_git-image
  git-image completions fish > ~/.config/fish/completions/git-image.fish";

/// What git's own completion in bash calls for `git image`: it goes on as if `git-image` had been typed.
const GIT_IN_BASH: &str = r#"
_git_image() {
    COMP_WORDS=(git-image "${COMP_WORDS[@]:2}")
    COMP_CWORD=$((COMP_CWORD - 1))
    _git__image git-image "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD - 1]}"
}
"#;

/// How clap_complete names a command below a program with a hyphen in one place, and in the other: its script for bash
/// completes no option of such a command. Fact: clap-rs/clap issue 6421.
const MISNAMED: &str = "git__subcmd__image__subcmd__";
const NAMED: &str = "git__image__subcmd__";

/// Writes the script to `out`.
///
/// # Errors
///
/// stdout cannot be written.
pub fn completions(args: &CompletionsArgs, out: &mut impl Write) -> Result<(), Error> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "git-image", &mut script);
    if args.shell == Shell::Bash {
        let text = String::from_utf8_lossy(&script).replace(MISNAMED, NAMED) + GIT_IN_BASH;
        script = text.into_bytes();
    }
    Ok(output::write(out, &script)?)
}
