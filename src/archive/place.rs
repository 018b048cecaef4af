//! The files of an archive: `ID-NUMBER.mlog` in a directory, which may hold backups, and other archives, too.

use crate::disk::rename::{give_free_name, sync_directory, temporary_name};
use crate::error::{CorruptionKind, Error, Result};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use super::record::{HEADER, Header, VERSION};

const ENDING: &str = ".mlog";

/// The digits of an archive's id that stand in names.
pub(crate) fn short(archive: &[u8; 16]) -> String {
    archive.iter().take(4).map(|byte| format!("{byte:02x}")).collect()
}

/// The name of a segment.
pub(crate) fn path_of(directory: &Path, archive: &[u8; 16], number: u64) -> PathBuf {
    directory.join(format!("{}-{number:08}{ENDING}", short(archive)))
}

/// A segment that is there.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) path: PathBuf,
    pub(crate) header: Header,
}

/// The header of a segment.
pub(crate) fn read_header(path: &Path) -> Result<Header> {
    let file = File::open(path).map_err(|e| Error::io("open", path, e))?;
    let mut bytes = [0; HEADER];
    match file.read_exact_at(&mut bytes, 0) {
        Err(e) if e.kind() != io::ErrorKind::UnexpectedEof => return Err(Error::io("read", path, e)),
        _ => {}
    }
    match Header::decode(&bytes) {
        Some(Ok(header)) => Ok(header),
        Some(Err(found)) => Err(Error::newer_version(path, found, VERSION)),
        None => Err(Error::corrupt(CorruptionKind::Archive, 0, None, "a header", "something else").in_file(path)),
    }
}

/// All segments of a directory, by archive and number, and those whose header cannot be read. `of` chooses one archive.
pub(crate) fn list(directory: &Path, of: Option<&[u8; 16]>) -> Result<(Vec<Listed>, Vec<(PathBuf, Error)>)> {
    let start = of.map(short).unwrap_or_default();
    let (mut found, mut unreadable) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(|e| Error::io("list", directory, e))? {
        let path = entry.map_err(|e| Error::io("list", directory, e))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || !name.starts_with(&start) || !name.ends_with(ENDING) {
            continue;
        }
        match read_header(&path) {
            Ok(header) if of.is_none_or(|of| *of == header.archive) => found.push(Listed { path, header }),
            Ok(_) => {}
            Err(error) => unreadable.push((path, error)),
        }
    }
    found.sort_by_key(|listed| (listed.header.archive, listed.header.number));
    Ok((found, unreadable))
}

/// Makes a segment with nothing in it but its header, durably. It gets its name when that is so.
pub(crate) fn create(directory: &Path, header: &Header) -> Result<PathBuf> {
    let path = path_of(directory, &header.archive, header.number);
    let temporary = temporary_name(&path, "part")?;
    let write = || {
        let file = File::options().write(true).create_new(true).mode(0o600).open(&temporary)?;
        file.write_all_at(&header.encode(), 0)?;
        file.sync_all()?;
        give_free_name(&temporary, &path)
    };
    let made = write().map_err(|e| Error::io("make a segment of the archive", &path, e));
    if made.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    made?;
    sync_directory(&path)?;
    Ok(path)
}
