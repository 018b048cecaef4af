//! The sidecar as a file: a small file that every process maps, for hints and wake-ups.

use std::ffi::OsString;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};

use super::platform::{FileId, SharedMemory};
use super::sigbus::{self, Guard};
use super::words::mix;

/// Suffix of the sidecar's name.
const SUFFIX: &str = "-shm";
/// Without wake-ups between processes, waiters poll at this interval.
const POLL: Duration = Duration::from_micros(500);
/// A half-made sidecar this old was left by a process that died while making it.
const ABANDONED: Duration = Duration::from_secs(60);

/// The name of the sidecar of the data file `data`.
pub(super) fn path_beside(data: &Path) -> PathBuf {
    let mut name = OsString::from(data);
    name.push(SUFFIX);
    name.into()
}

/// The name of the sidecar of a data file whose directory cannot be written: every process on this system that
/// opens the file, by whatever path, finds the same one.
pub(super) fn path_elsewhere(data: FileId) -> PathBuf {
    let shared = Path::new(if cfg!(target_os = "linux") { "/dev/shm" } else { "/tmp" });
    shared.join(format!("memstone-{:x}-{:x}{SUFFIX}", data.device, data.inode))
}

/// A mapped sidecar.
pub(super) struct Sidecar {
    // Dropped first: an address that is no longer mapped must not be guarded.
    guard: Guard,
    raw: MmapRaw,
    path: PathBuf,
    id: FileId,
    writable: bool,
}

impl Sidecar {
    /// Opens the existing sidecar of the data file that `data` describes, for reading only if writing is not
    /// permitted.
    pub(super) fn open(path: &Path, size: usize, data: &fs::Metadata) -> io::Result<Sidecar> {
        // Never through a symbolic link, and never waiting at a pipe: a process that may write to the directory
        // could put anything there.
        let open = |write| {
            File::options().read(true).write(write).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path)
        };
        let (file, writable) = match open(true) {
            Err(e) if matches!(e.raw_os_error(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => {
                (open(false)?, false)
            }
            other => (other?, true),
        };
        let meta = file.metadata()?;
        if !is_trusted(&meta, data) {
            let kind = io::ErrorKind::PermissionDenied;
            return Err(io::Error::new(
                kind,
                format!("the sidecar belongs to user {}, who may not write the store", meta.uid()),
            ));
        }
        Sidecar::map(&file, path, size, writable)
    }

    /// Creates a new one for every user of the data file that `data` describes.
    pub(super) fn create(path: &Path, size: usize, data: &fs::Metadata) -> io::Result<Sidecar> {
        sweep(path);
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(|e| io::Error::other(e.to_string()))?;
        let mut name = OsString::from(path);
        name.push(format!(".{:016x}", u64::from_le_bytes(random)));
        let temporary = PathBuf::from(name);
        let made = build(&temporary, size, data)
            .and_then(|file| Sidecar::map(&file, path, size, true))
            .and_then(|sidecar| fs::rename(&temporary, path).map(|()| sidecar));
        if made.is_err() {
            let _ = fs::remove_file(&temporary);
        }
        made
    }

    fn map(file: &File, path: &Path, size: usize, writable: bool) -> io::Result<Sidecar> {
        let meta = file.metadata()?;
        if !meta.is_file() || meta.len() < size as u64 {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the sidecar is too short"));
        }
        let mut options = MmapOptions::new();
        options.len(size);
        let raw = if writable { options.map_raw(file)? } else { options.map_raw_read_only(file)? };
        let guard = sigbus::guard(raw.as_ptr(), size, writable)
            .ok_or_else(|| io::Error::other("this process has too many maps open already"))?;
        let id = FileId { device: meta.dev(), inode: meta.ino() };
        Ok(Sidecar { guard, raw, path: path.to_path_buf(), id, writable })
    }
}

/// Whether a sidecar was made by a user who may write the data file. Such a user could spoil the store in any
/// case; no other user may say what is durable.
fn is_trusted(sidecar: &fs::Metadata, data: &fs::Metadata) -> bool {
    // SAFETY: always succeeds.
    let own = unsafe { libc::geteuid() };
    let (owner, group) = (sidecar.uid(), sidecar.gid());
    let by_group = data.mode() & 0o020 != 0 && group == data.gid();
    owner == 0 || owner == own || owner == data.uid() || by_group || data.mode() & 0o002 != 0
}

/// A file of real zeros. A sparse one would fault at a first touch when the disk is full.
fn build(temporary: &Path, size: usize, data: &fs::Metadata) -> io::Result<File> {
    let mut file = File::options().read(true).write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(&vec![0; size])?;
    // Allows the data file's owner and group to join. Only the superuser may give a file away, so the two are set
    // separately; if one is refused, those users do without the sidecar.
    let _ = std::os::unix::fs::fchown(&file, None, Some(data.gid()));
    let _ = std::os::unix::fs::fchown(&file, Some(data.uid()), None);
    file.set_permissions(Permissions::from_mode(data.mode() & 0o666))?;
    Ok(file)
}

/// Removes half-made sidecars of processes that died while making them.
fn sweep(path: &Path) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let file_name = entry.file_name();
        let random = file_name
            .as_encoded_bytes()
            .strip_prefix(name.as_encoded_bytes())
            .and_then(|rest| rest.strip_prefix(b"."))
            .is_some_and(|rest| rest.len() == 16 && rest.iter().all(u8::is_ascii_hexdigit));
        let age = || entry.metadata().ok()?.modified().ok()?.elapsed().ok();
        if random && age().is_some_and(|age| age > ABANDONED) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

impl SharedMemory for Sidecar {
    fn words(&self) -> &[AtomicU64] {
        // SAFETY: mapped readable as long as `self` lives, aligned to a page, and used through atomics
        // only, by every process. Where it is mapped for reading only, callers ask `is_writable` before
        // they store. A page that loses its file becomes zeros.
        unsafe { std::slice::from_raw_parts(self.raw.as_mut_ptr().cast::<AtomicU64>(), self.raw.len() / 8) }
    }

    fn id(&self) -> u64 {
        mix(0, [self.id.device, self.id.inode]) >> 16
    }

    fn is_writable(&self) -> bool {
        self.writable
    }

    fn remove(&self) -> io::Result<()> {
        if !self.is_current() {
            return Ok(());
        }
        match fs::remove_file(&self.path) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }

    fn is_current(&self) -> bool {
        let named = fs::symlink_metadata(&self.path).is_ok_and(|meta| {
            FileId { device: meta.dev(), inode: meta.ino() } == self.id && meta.len() >= self.raw.len() as u64
        });
        // A torn page is private to this process, whatever became of the file since.
        named && !self.guard.torn()
    }

    fn wait(&self, index: usize, expected: u32, timeout: Duration) {
        match self.words().get(index) {
            Some(word) => wait(word, expected, timeout),
            None => std::thread::sleep(timeout.min(POLL)),
        }
    }

    fn wake_all(&self, index: usize) {
        if let Some(word) = self.words().get(index) {
            wake_all(word);
        }
    }
}

/// Whether the low half still is what the waiter saw. Reading it also replaces a page that is gone by zeros; the
/// system call below would fail on such a page at once, again and again.
fn unchanged(word: &AtomicU64, expected: u32) -> bool {
    word.load(Ordering::SeqCst) & u64::from(u32::MAX) == u64::from(expected)
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn low_half(word: &AtomicU64) -> *const u32 {
    let half = std::ptr::from_ref(word).cast::<u32>();
    if cfg!(target_endian = "big") { half.wrapping_add(1) } else { half }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn wait(word: &AtomicU64, expected: u32, timeout: Duration) {
    if !unchanged(word, expected) {
        return;
    }
    let time = libc::timespec {
        tv_sec: timeout.as_secs().try_into().unwrap_or(libc::time_t::MAX),
        tv_nsec: timeout.subsec_nanos().into(),
    };
    // SAFETY: the word and the time outlive the call. Not FUTEX_PRIVATE: other processes wake us.
    let result = unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAIT, expected, &raw const time) };
    if result == -1 {
        match io::Error::last_os_error().raw_os_error() {
            Some(libc::EAGAIN | libc::EINTR | libc::ETIMEDOUT) => {}
            // The call is forbidden in this process, or the page was lost just now: poll.
            _ => std::thread::sleep(timeout.min(POLL)),
        }
    }
}

#[cfg(all(target_os = "linux", target_pointer_width = "64"))]
fn wake_all(word: &AtomicU64) {
    // SAFETY: the word outlives the call, which only uses its address.
    unsafe { libc::syscall(libc::SYS_futex, low_half(word), libc::FUTEX_WAKE, i32::MAX) };
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn wait(word: &AtomicU64, expected: u32, timeout: Duration) {
    let start = std::time::Instant::now();
    while unchanged(word, expected) {
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            return;
        }
        std::thread::sleep(left.min(POLL));
    }
}

#[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
fn wake_all(_: &AtomicU64) {}

#[cfg(test)]
mod tests {
    use super::super::fork::tests::{in_child, wait_for};
    use super::*;
    use std::time::Instant;

    const SIZE: usize = 8192;

    /// A directory with a data file of mode 0640.
    fn store() -> (tempfile::TempDir, PathBuf, fs::Metadata) {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data.mst");
        File::create(&data).unwrap().set_permissions(Permissions::from_mode(0o640)).unwrap();
        let meta = fs::metadata(&data).unwrap();
        (directory, path_beside(&data), meta)
    }

    #[test]
    fn is_shared_by_all_who_open_it() {
        let (directory, path, meta) = store();
        assert_eq!(Sidecar::open(&path, SIZE, &meta).err().unwrap().kind(), io::ErrorKind::NotFound);
        let made = Sidecar::create(&path, SIZE, &meta).unwrap();
        let joined = Sidecar::open(&path, SIZE, &meta).unwrap();
        assert_eq!(made.words().len(), SIZE / 8);
        assert!(made.words().iter().all(|w| w.load(Ordering::SeqCst) == 0));
        made.words()[1023].store(u64::MAX, Ordering::SeqCst);
        assert_eq!(joined.words()[1023].load(Ordering::SeqCst), u64::MAX);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2, "no temporary file stays");
        assert_eq!(Sidecar::open(&path, SIZE + 1, &meta).err().unwrap().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn replaced_removed_and_shortened_ones_are_noticed() {
        let (_directory, path, meta) = store();
        let first = Sidecar::create(&path, SIZE, &meta).unwrap();
        assert!(first.is_current());
        let second = Sidecar::create(&path, SIZE, &meta).unwrap();
        assert!(second.is_current() && !first.is_current());
        first.words()[0].store(1, Ordering::SeqCst);
        assert_eq!(second.words()[0].load(Ordering::SeqCst), 0, "the old one lives on by itself");
        fs::remove_file(&path).unwrap();
        assert!(!second.is_current());
        let third = Sidecar::create(&path, SIZE, &meta).unwrap();
        File::options().write(true).open(&path).unwrap().set_len(100).unwrap();
        assert!(!third.is_current());
    }

    #[test]
    fn a_truncated_one_can_be_used_and_is_never_current_again() {
        let (_directory, path, meta) = store();
        let sidecar = Sidecar::create(&path, SIZE, &meta).unwrap();
        sidecar.words()[600].store(5, Ordering::SeqCst);
        let file = File::options().write(true).open(&path).unwrap();
        file.set_len(0).unwrap();
        assert_eq!(sidecar.words()[600].load(Ordering::SeqCst), 0);
        sidecar.words()[600].store(6, Ordering::SeqCst);
        assert_eq!(sidecar.words()[600].load(Ordering::SeqCst), 6);
        sidecar.wake_all(0);
        sidecar.wait(0, 0, Duration::from_millis(1));
        file.set_len(SIZE as u64).unwrap();
        assert!(!sidecar.is_current());
    }

    #[test]
    fn a_symbolic_link_is_not_followed() {
        let (directory, path, meta) = store();
        let victim = directory.path().join("victim");
        fs::write(&victim, vec![9; SIZE]).unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();
        assert_eq!(Sidecar::open(&path, SIZE, &meta).err().unwrap().raw_os_error(), Some(libc::ELOOP));
        assert!(Sidecar::create(&path, SIZE, &meta).unwrap().is_current());
        assert_eq!(fs::read(&victim).unwrap(), vec![9; SIZE]);
    }

    #[test]
    fn what_a_dead_maker_left_is_swept() {
        let (directory, path, meta) = store();
        let old = directory.path().join("data.mst-shm.0123456789abcdef");
        let other = directory.path().join("data.mst-shm.notes");
        let fresh = directory.path().join("data.mst-shm.fedcba9876543210");
        for file in [&old, &other, &fresh] {
            let file = File::create(file).unwrap();
            file.set_modified(std::time::SystemTime::now() - 2 * ABANDONED).unwrap();
        }
        File::open(&fresh).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
        Sidecar::create(&path, SIZE, &meta).unwrap();
        assert!(!old.exists() && other.exists() && fresh.exists());
    }

    #[test]
    fn waiting_ends_by_time_by_change_and_out_of_range() {
        let (_directory, path, meta) = store();
        let sidecar = Sidecar::create(&path, SIZE, &meta).unwrap();
        let start = Instant::now();
        sidecar.words()[3].store(7 | 9 << 32, Ordering::SeqCst);
        sidecar.wait(3, 7, Duration::from_millis(30));
        assert!(start.elapsed() >= Duration::from_millis(30));
        // These would end the test only after many years.
        sidecar.wait(3, 8, Duration::from_secs(1 << 40));
        sidecar.wait(usize::MAX, 8, Duration::from_secs(1 << 40));
        sidecar.wake_all(usize::MAX);
    }

    #[test]
    fn another_process_wakes_through_its_own_map() {
        let (_directory, path, meta) = store();
        let sidecar = Sidecar::create(&path, SIZE, &meta).unwrap();
        let child = in_child(|| {
            let own = Sidecar::open(&path, SIZE, &meta).unwrap();
            own.words()[0].store(1, Ordering::SeqCst);
            // The word is not changed, so only the wake-up ends this.
            own.wait(5, 0, Duration::from_secs(1 << 30));
            own.words()[1].store(1, Ordering::SeqCst);
            0
        });
        while sidecar.words()[0].load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(1));
        }
        while sidecar.words()[1].load(Ordering::SeqCst) == 0 {
            std::thread::sleep(Duration::from_millis(10));
            sidecar.wake_all(5);
        }
        assert_eq!(wait_for(child), 0);
    }

    #[test]
    fn only_a_sidecar_of_those_who_may_write_the_store_is_trusted() {
        let (directory, path, _) = store();
        let data = directory.path().join("data.mst");
        let sidecar = || fs::metadata(&path).unwrap();
        File::create(&path).unwrap();
        // SAFETY: always succeeds.
        if unsafe { libc::geteuid() } != 0 {
            return;
        }
        let stranger = |uid, gid, mode: u32| {
            std::os::unix::fs::chown(&path, Some(uid), Some(gid)).unwrap();
            fs::set_permissions(&data, Permissions::from_mode(mode)).unwrap();
            is_trusted(&sidecar(), &fs::metadata(&data).unwrap())
        };
        std::os::unix::fs::chown(&data, Some(1234), Some(4321)).unwrap();
        // The owner, and the superuser; a member of the group, or any user, where those may write.
        assert!(stranger(1234, 9, 0o600) && stranger(0, 9, 0o600));
        assert!(stranger(77, 4321, 0o660) && stranger(77, 9, 0o666));
        assert!(!stranger(77, 4321, 0o640) && !stranger(77, 9, 0o660) && !stranger(77, 9, 0o644));
        // So it is not joined, though this process could.
        fs::remove_file(&path).unwrap();
        drop(Sidecar::create(&path, SIZE, &fs::metadata(&data).unwrap()).unwrap());
        assert!(stranger(1234, 9, 0o644) && Sidecar::open(&path, SIZE, &fs::metadata(&data).unwrap()).is_ok());
        assert!(!stranger(77, 9, 0o644));
        let refused = Sidecar::open(&path, SIZE, &fs::metadata(&data).unwrap()).err().unwrap();
        assert_eq!(refused.kind(), io::ErrorKind::PermissionDenied);
    }
}
