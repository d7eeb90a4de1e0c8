//! Decisions: no network, file, clock, environment, randomness or printing in here. What must be read first is asked for.

pub mod bases;
pub mod branches;
pub mod builders;
pub mod doctor;
pub mod inputs;
pub mod pipelines;
pub mod prune;
pub mod reap;
pub mod submodules;
pub mod tags;
pub mod versions;
