//! The only code that reaches outside: each file wraps one kind of server or program, with one error type.

pub mod checkout;
pub mod context;
pub mod credential_helper;
pub mod engine;
pub mod finished;
pub mod git;
pub mod lfs;
pub mod process;
pub mod registry;
pub mod rootfs;
pub mod save;
pub mod ssh;
pub mod ssh_agent;
