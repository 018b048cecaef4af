//! Linux and macOS: one open file description of the data file.

use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::file_id::file_id;
use super::fork::{Registration, fork_generation, open_registered};
use super::holders::holders_of;
use super::map::ReadMap;
use super::platform::{Disk, FileId, Held, LockMode, Mapping, SharedMemory};
use super::rename::sync_directory;
use super::shm::{self, Sidecar};
use super::size_limit::SizeLimit;
use super::words::mix;
use super::{file_lock, host};
use crate::error::{Error, Result};

/// Zeros are written in pieces of this many bytes.
const ZEROS: usize = 1 << 20;

/// Least address space, in bytes, mapped for reading words of the file.
const MIN_PEEK: u64 = 1 << 26;

/// How a data file is opened.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct OpenMode {
    /// Never write to it, and never create it.
    pub(crate) read_only: bool,
    /// Create it, empty, if it does not exist.
    pub(crate) create: bool,
}

/// One open file description of a data file, on Linux or macOS.
pub(crate) struct UnixDisk {
    // Dropped before the file is closed: see `Registration`.
    _registration: Registration,
    file: File,
    path: PathBuf,
    /// The path without symbolic links, so that every process that opens the file finds the same sidecar.
    real_path: PathBuf,
    id: FileId,
    place: u64,
    writable: bool,
    size_limit: SizeLimit,
    generation: u32,
    /// The first bytes of the file, for reading words that other processes may be writing.
    peeks: RwLock<Option<ReadMap>>,
}

impl UnixDisk {
    /// Opens the data file. An existing file is not changed, whatever it is.
    pub(crate) fn open(path: &Path, mode: OpenMode) -> Result<UnixDisk> {
        let create = mode.create && !mode.read_only;
        let op = match mode {
            OpenMode { read_only: true, .. } => "open for reading",
            OpenMode { create: true, .. } => "open or create",
            OpenMode { .. } => "open for writing",
        };
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound if !create => Error::NotFound { path: path.to_path_buf() },
            _ => Error::io(op, path, source),
        };
        // Before it is opened: opening a pipe waits, and opening a device can do anything.
        match fs::metadata(path) {
            Ok(meta) => must_be_file(path, &meta)?,
            Err(e) if e.kind() == io::ErrorKind::NotFound && create => {}
            Err(e) => return Err(failed(e)),
        }
        let mut options = File::options();
        options.read(true).write(!mode.read_only).create(create).mode(0o666);
        let (registration, file) = open_registered(|| options.open(path)).map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        must_be_file(path, &meta)?;
        let real_path = path.canonicalize().or_else(|_| std::path::absolute(path)).map_err(failed)?;
        let disk = UnixDisk {
            _registration: registration,
            file,
            path: path.to_path_buf(),
            place: place_of(&real_path).map_err(failed)?,
            real_path,
            id: FileId { device: meta.dev(), inode: meta.ino() },
            writable: !mode.read_only,
            size_limit: SizeLimit::new(),
            generation: fork_generation(),
            peeks: RwLock::default(),
        };
        if create && meta.len() == 0 {
            // The process that finds the file empty may be the one that writes its first commit, which is durable
            // only if the file's name is.
            disk.sync_name()?;
        }
        Ok(disk)
    }

    /// Makes the file's name durable: without it a durable commit could still vanish, with its file.
    pub(crate) fn sync_name(&self) -> Result<()> {
        sync_directory(&self.real_path)
    }

    /// In a forked child the descriptor is dead: reports that, rather than some obscure failure.
    fn live(&self) -> io::Result<&File> {
        if self.generation == fork_generation() {
            Ok(&self.file)
        } else {
            Err(io::Error::other("the file was opened by the parent process, before a fork"))
        }
    }

    /// Another description of the same file, for maps. A map keeps its description open, also in forked children,
    /// and with it every lock: so it must be a description that never takes locks.
    fn reopen(&self) -> Option<File> {
        let by_descriptor = PathBuf::from(format!("/proc/self/fd/{}", self.file.as_raw_fd()));
        let candidates = [cfg!(target_os = "linux").then_some(&by_descriptor), Some(&self.real_path)];
        candidates.into_iter().flatten().find_map(|path| {
            let file = File::open(path).ok()?;
            let meta = file.metadata().ok()?;
            (FileId { device: meta.dev(), inode: meta.ino() } == self.id).then_some(file)
        })
    }
}

impl UnixDisk {
    /// Maps the file so that words up to `end` can be read: again if it was cut under the last map.
    fn map_for_peeking(&self, end: u64) -> io::Result<()> {
        let mut peeks = self.peeks.write().unwrap_or_else(PoisonError::into_inner);
        let Some(file) = self.reopen() else { return Ok(()) };
        *peeks = ReadMap::new(&file, end.max(self.len()?).next_power_of_two().max(MIN_PEEK))?;
        Ok(())
    }

    fn peek_in_map(&self, words: &mut [u64], offset: u64) -> bool {
        let peeks = self.peeks.read().unwrap_or_else(PoisonError::into_inner);
        peeks.as_ref().is_some_and(|map| map.is_whole() && map.peek(words, offset))
    }
}

impl Drop for UnixDisk {
    fn drop(&mut self) {
        // A fork just before the file is closed could leave the description to a child. Without locks it does no
        // harm there.
        if let Ok(file) = self.live() {
            let _ = file_lock::unlock_all(file);
        }
    }
}

/// A number for the directory entry at this path, which contains no symbolic links: bind mounts and other names
/// of the directory give the same number, hard links of the file another.
fn place_of(path: &Path) -> io::Result<u64> {
    let directory = fs::metadata(path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().unwrap_or_default().as_encoded_bytes();
    let name = name.chunks(8).map(|part| part.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)));
    // The same in every version of the protocol: a process of another one is refused for that, not for its place.
    Ok(mix(0, [directory.dev(), directory.ino()].into_iter().chain(name)) >> 16)
}

fn must_be_file(path: &Path, meta: &fs::Metadata) -> Result<()> {
    if meta.is_file() {
        return Ok(());
    }
    let found = if meta.is_dir() { "a directory" } else { "a device, pipe or socket" };
    Err(Error::NotAStore { path: path.to_path_buf(), found: found.to_owned() })
}

impl Disk for UnixDisk {
    fn path(&self) -> &Path {
        &self.path
    }

    fn identity(&self) -> FileId {
        self.id
    }

    fn place(&self) -> u64 {
        self.place
    }

    fn lost_name(&self) -> Option<&'static str> {
        match file_id(&self.real_path) {
            Ok(found) if found == self.id => None,
            Ok(_) => Some("another file has its name now"),
            Err(e) if e.kind() == io::ErrorKind::NotFound => Some("nothing has its name any more"),
            // A file that cannot be inspected may still exist.
            Err(_) => None,
        }
    }

    fn writable(&self) -> bool {
        self.writable
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.live()?.metadata()?.len())
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let file = self.live()?;
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(done as u64)) {
                Ok(0) => break,
                Ok(n) => done += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(done)
    }

    fn peek(&self, words: &mut [u64], offset: u64) -> io::Result<()> {
        self.live()?;
        if self.peek_in_map(words, offset) {
            return Ok(());
        }
        if cfg!(target_pointer_width = "64") {
            self.map_for_peeking(offset.saturating_add(words.len() as u64 * 8))?;
            if self.peek_in_map(words, offset) {
                return Ok(());
            }
        }
        for (word, at) in words.iter_mut().zip((offset..).step_by(8)) {
            let mut bytes = [0; 8];
            self.read_at(&mut bytes, at)?;
            *word = u64::from_le_bytes(bytes);
        }
        Ok(())
    }

    fn write_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.size_limit.allows(offset.saturating_add(buf.len() as u64))?;
        self.live()?.write_all_at(buf, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let file = self.live()?;
        self.size_limit.allows_length(file, len)?;
        file.set_len(len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        let file = self.live()?;
        self.size_limit.allows_growth(offset.saturating_add(len))?;
        reserve(file, offset, len)?;
        // Reserved extents are still "unwritten", and their first write needs the journal again at the next
        // flush. Writing zeros makes them real.
        let zeros = vec![0; usize::try_from(len).unwrap_or(ZEROS).min(ZEROS)];
        let end = offset.saturating_add(len);
        let mut at = offset;
        while at < end {
            let size = usize::try_from(end - at).unwrap_or(ZEROS).min(zeros.len());
            file.write_all_at(zeros.get(..size).unwrap_or_default(), at)?;
            at += size as u64;
        }
        Ok(())
    }

    fn flush(&self) -> io::Result<()> {
        let file = self.live()?;
        match file.sync_data() {
            // On macOS `sync_data` empties the drive's cache, which not every file system supports.
            #[cfg(target_os = "macos")]
            Err(e) if matches!(e.raw_os_error(), Some(libc::ENOTSUP | libc::ENOTTY | libc::EINVAL)) => {
                // SAFETY: the descriptor is open.
                match unsafe { libc::fsync(file.as_raw_fd()) } {
                    0 => Ok(()),
                    _ => Err(io::Error::last_os_error()),
                }
            }
            other => other,
        }
    }

    fn start_writeback(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        if let (Ok(file), Ok(offset), Ok(len)) = (self.live(), offset.try_into(), len.try_into()) {
            // SAFETY: the descriptor is open. A hint: its failure changes nothing.
            unsafe { libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }

    fn start_reading(&self, offset: u64, len: u64) {
        #[cfg(target_os = "linux")]
        if let (Ok(file), Ok(offset), Ok(len)) = (self.live(), offset.try_into(), len.try_into()) {
            // SAFETY: the descriptor is open. A hint: its failure changes nothing.
            unsafe { libc::posix_fadvise(file.as_raw_fd(), offset, len, libc::POSIX_FADV_WILLNEED) };
        }
        #[cfg(not(target_os = "linux"))]
        let _ = (offset, len);
    }

    fn try_lock(&self, byte: u64, mode: LockMode) -> io::Result<bool> {
        file_lock::try_lock(self.live()?, byte, mode)
    }

    fn unlock(&self, byte: u64) -> io::Result<()> {
        file_lock::unlock(self.live()?, byte)
    }

    fn probe(&self, first: u64, len: u64) -> io::Result<Option<(u64, u64)>> {
        file_lock::probe(self.live()?, first, len)
    }

    fn holders(&self, first: u64, len: u64) -> Vec<Held> {
        self.live().map(|file| holders_of(self.id, first, len, file.as_raw_fd())).unwrap_or_default()
    }

    fn map(&self, len: u64) -> io::Result<Option<Arc<dyn Mapping>>> {
        self.live()?;
        let Some(file) = self.reopen() else { return Ok(None) };
        Ok(ReadMap::new(&file, len)?.map(|map| Arc::new(map) as Arc<dyn Mapping>))
    }

    fn sidecar(&self, site: usize, size: usize, create: bool) -> io::Result<Arc<dyn SharedMemory>> {
        create.then(|| self.size_limit.allows_growth(size as u64)).transpose()?;
        let data = self.live()?.metadata()?;
        let path = if site == 0 { shm::path_beside(&self.real_path) } else { shm::path_elsewhere(self.id) };
        let sidecar = if create { Sidecar::create(&path, size, &data)? } else { Sidecar::open(&path, size, &data)? };
        Ok(Arc::new(sidecar))
    }

    fn now_ms(&self) -> u64 {
        host::now_ms()
    }

    fn now_us(&self) -> u64 {
        host::now_us()
    }

    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// Reserves the space as one run, where that is supported, and finds out early if there is not enough.
fn reserve(file: &File, offset: u64, len: u64) -> io::Result<()> {
    if offset.checked_add(len).is_none_or(|end| end > i64::MAX.unsigned_abs()) {
        return Err(io::ErrorKind::FileTooLarge.into());
    }
    #[cfg(target_os = "linux")]
    if let (Ok(offset), Ok(len)) = (offset.try_into(), len.try_into()) {
        // SAFETY: the descriptor is open.
        if unsafe { libc::fallocate(file.as_raw_fd(), 0, offset, len) } != 0 {
            let error = io::Error::last_os_error();
            // Not supported, or interrupted: the zeros will take the space.
            let skipped = [libc::EOPNOTSUPP, libc::ENOSYS, libc::EINVAL, libc::EINTR];
            if !error.raw_os_error().is_some_and(|code| skipped.contains(&code)) {
                return Err(error);
            }
        }
    }
    #[cfg(not(target_os = "linux"))]
    let _ = file;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::fork::tests::{in_child, wait_for};
    use super::super::platform::LockMode::{Exclusive, Shared};
    use super::*;
    use std::sync::atomic::Ordering;

    const CREATE: OpenMode = OpenMode { read_only: false, create: true };
    const WRITE: OpenMode = OpenMode { read_only: false, create: false };
    const READ: OpenMode = OpenMode { read_only: true, create: false };
    const BYTE: u64 = (1 << 62) + 3;

    fn fresh() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("data.mst");
        (directory, path)
    }

    #[test]
    fn opening_says_what_is_wrong_and_changes_nothing() {
        let (directory, path) = fresh();
        for mode in [READ, WRITE, OpenMode { read_only: true, create: true }] {
            assert!(matches!(UnixDisk::open(&path, mode), Err(Error::NotFound { .. })));
            assert!(!path.exists());
        }
        let lost = directory.path().join("no/such/directory");
        assert!(matches!(UnixDisk::open(&lost, CREATE), Err(Error::Io { op: "open or create", .. })));
        let pipe = directory.path().join("pipe");
        let name = std::ffi::CString::new(pipe.as_os_str().as_encoded_bytes()).unwrap();
        // SAFETY: given a valid name.
        assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o666) }, 0);
        for (place, what) in [(directory.path(), "a directory"), (&pipe, "a device, pipe or socket")] {
            for mode in [READ, WRITE, CREATE] {
                match UnixDisk::open(place, mode) {
                    Err(Error::NotAStore { found, .. }) => assert_eq!(found, what),
                    other => panic!("{:?}", other.map(|_| ())),
                }
            }
        }
        fs::write(&path, b"precious").unwrap();
        for mode in [READ, WRITE, CREATE] {
            let disk = UnixDisk::open(&path, mode).unwrap();
            assert_eq!((disk.len().unwrap(), disk.writable(), disk.path()), (8, !mode.read_only, path.as_path()));
            disk.write_at(b"", 0).unwrap();
        }
        assert!(UnixDisk::open(&path, READ).unwrap().write_at(b"x", 0).is_err());
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn reads_writes_and_lengths() {
        let (_directory, path) = fresh();
        let disk = UnixDisk::open(&path, CREATE).unwrap();
        disk.write_at(b"hello", 10).unwrap();
        let mut buf = [9; 20];
        assert_eq!(disk.read_at(&mut buf, 8).unwrap(), 7);
        assert_eq!(&buf[..8], b"\0\0hello\x09");
        assert_eq!(disk.read_at(&mut buf, 15).unwrap(), 0);
        assert_eq!(disk.read_at(&mut [], 0).unwrap(), 0);
        disk.set_len(12).unwrap();
        assert_eq!(disk.len().unwrap(), 12);
        disk.start_writeback(0, 4096);
        disk.flush().unwrap();
        assert_eq!(disk.identity(), UnixDisk::open(&path, READ).unwrap().identity());
    }

    #[test]
    fn allocated_ranges_are_real_zeros_and_leave_the_rest_alone() {
        let (_directory, path) = fresh();
        let disk = UnixDisk::open(&path, CREATE).unwrap();
        disk.write_at(&[7; 5000], 0).unwrap();
        let size = ZEROS as u64 * 2 + 4096;
        disk.allocate(4096, size).unwrap();
        disk.flush().unwrap();
        let bytes = fs::read(&path).unwrap();
        assert_eq!(bytes.len() as u64, 4096 + size);
        assert!(bytes[..4096].iter().all(|b| *b == 7) && bytes[4096..].iter().all(|b| *b == 0));
        assert!(fs::metadata(&path).unwrap().blocks() * 512 >= size, "the space is taken");
        for (offset, len) in [(0, u64::MAX), (u64::MAX, 2), (1, i64::MAX.unsigned_abs())] {
            assert_eq!(disk.allocate(offset, len).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        }
        assert_eq!(disk.len().unwrap(), 4096 + size);
    }

    #[test]
    fn two_openings_in_one_process_exclude_each_other() {
        let (_directory, path) = fresh();
        let a = UnixDisk::open(&path, CREATE).unwrap();
        let b = UnixDisk::open(&path, WRITE).unwrap();
        assert!(a.try_lock(BYTE, Exclusive).unwrap());
        assert!(!b.try_lock(BYTE, Shared).unwrap());
        assert_eq!(b.probe(BYTE - 3, 10).unwrap(), Some((BYTE, 1)));
        a.unlock(BYTE).unwrap();
        assert!(b.try_lock(BYTE, Shared).unwrap());
    }

    #[test]
    fn locks_end_with_the_handle_even_while_a_map_lives() {
        let (_directory, path) = fresh();
        let a = UnixDisk::open(&path, CREATE).unwrap();
        let b = UnixDisk::open(&path, WRITE).unwrap();
        a.write_at(&[7; 100], 0).unwrap();
        assert!(a.try_lock(BYTE, Exclusive).unwrap());
        let map = a.map(1 << 20).unwrap().unwrap();
        let sidecar = a.sidecar(0, 4096, true).unwrap();
        drop(a);
        assert!(b.try_lock(BYTE, Exclusive).unwrap());
        assert_eq!(map.bytes()[99], 7);
        assert!(sidecar.is_current());
    }

    #[test]
    fn a_map_follows_a_file_that_was_renamed() {
        let (directory, path) = fresh();
        let disk = UnixDisk::open(&path, CREATE).unwrap();
        disk.write_at(b"mine", 0).unwrap();
        fs::rename(&path, directory.path().join("elsewhere")).unwrap();
        fs::write(&path, b"other").unwrap();
        // Where a descriptor cannot be opened once more, there is no map, but never a wrong one.
        let map = disk.map(4).unwrap();
        assert!(map.is_some() || !cfg!(target_os = "linux"));
        assert!(map.is_none_or(|map| map.bytes() == b"mine"));
    }

    #[test]
    fn a_child_has_a_stale_handle_and_cannot_use_it() {
        let (_directory, path) = fresh();
        let disk = UnixDisk::open(&path, CREATE).unwrap();
        disk.write_at(b"parent", 0).unwrap();
        let sidecar = disk.sidecar(0, 4096, true).unwrap();
        assert!(disk.try_lock(BYTE, Exclusive).unwrap());
        let child = in_child(|| {
            let refused = disk.write_at(b"child!", 0).is_err()
                && disk.read_at(&mut [0; 6], 0).is_err()
                && disk.set_len(0).is_err()
                && disk.flush().is_err()
                && disk.unlock(BYTE).is_err()
                && disk.try_lock(BYTE, Exclusive).is_err()
                && disk.sidecar(0, 4096, true).is_err()
                && disk.map(10).is_err();
            drop(disk);
            // A handle of its own is as good as any.
            let own = UnixDisk::open(&path, WRITE).unwrap();
            let kept_out = !own.try_lock(BYTE, Shared).unwrap();
            let reads = own.read_at(&mut [0; 6], 0).unwrap() == 6;
            i32::from(!(refused && kept_out && reads))
        });
        assert_eq!(wait_for(child), 0);
        assert!(sidecar.is_current());
        let other = UnixDisk::open(&path, WRITE).unwrap();
        assert!(!other.try_lock(BYTE, Shared).unwrap(), "the child's end took no lock from the parent");
    }

    #[test]
    fn a_surviving_child_keeps_no_lock_of_its_killed_parent() {
        let (_directory, path) = fresh();
        let disk = UnixDisk::open(&path, CREATE).unwrap();
        disk.set_len(4096).unwrap();
        let (mut from_parent, to_test) = io::pipe().unwrap();
        let (from_test, to_child) = io::pipe().unwrap();
        let parent = in_child(|| {
            let own = UnixDisk::open(&path, WRITE).unwrap();
            assert!(own.try_lock(BYTE, Exclusive).unwrap());
            let map = own.map(4096).unwrap().unwrap();
            let sidecar = own.sidecar(0, 4096, true).unwrap();
            in_child(|| {
                let first = map.bytes()[0];
                sidecar.words()[0].store(1, Ordering::SeqCst);
                io::Write::write_all(&mut &to_test, b"x").unwrap();
                // SAFETY: this process does not use its copy of the writing end.
                unsafe { libc::close(to_child.as_raw_fd()) };
                // Ends when the test has closed its end, however the test ends.
                let _ = io::Read::read(&mut &from_test, &mut [0]);
                i32::from(first)
            });
            loop {
                std::thread::park();
            }
        });
        io::Read::read_exact(&mut from_parent, &mut [0]).unwrap();
        assert!(!disk.try_lock(BYTE, Exclusive).unwrap());
        // SAFETY: the child is ours and not yet waited for.
        unsafe { libc::kill(parent, libc::SIGKILL) };
        assert_eq!(wait_for(parent), -libc::SIGKILL);
        assert!(disk.try_lock(BYTE, Exclusive).unwrap(), "the grandchild still has the map, not the lock");
        drop(to_child);
    }

    #[test]
    fn every_name_of_the_file_leads_to_one_sidecar() {
        let (directory, path) = fresh();
        let disk = UnixDisk::open(&path, CREATE).unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let link = elsewhere.path().join("link");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let by_link = UnixDisk::open(&link, READ).unwrap();
        assert_eq!(by_link.path(), link);
        assert_eq!(by_link.identity(), disk.identity());
        let made = by_link.sidecar(0, 4096, true).unwrap();
        let joined = disk.sidecar(0, 4096, false).unwrap();
        made.words()[1].store(5, Ordering::SeqCst);
        assert_eq!(joined.words()[1].load(Ordering::SeqCst), 5);
        assert!(directory.path().join("data.mst-shm").exists());
        made.remove().unwrap();
        assert!(!made.is_current());
        assert_eq!(disk.sidecar(0, 4096, false).err().unwrap().kind(), io::ErrorKind::NotFound);
    }
}
