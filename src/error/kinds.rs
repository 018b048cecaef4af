//! What an error is about, as a program can tell it apart.

use std::fmt;

/// An enum whose variants have a text, which errors print.
macro_rules! kinds {
    ($(#[$about:meta])* $name:ident { $($(#[$says:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$says])* $variant,)+
        }

        impl $name {
            /// As errors print it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $($name::$variant => $text,)+
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(self.as_str())
            }
        }
    };
}

kinds! {
    /// A lock of a store; see [`Error::Busy`](crate::Error::Busy). `docs/LOCKING.md` describes them.
    ///
    /// ```
    /// use memstone::{Error, LockKind, Store};
    /// # let dir = tempfile::tempdir().unwrap();
    /// let store = Store::open(dir.path().join("memory.mst"))?;
    /// let tx = store.begin_write()?;
    /// let refused = std::thread::spawn({ let store = store.clone(); move || store.try_write(|_| Ok(())) }).join().unwrap();
    /// assert!(matches!(refused, Err(Error::Busy { lock: LockKind::Writer, .. })));
    /// # tx.rollback();
    /// # Ok::<(), memstone::Error>(())
    /// ```
    LockKind {
        /// The right to write: held by one write transaction.
        Writer = "writer",
        /// The end of the log: held while a commit is appended.
        Append = "append",
        /// The flush that waiting commits share.
        Flush = "flush",
        /// Held by a checkpoint.
        Checkpoint = "checkpoint",
        /// Held while a process opens or leaves the store.
        Open = "open",
        /// The sidecar, which the processes share.
        Sidecar = "sidecar",
        /// That a process has the store open.
        Presence = "presence",
        /// A process has the store open for writing, and it must not change.
        Writing = "writing",
        /// A process has the store open for reading, and it must not be replaced.
        Reading = "reading",
        /// The pin of a state, which keeps its pages.
        Pin = "snapshot pin",
        /// A directory of backups, in which one process at a time works.
        BackupDirectory = "backup directory",
    }
}

kinds! {
    /// What is damaged; see [`Corruption`](crate::Corruption).
    CorruptionKind {
        /// The two root slots, from which everything is found.
        RootSlots = "root slots",
        /// A page of which no more is known.
        Page = "page",
        /// A node of a tree.
        Node = "node",
        /// A leaf of a tree.
        Leaf = "leaf",
        /// A branch of a tree.
        Branch = "branch",
        /// The order of keys in a tree.
        Keys = "keys",
        /// The run of pages of a long value.
        LongValue = "overflow",
        /// A frame of the log.
        Frame = "log frame",
        /// The free map: which pages are free.
        FreeMap = "free map",
        /// A region of the free map.
        FreeRegion = "free map region",
        /// The directory of the free map.
        FreeDirectory = "free map directory",
        /// The list of pages that will be free.
        PendingList = "pending list",
        /// A row of the catalog, which leads to a table's tree.
        Catalog = "catalog row",
        /// A row of the names table, which leads from a name to a table.
        Names = "names table",
        /// A setting of the store.
        Settings = "settings",
        /// The table of named snapshots.
        NamedSnapshots = "table of named snapshots",
        /// The journal of changes.
        Journal = "journal",
        /// The file as a whole.
        File = "file",
        /// A backup.
        Backup = "backup",
        /// A clone.
        Clone = "clone",
        /// A file of an archive.
        Archive = "archive segment",
        /// A store that was just written.
        NewStore = "new store",
        /// The rows of a table.
        Rows = "table",
    }
}

kinds! {
    /// What is beyond its limit; see [`Error::TooLarge`](crate::Error::TooLarge).
    LimitKind {
        /// A key, beyond [`MAX_KEY_SIZE`](crate::MAX_KEY_SIZE).
        Key = "key",
        /// A value, beyond [`MAX_VALUE_SIZE`](crate::MAX_VALUE_SIZE).
        Value = "value",
        /// What is written to a [`ValueWriter`](crate::ValueWriter), beyond the length that was given.
        StreamedValue = "value of a length given before",
        /// The name of a table, beyond [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE).
        TableName = "table name",
        /// The name of a type, beyond [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE).
        TypeName = "type name",
        /// The name of a schema, beyond [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE).
        SchemaName = "schema name",
        /// The name of a snapshot, beyond [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE).
        SnapshotName = "snapshot name",
        /// The name of a cursor, beyond [`MAX_NAME_SIZE`](crate::MAX_NAME_SIZE).
        CursorName = "cursor name",
        /// The number of tables that a store ever had.
        Tables = "number of tables",
        /// A node of a tree.
        Node = "tree node",
        /// A frame of the log.
        Frame = "log frame",
        /// The manifest of a backup.
        Manifest = "manifest",
    }
}

kinds! {
    /// What a codec was asked for; see [`Error::Codec`](crate::Error::Codec).
    CodecOp {
        /// To make bytes of a value.
        Encode = "encode",
        /// To make a value of bytes.
        Decode = "decode",
    }
}
