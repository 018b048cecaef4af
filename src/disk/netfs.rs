//! Which file systems lie on another machine, or on several. Their locks and maps cannot be
//! trusted between hosts, so a store there may be damaged through no fault of a program.
//!
//! Two witnesses are asked, and either can say "remote": the file system's magic number, and its
//! type in the mount table, which alone knows what stands behind FUSE.

use std::fs::File;
use std::io;
use std::path::Path;

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
    let path = match path.canonicalize() {
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let parent = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
            parent.canonicalize()?
        }
        other => other?,
    };
    system::remote(&path)
}

/// Joins the two witnesses.
fn judge(magic: u32, mounted_as: Option<&str>) -> Option<String> {
    if let Some(kind) = mounted_as.filter(|kind| remote_type(kind)) {
        return Some(kind.to_owned());
    }
    if let Some((_, name)) = REMOTE_MAGIC.iter().find(|(number, _)| *number == magic) {
        return Some((*name).to_owned());
    }
    // Without a mount table it cannot be told what is behind FUSE.
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

    pub(super) fn remote(path: &Path) -> io::Result<Option<String>> {
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
        Ok(judge(magic(&file)?, super::mounts::filesystem_type(&table, &place).as_deref()))
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

    pub(super) fn remote(path: &Path) -> io::Result<Option<String>> {
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
        Ok(judge(0, Some(&name)).or_else(|| (!local).then_some(name)))
    }
}

/// The mount table of Linux, `/proc/self/mountinfo`.
#[cfg(any(target_os = "linux", test))]
mod mounts {
    /// What is known of the file that is looked for.
    pub(super) struct Place<'a> {
        /// The mount that the file was opened through; the kernel tells it since Linux 3.15.
        pub(super) mount: Option<u64>,
        pub(super) device: (u32, u32),
        /// Absolute, without symbolic links.
        pub(super) path: &'a [u8],
    }

    struct Mount {
        id: u64,
        device: (u32, u32),
        point: Vec<u8>,
        kind: String,
    }

    /// The mount id in a text of `/proc/self/fdinfo`.
    pub(super) fn mount_id(fdinfo: &[u8]) -> Option<u64> {
        let line = fdinfo.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"mnt_id:"))?;
        number(line.trim_ascii())
    }

    /// The type of the file system that holds the place.
    ///
    /// The mount id decides alone. Without it, the deepest mount point above the path does, of
    /// those with the right device; of two on the same point the later one covers the earlier.
    /// Some file systems (btrfs) give files other devices than the table says, so with no right
    /// device any mount counts.
    pub(super) fn filesystem_type(table: &[u8], place: &Place<'_>) -> Option<String> {
        let mounts: Vec<Mount> = table.split(|b| *b == b'\n').filter_map(parse).collect();
        let by_id = || mounts.iter().find(|m| Some(m.id) == place.mount);
        let deepest = |device: Option<(u32, u32)>| {
            mounts
                .iter()
                .filter(|m| device.is_none_or(|d| m.device == d) && lies_below(place.path, &m.point))
                .max_by_key(|m| m.point.len())
        };
        by_id().or_else(|| deepest(Some(place.device))).or_else(|| deepest(None)).map(|m| m.kind.clone())
    }

    fn lies_below(path: &[u8], point: &[u8]) -> bool {
        let point = point.strip_suffix(b"/").unwrap_or(point);
        path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with(b"/"))
    }

    /// `id parent major:minor root point options [optional …] - type source options`
    fn parse(line: &[u8]) -> Option<Mount> {
        let mut fields = line.split(|b| *b == b' ');
        let id = number(fields.next()?)?;
        let device = fields.nth(1)?;
        let colon = device.iter().position(|b| *b == b':')?;
        let (major, minor) = device.split_at_checked(colon)?;
        let device = (number(major)?.try_into().ok()?, number(minor.get(1..)?)?.try_into().ok()?);
        let point = unescape(fields.nth(1)?);
        let kind = fields.skip_while(|field| *field != b"-").nth(1)?;
        Some(Mount { id, device, point, kind: String::from_utf8_lossy(&unescape(kind)).into_owned() })
    }

    fn number(digits: &[u8]) -> Option<u64> {
        std::str::from_utf8(digits).ok()?.parse().ok()
    }

    /// Blanks, line ends and backslashes stand as a backslash and three octal digits.
    fn unescape(field: &[u8]) -> Vec<u8> {
        let mut out = Vec::with_capacity(field.len());
        let mut rest = field;
        while let Some((first, tail)) = rest.split_first() {
            let code = tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| {
                let digits = std::str::from_utf8(digits).ok().filter(|d| d.bytes().all(|b| b.is_ascii_digit()))?;
                u8::from_str_radix(digits, 8).ok()
            });
            out.push(code.unwrap_or(*first));
            rest = tail.get(if code.is_some() { 3 } else { 0 }..).unwrap_or_default();
        }
        out
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        const TABLE: &[u8] = br"22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard
40 27 0:40 / /home rw,relatime shared:5 master:2 - nfs4 server:/home rw,vers=4.2,addr=10.0.0.1
41 40 254:0 /scratch /home/me/scratch rw - ext4 /dev/vda rw
42 27 0:42 / /mnt/with\040blank\134slash rw - fuse.sshfs me@host: rw,user_id=0
43 27 8:1 / /data rw - xfs /dev/sda1 rw
44 43 0:44 / /data rw - 9p share rw,trans=virtio
45 27 0:45 /@ /pool rw - btrfs /dev/sdb rw
broken line
46 27 x:1 / /broken rw - nfs nowhere rw
";

        fn kind(mount: Option<u64>, device: (u32, u32), path: &[u8]) -> Option<String> {
            filesystem_type(TABLE, &Place { mount, device, path })
        }

        #[test]
        fn the_mount_id_decides_alone() {
            assert_eq!(kind(Some(43), (0, 44), b"/data/x").as_deref(), Some("xfs"));
            assert_eq!(kind(Some(44), (8, 1), b"/").as_deref(), Some("9p"));
            // A mount id that the table does not show (another root directory) leaves it to the rest.
            assert_eq!(kind(Some(999), (0, 40), b"/home/x").as_deref(), Some("nfs4"));
        }

        #[test]
        fn bind_mounts_over_mounts_and_odd_devices() {
            assert_eq!(kind(None, (254, 0), b"/home/me/scratch/x").as_deref(), Some("ext4"));
            assert_eq!(kind(None, (0, 40), b"/home/me/other").as_deref(), Some("nfs4"));
            assert_eq!(kind(None, (254, 0), b"/homely").as_deref(), Some("ext4"));
            assert_eq!(kind(None, (0, 44), b"/data/x").as_deref(), Some("9p"));
            assert_eq!(kind(None, (7, 7), b"/data").as_deref(), Some("9p"), "the later mount covers");
            assert_eq!(kind(None, (0, 99), b"/pool/x").as_deref(), Some("btrfs"), "a subvolume's device");
            assert_eq!(kind(None, (0, 42), br"/mnt/with blank\slash/x").as_deref(), Some("fuse.sshfs"));
        }

        #[test]
        fn broken_tables_say_nothing() {
            for table in [&b""[..], b"\n\n", b"1 2 3", b"1 2 3:4 / / rw -", b"1 2 3:4 / / rw nothing here"] {
                assert_eq!(filesystem_type(table, &Place { mount: Some(1), device: (3, 4), path: b"/x" }), None);
            }
        }

        #[test]
        fn escapes() {
            assert_eq!(unescape(br"\040a\011\012\134"), b" a\t\n\\");
            assert_eq!(unescape(br"\04"), br"\04");
            assert_eq!(unescape(br"\999\+12"), br"\999\+12");
        }

        #[test]
        fn the_mount_id_in_fdinfo() {
            assert_eq!(mount_id(b"pos:\t0\nflags:\t012000000\nmnt_id:\t27\nino:\t5\n"), Some(27));
            assert_eq!(mount_id(b"pos:\t0\n"), None);
        }
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
    fn either_witness_can_say_remote() {
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
