//! Which tags a put writes, and where the tag of the branch points.
