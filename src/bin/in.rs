//! The program that Concourse runs as `/opt/resource/in`.

fn main() {}
