//! The mount table of Linux, `/proc/self/mountinfo`.

/// What is known of the file in question.
pub(super) struct Place<'a> {
    /// The mount through which the file was opened; the kernel reports it since Linux 3.15.
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

/// The mount id in the text of a `/proc/self/fdinfo` file.
pub(super) fn mount_id(fdinfo: &[u8]) -> Option<u64> {
    let line = fdinfo.split(|b| *b == b'\n').find_map(|line| line.strip_prefix(b"mnt_id:"))?;
    number(line.trim_ascii())
}

/// The type of the file system that holds the place.
///
/// The mount id alone decides. Without it, the deepest mount point above the path decides, of those with the
/// right device; of two on the same point the later one covers the earlier. Some file systems (btrfs) give files
/// other devices than the table has, so if no mount has the right device, any mount counts.
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

/// Blanks, line ends and backslashes are written as a backslash and three octal digits.
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
