//! Damages of a sidecar.

use super::kinds;
use crate::random::Random;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Copies that are kept, to come back later.
const KEPT: usize = 4;

pub struct Sidecar {
    path: PathBuf,
    copies: Vec<Vec<u8>>,
}

impl Sidecar {
    pub fn new(store: &Path) -> Sidecar {
        let mut name = store.as_os_str().to_owned();
        name.push("-shm");
        Sidecar { path: name.into(), copies: Vec::new() }
    }

    /// Keeps a copy of it as it is.
    pub fn copy(&mut self, random: &mut Random) {
        let Ok(bytes) = fs::read(&self.path) else { return };
        if self.copies.len() < KEPT {
            self.copies.push(bytes);
        } else {
            self.copies[random.below(KEPT as u64) as usize] = bytes;
        }
    }

    /// Deletes it, cuts it, writes over it, or puts an older copy in its place, by renaming, or as another user
    /// would. Gives what it did. (An older copy written into the same file is left out: what it hides may stay
    /// unseen for a second, which the verdict does not allow for.)
    pub fn damage(&self, random: &mut Random, with_copies: bool) -> &'static str {
        let len = fs::metadata(&self.path).map_or(0, |meta| meta.len());
        let write =
            |bytes: &[u8], at| drop(File::options().write(true).open(&self.path).map(|f| f.write_all_at(bytes, at)));
        let older = (!self.copies.is_empty()).then(|| &self.copies[random.below(self.copies.len() as u64) as usize]);
        match (random.below(if with_copies { 6 } else { 4 }), older) {
            (1, _) => {
                let len = random.below(len + 1);
                drop(File::options().write(true).open(&self.path).map(|file| file.set_len(len)));
                "cut"
            }
            (2, _) => {
                let garbage: Vec<u8> = (0..len / 8).flat_map(|_| random.next().to_le_bytes()).collect();
                write(&garbage, 0);
                "garbage"
            }
            (3, _) => {
                write(&random.next().to_le_bytes(), random.below(2048));
                "a word"
            }
            (4, Some(older)) => {
                self.put(older, |_| Ok(()));
                "an older copy"
            }
            (5, Some(older)) => {
                self.put(older, kinds::plant);
                "planted"
            }
            _ => {
                drop(fs::remove_file(&self.path));
                "deleted"
            }
        }
    }

    fn put(&self, bytes: &[u8], change: impl FnOnce(&Path) -> std::io::Result<()>) {
        let made = self.path.with_extension("older");
        let put = fs::write(&made, bytes).and_then(|()| {
            let like = fs::metadata(&self.path).map(|meta| meta.permissions());
            if let Ok(like) = like {
                fs::set_permissions(&made, like)?;
            }
            change(&made)?;
            fs::rename(&made, &self.path)
        });
        if put.is_err() {
            drop(fs::remove_file(&made));
        }
    }
}
