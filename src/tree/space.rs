//! Which pages are free, and which wait for a snapshot to end.
