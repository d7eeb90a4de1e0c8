//! The program that Concourse runs as `/opt/resource/out`.

fn main() -> std::process::ExitCode {
    git_image::concourse::run(git_image::commands::put)
}
