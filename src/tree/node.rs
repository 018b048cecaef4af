//! The bytes of leaves and branches.
