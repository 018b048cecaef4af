//! Values as MessagePack.
