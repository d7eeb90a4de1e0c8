//! Runs the built programs; needs no server.
