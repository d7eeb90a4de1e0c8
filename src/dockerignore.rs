//! A reader of .dockerignore, with the rules of the engine.
