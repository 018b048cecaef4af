//! By what way, and with what rights, a worker comes to the store.

use crate::random::Random;
use memstone::Error;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

/// A user and a group that own nothing here but what they are given.
const STRANGER: u32 = 65_534;
/// The group that may write the data file.
const WRITERS: u32 = 4_711;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Plain,
    /// By a symbolic link.
    Symlink,
    /// By another name of the same file: it shares no sidecar, and is refused as long as others are there.
    HardLink,
    /// A user who may write the data file, and not its directory.
    Stranger,
    /// Opened for reading only.
    Reader,
    /// Opened for reading only by a user who may not write the file.
    StrangeReader,
    /// Starts processes that open, read or write once, and leave.
    Brief,
    /// One of these.
    Look,
}

use Kind::{Brief, HardLink, Look, Plain, Reader, StrangeReader, Stranger, Symlink};

/// The kinds that follow each other as workers are started: all of them, those of two names of the file, those who
/// cannot make a sidecar, and writers that come one after the other beside readers that stay.
pub const ALL: &[Kind] = &[Plain, Plain, Brief, Stranger, Reader, HardLink, Plain, Symlink, StrangeReader, Plain];
pub const TWO_NAMES: &[Kind] = &[Plain, HardLink];
pub const NO_SIDECAR: &[Kind] = &[Stranger, Stranger, StrangeReader];
pub const ONE_BY_ONE: &[Kind] = &[Brief, Reader, Reader];

impl Kind {
    /// That of the `number`th worker, counted from 1.
    pub fn of(number: u64, kinds: &[Kind]) -> Kind {
        match kinds[(number as usize - 1) % kinds.len()] {
            Stranger if !superuser() => Plain,
            StrangeReader if !superuser() => Reader,
            kind => kind,
        }
    }

    pub fn parse(name: &str) -> Kind {
        *ALL.iter().chain([&Look]).find(|kind| format!("{kind:?}") == name).unwrap()
    }

    pub fn reads_only(self) -> bool {
        matches!(self, Reader | StrangeReader)
    }

    /// Its path to the store.
    pub fn path(self, store: &Path) -> PathBuf {
        match self {
            Symlink => store.with_extension("link"),
            HardLink => store.with_extension("hard"),
            _ => store.to_path_buf(),
        }
    }

    /// For one that looks once: as which kind.
    pub fn of_a_look(random: &mut Random) -> Kind {
        [Plain, Symlink, Reader][random.below(3) as usize]
    }

    /// Gives up the rights that this kind does not have.
    pub fn become_it(self) {
        let group = match self {
            Stranger => WRITERS,
            StrangeReader => STRANGER,
            _ => return,
        };
        // SAFETY: concerns this process alone, which has no need of its rights any more.
        unsafe {
            assert_eq!(libc::setgroups(0, std::ptr::null()), 0);
            assert_eq!((libc::setgid(group), libc::setuid(STRANGER)), (0, 0));
        }
    }
}

pub fn superuser() -> bool {
    // SAFETY: always succeeds.
    unsafe { libc::geteuid() == 0 }
}

/// Whether a process of this run may be told so, and go on: it is refused, and nothing has happened.
pub fn is_refusal(error: &Error) -> bool {
    matches!(error, Error::NotShared { .. } | Error::Moved { .. } | Error::NotFound { .. })
}

/// Makes the store, its other names, and the rights that strangers have.
pub fn prepare(store: &Path, told: &Path) -> std::io::Result<()> {
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode));
    memstone::Store::open(store).and_then(memstone::Store::close).map_err(std::io::Error::other)?;
    symlink(store.file_name().unwrap_or_default(), Symlink.path(store))?;
    std::fs::hard_link(store, HardLink.path(store))?;
    if superuser() {
        if let Some(dir) = store.parent() {
            mode(dir, 0o755)?;
        }
        mode(told, 0o777)?;
        chown(store, Some(0), Some(WRITERS))?;
        mode(store, 0o664)?;
    }
    Ok(())
}

/// Gives a file to the stranger, as one that was planted.
pub fn plant(file: &Path) -> std::io::Result<()> {
    if superuser() {
        chown(file, Some(STRANGER), Some(STRANGER))?;
    }
    std::fs::set_permissions(file, PermissionsExt::from_mode(0o666))
}
