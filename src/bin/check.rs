//! The program that Concourse runs as `/opt/resource/check`.

fn main() -> std::process::ExitCode {
    git_image::concourse::run(git_image::commands::check)
}
