//! Writes what a command answers to stdout.

use std::io::{ErrorKind, Write};

use super::CliError;

/// Writes a text. A reader that has seen enough is no error.
///
/// # Errors
///
/// Anything else that keeps it from being written.
pub fn write(output: &mut impl Write, text: &[u8]) -> Result<(), CliError> {
    match output.write_all(text).and_then(|()| output.flush()) {
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        result => result.map_err(CliError::Output),
    }
}
