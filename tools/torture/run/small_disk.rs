//! Small file systems of their own, in an image file, to be filled up.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Kinds that are tried.
pub const KINDS: [&str; 3] = ["ext4", "xfs", "btrfs"];

/// A mounted image; unmounted when dropped.
pub struct SmallDisk {
    at: PathBuf,
    image: PathBuf,
}

fn succeeds(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|e| format!("{command:?}: {e}"))?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).trim().to_owned()) }
}

impl SmallDisk {
    /// Needs the tool that makes the file system, and the right to mount it.
    pub fn make(kind: &str, dir: &Path) -> Result<SmallDisk, String> {
        let image = dir.join(format!("{kind}.image"));
        let at = dir.join(format!("{kind}.disk"));
        // The least that each kind can be.
        let megabytes = match kind {
            "ext4" => 32,
            "btrfs" => 128,
            _ => 320,
        };
        std::fs::create_dir_all(&at).map_err(|e| e.to_string())?;
        let file = std::fs::File::create(&image).map_err(|e| e.to_string())?;
        file.set_len(megabytes << 20).map_err(|e| e.to_string())?;
        let made = succeeds(Command::new(format!("mkfs.{kind}")).arg(&image))
            .and_then(|()| succeeds(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(&at)));
        match made {
            Ok(()) => Ok(SmallDisk { at, image }),
            Err(why) => {
                let _ = std::fs::remove_file(&image);
                Err(why)
            }
        }
    }

    pub fn path(&self) -> &Path {
        &self.at
    }

    /// Takes all the room that is left.
    pub fn flood(&self) {
        use std::io::Write;
        if let Ok(mut file) = std::fs::File::create(self.at.join("ballast")) {
            let piece = vec![1; 64 << 10];
            while file.write_all(&piece).is_ok() {}
            while file.write_all(&piece[..512]).is_ok() {}
        }
    }

    /// Gives it back.
    pub fn drain(&self) {
        let _ = std::fs::remove_file(self.at.join("ballast"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = succeeds(Command::new("umount").arg(&self.at));
        let _ = std::fs::remove_file(&self.image);
    }
}
