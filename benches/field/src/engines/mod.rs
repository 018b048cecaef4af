//! The stores.

mod fjall;
mod lmdb;
#[cfg(feature = "memstone")]
mod memstone;
mod redb;
mod sqlite;

pub use self::fjall::Fjall;
pub use self::lmdb::Lmdb;
#[cfg(feature = "memstone")]
pub use self::memstone::Memstone;
pub use self::redb::Redb;
pub use self::sqlite::Sqlite;

#[derive(Clone, Copy, PartialEq, Debug, clap::ValueEnum, serde::Serialize, serde::Deserialize)]
pub enum Kind {
    #[cfg(feature = "memstone")]
    Memstone,
    Lmdb,
    Redb,
    Sqlite,
    Fjall,
}

impl Kind {
    pub fn all() -> &'static [Kind] {
        <Kind as clap::ValueEnum>::value_variants()
    }

    pub fn title(self) -> &'static str {
        match self {
            #[cfg(feature = "memstone")]
            Kind::Memstone => "memstone",
            Kind::Lmdb => "LMDB (heed)",
            Kind::Redb => "redb",
            Kind::Sqlite => "SQLite WAL, FULL",
            Kind::Fjall => "fjall",
        }
    }

    /// The store as it is named where several processes share it.
    pub fn shared_title(self) -> &'static str {
        match self {
            Kind::Redb => "redb multi-writer",
            kind => kind.title(),
        }
    }
}

/// Calls a function that is generic over the engine with the engine of this kind.
macro_rules! with_engine {
    ($kind:expr, $function:ident($($argument:expr),*)) => {
        match $kind {
            #[cfg(feature = "memstone")]
            $crate::engines::Kind::Memstone => $function::<$crate::engines::Memstone>($($argument),*),
            $crate::engines::Kind::Lmdb => $function::<$crate::engines::Lmdb>($($argument),*),
            $crate::engines::Kind::Redb => $function::<$crate::engines::Redb>($($argument),*),
            $crate::engines::Kind::Sqlite => $function::<$crate::engines::Sqlite>($($argument),*),
            $crate::engines::Kind::Fjall => $function::<$crate::engines::Fjall>($($argument),*),
        }
    };
}
pub(crate) use with_engine;
