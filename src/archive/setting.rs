//! What a store says of its archive: a row of its own settings, so that every checkpointer knows of it.

use crate::disk::format::get_u64;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

const VERSION: u8 = 1;

/// Which archive, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Setting {
    /// A random number of the archive.
    pub(crate) archive: [u8; 16],
    /// The inode of the store's file when this was said: a copy of the file has another one.
    pub(crate) inode: u64,
    pub(crate) directory: PathBuf,
}

impl Setting {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        row.extend_from_slice(&self.archive);
        row.extend_from_slice(&self.inode.to_le_bytes());
        row.extend_from_slice(self.directory.as_os_str().as_bytes());
        row
    }

    pub(crate) fn decode(row: &[u8]) -> Option<Setting> {
        let (version, rest) = row.split_first()?;
        let (archive, rest) = rest.split_first_chunk::<16>()?;
        let (inode, path) = rest.split_at_checked(8)?;
        let directory = PathBuf::from(OsStr::from_bytes(path));
        (*version == VERSION).then(|| Setting { archive: *archive, inode: get_u64(inode, 0), directory })
    }
}
