//! Walking a tree in key order, both ways.
