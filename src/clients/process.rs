//! Children: the one type that starts programs, and can stop them with all that they started.
