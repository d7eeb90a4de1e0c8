//! The command line for people and tasks.

fn main() {}
