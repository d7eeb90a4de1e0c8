//! Runs the built programs against a real registry, engine and git server.

mod check;
mod facts;
mod project;
mod story;
#[path = "../support/mod.rs"]
mod support;
