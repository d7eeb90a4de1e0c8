//! Runs the built programs against a real registry, engine and git server.

mod facts;
#[path = "../support/mod.rs"]
mod support;
