//! Linux and macOS: files, locks, maps, shared memory.
