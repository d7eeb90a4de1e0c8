//! Runs the built programs against a real registry, engine and git server.

#![expect(
    clippy::disallowed_methods,
    reason = "the product's rules for environment and programs are not those of its tests"
)]

mod badge;
mod bases;
mod branches;
mod check;
mod connections;
mod doctor;
mod embedded;
mod engines;
mod errors;
mod facts;
mod finished;
mod follow;
mod formats;
mod get;
mod histories;
mod init;
mod inputs;
mod inputs_list;
mod project;
mod proxy;
mod prune;
mod put;
mod readme;
mod reap;
mod refs;
mod resource_image;
mod rootfs;
mod secrets;
mod set_pipeline;
mod stop;
mod story;
#[path = "../support/mod.rs"]
mod support;
