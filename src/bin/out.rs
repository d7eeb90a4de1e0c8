//! The program that Concourse runs as `/opt/resource/out`.

fn main() {}
