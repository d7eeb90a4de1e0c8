//! A reader of `image.details`: `KEY=value` lines.
