//! What programs with a memory build on a store, over the public interface alone.

pub mod graph;
