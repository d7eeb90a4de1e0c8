//! The program that Concourse runs as `/opt/resource/check`.

fn main() {}
