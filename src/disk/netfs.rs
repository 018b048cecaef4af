//! Which file systems lie on another machine, or on several. Their locks and maps cannot be trusted between
//! hosts, so a store there may be damaged even if no program is at fault.
//!
//! Two sources are asked, and either can say "remote": the file system's magic number, and its type in the mount
//! table. Only the mount table knows what is behind FUSE.

#[cfg(any(target_os = "linux", test))]
mod mounts;

use std::fs::File;
use std::io;
use std::path::Path;

use super::rename::parent_of;

/// Types that are remote, clustered, or shared with another machine's kernel (virtual machines).
const REMOTE: &[&str] = &[
    "9p",
    "acfs",
    "afs",
    "auristorfs",
    "beegfs",
    "ceph",
    "cifs",
    "coda",
    "cvfs",
    "davfs",
    "davfs2",
    "fakeowner",
    "fhgfs",
    "gfs",
    "gfs2",
    "glusterfs",
    "gpfs",
    "grpcfuse",
    "lustre",
    "ncpfs",
    "nfs",
    "nfs4",
    "ocfs2",
    "openafs",
    "orangefs",
    "osxfs",
    "panfs",
    "prl_fs",
    "pvfs2",
    "smb",
    "smb2",
    "smb3",
    "smbfs",
    "vboxsf",
    "virtiofs",
    "vmhgfs",
    "webdav",
    "wekafs",
];

/// FUSE programs whose data lies on this machine. Any other one is taken for remote.
const LOCAL_FUSE: &[&str] = &[
    "apfs",
    "apfs-fuse",
    "bindfs",
    "ciopfs",
    "cryfs",
    "cryptomator",
    "dislocker",
    "encfs",
    "exfat",
    "exfat-fuse",
    "ext2",
    "fuse-ext2",
    "fuse-overlayfs",
    "fuse2fs",
    "gocryptfs",
    "lklfuse",
    "lowntfs-3g",
    "mergerfs",
    "ntfs",
    "ntfs-3g",
    "posixovl",
    "securefs",
    "shfs",
    "squashfuse",
    "squashfuse_ll",
    "unionfs",
    "unionfs-fuse",
    "veracrypt",
    "zfs-fuse",
];

/// `f_type` of FUSE, of which virtiofs is one.
const FUSE_MAGIC: u32 = 0x6573_5546;
/// `f_type` of remote and cluster file systems.
const REMOTE_MAGIC: &[(u32, &str)] = &[
    (0x0000_564C, "ncpfs"),
    (0x0000_517B, "smbfs"),
    (0x0000_6969, "nfs"),
    (0x00C3_6400, "ceph"),
    (0x0102_1997, "9p"),
    (0x0116_1970, "gfs2"),
    (0x0131_11A8, "ibrix"),
    (0x0BD0_0BD0, "lustre"),
    (0x1983_0326, "beegfs"),
    (0x2003_0528, "orangefs"),
    (0x4750_4653, "gpfs"),
    (0x5346_414F, "afs"),
    (0x6163_6673, "acfs"),
    (0x6B41_4653, "afs"),
    (0x7375_7245, "coda"),
    (0x7461_636F, "ocfs2"),
    (0x786F_4256, "vboxsf"),
    (0x7C7C_6673, "prl_fs"),
    (0xAAD7_AAEA, "panfs"),
    (0xBACB_ACBC, "vmhgfs"),
    (0xBEEF_DEAD, "snfs"),
    (0xFE53_4D42, "smb2"),
    (0xFF53_4D42, "cifs"),
];

/// The name of the remote file system that `path` lies on, or would lie on once it is created;
/// `None` for a local one. Nothing is read from the file and nothing is created.
pub(crate) fn remote_filesystem(path: &Path) -> io::Result<Option<String>> {
    Ok(filesystem(path)?.remote)
}

/// A file system, by its name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Named {
    /// Its type, as the mount table has it, where that can be told.
    pub(crate) kind: Option<String>,
    /// The name of a remote one; `None` for a local one.
    pub(crate) remote: Option<String>,
}

/// The file system that `path` lies on, or would lie on once it is created.
pub(crate) fn filesystem(path: &Path) -> io::Result<Named> {
    let path = match path.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => parent_of(path).canonicalize()?,
        other => other?,
    };
    system::named(&path)
}

/// Combines the two sources.
fn judge(magic: u32, mounted_as: Option<&str>) -> Option<String> {
    if let Some(kind) = mounted_as.filter(|kind| remote_type(kind)) {
        return Some(kind.to_owned());
    }
    if let Some((_, name)) = REMOTE_MAGIC.iter().find(|(number, _)| *number == magic) {
        return Some((*name).to_owned());
    }
    // Without a mount table it is unknown what is behind FUSE.
    (magic == FUSE_MAGIC && mounted_as.is_none()).then(|| "fuse".to_owned())
}

fn remote_type(kind: &str) -> bool {
    match kind.strip_prefix("fuse") {
        // Needs a block device of this machine.
        Some("blk") => false,
        Some("") => true,
        Some(rest) if rest.starts_with('.') || rest.starts_with("blk.") => {
            let program = rest.split_once('.').map_or("", |(_, program)| program);
            !rest.starts_with("blk.") && !LOCAL_FUSE.contains(&program)
        }
        _ => REMOTE.contains(&kind) || kind == "macfuse" || kind == "osxfuse",
    }
}

#[cfg(target_os = "linux")]
mod system {
    use super::*;
    use std::os::fd::AsRawFd;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

    pub(super) fn named(path: &Path) -> io::Result<Named> {
        // O_PATH needs no permission on the file, and no device or pipe notices it.
        let file = File::options().read(true).custom_flags(libc::O_PATH).open(path)?;
        let device = file.metadata()?.dev();
        let descriptor = std::fs::read(format!("/proc/self/fdinfo/{}", file.as_raw_fd())).unwrap_or_default();
        let table = std::fs::read("/proc/self/mountinfo").unwrap_or_default();
        let place = super::mounts::Place {
            mount: super::mounts::mount_id(&descriptor),
            device: (libc::major(device), libc::minor(device)),
            path: path.as_os_str().as_bytes(),
        };
        let kind = super::mounts::filesystem_type(&table, &place);
        Ok(Named { remote: judge(magic(&file)?, kind.as_deref()), kind })
    }

    fn magic(file: &File) -> io::Result<u32> {
        // SAFETY: `statfs` is plain data, for which zeros are valid, and the kernel fills it in.
        let (result, status) = unsafe {
            let mut status: libc::statfs = std::mem::zeroed();
            (libc::fstatfs(file.as_raw_fd(), &raw mut status), status)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "32 bits, of other types on other hosts"
        )]
        Ok(status.f_type as u32)
    }
}

#[cfg(target_os = "macos")]
mod system {
    use super::*;
    use std::os::fd::AsRawFd;

    pub(super) fn named(path: &Path) -> io::Result<Named> {
        let file = File::open(path)?;
        // SAFETY: `statfs` is plain data, for which zeros are valid, and the kernel fills it in.
        let (result, status) = unsafe {
            let mut status: libc::statfs = std::mem::zeroed();
            (libc::fstatfs(file.as_raw_fd(), &raw mut status), status)
        };
        if result != 0 {
            return Err(io::Error::last_os_error());
        }
        let name: Vec<u8> = status.f_fstypename.iter().take_while(|c| **c != 0).map(|c| c.cast_unsigned()).collect();
        let name = String::from_utf8_lossy(&name).into_owned();
        let local = status.f_flags & libc::MNT_LOCAL.cast_unsigned() != 0;
        let remote = judge(0, Some(&name)).or_else(|| (!local).then(|| name.clone()));
        Ok(Named { remote, kind: Some(name) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types() {
        for remote in REMOTE.iter().chain(&["fuse", "fuse.sshfs", "fuse.rclone", "fuse.glusterfs", "fuse.", "fuse.a.b"])
        {
            assert!(remote_type(remote), "{remote}");
        }
        for local in ["ext4", "xfs", "btrfs", "tmpfs", "zfs", "overlay", "apfs", "hfs", "fuseblk", "fuseblk.ntfs"] {
            assert!(!remote_type(local), "{local}");
        }
        for program in LOCAL_FUSE {
            assert!(!remote_type(&format!("fuse.{program}")), "{program}");
        }
    }

    #[test]
    fn each_source_alone_can_say_remote() {
        assert_eq!(judge(0xEF53, Some("ext4")), None);
        assert_eq!(judge(0xEF53, None), None);
        assert_eq!(judge(0x6969, None).as_deref(), Some("nfs"));
        assert_eq!(judge(0x6969, Some("nfs4")).as_deref(), Some("nfs4"));
        assert_eq!(judge(0xFF53_4D42, Some("ext4")).as_deref(), Some("cifs"));
        assert_eq!(judge(0xEF53, Some("virtiofs")).as_deref(), Some("virtiofs"));
        assert_eq!(judge(FUSE_MAGIC, Some("fuse.sshfs")).as_deref(), Some("fuse.sshfs"));
        assert_eq!(judge(FUSE_MAGIC, Some("fuse.gocryptfs")), None);
        assert_eq!(judge(FUSE_MAGIC, Some("fuseblk")), None);
        assert_eq!(judge(FUSE_MAGIC, None).as_deref(), Some("fuse"));
    }

    #[test]
    fn asks_the_system_about_files_there_and_not_there() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("store");
        let before = remote_filesystem(&file).unwrap();
        assert!(!file.exists());
        std::fs::write(&file, b"").unwrap();
        assert_eq!(remote_filesystem(&file).unwrap(), before);
        assert!(remote_filesystem(&directory.path().join("no/such")).is_err());
        #[cfg(target_os = "linux")]
        assert_eq!(remote_filesystem(Path::new("/dev/shm/store")).unwrap(), None);
    }
}
