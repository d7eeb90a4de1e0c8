//! Runs the built programs; needs no server.

#![expect(
    clippy::disallowed_methods,
    reason = "the product's rules for environment and programs are not those of its tests"
)]

mod command_line;
mod documents;
mod pipelines;
mod requests;
#[path = "../support/mod.rs"]
mod support;
