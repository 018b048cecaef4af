//! Applying a sorted batch of changes to a copy of the tree.
