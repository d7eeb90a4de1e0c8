//! git-image: one image of one git branch, as a Concourse resource.
//!
//! The modules, in reading order:
//!
//! - [`concourse`]: the resource protocol; runs a step and prints what it answers.
//! - [`request`]: `source` and `params` as the user wrote them, checked.
//! - [`commands`]: one file per verb (check, get, put, reap, prune): read, decide, say, act.
//! - [`decide`]: the decisions, as pure functions: what an image is made of, which versions there are, which tags move, what goes.
//! - [`dockerfile`], [`dockerignore`], [`details`], [`pairs`], [`yaml`], [`pipeline`]: readers of formats.
//! - [`clients`]: the only code that reaches outside: git, a checkout, the engine, the registry, the file system.
//! - [`names`]: checked value types.
//! - [`error`] and [`say`]: what a person reads.

pub mod clients;
pub mod commands;
pub mod concourse;
pub mod decide;
pub mod details;
pub mod dockerfile;
pub mod dockerignore;
pub mod error;
pub mod names;
pub mod pairs;
pub mod pipeline;
pub mod request;
pub mod say;
pub mod yaml;
