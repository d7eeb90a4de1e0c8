//! What the reaper removes, and why the rest stays.
