//! Where the memory lies: what the environment says, or the user's data directory.

use crate::failure::Failure;
use std::env;
use std::path::{Path, PathBuf};

/// The variable that names the file, as for the reference server.
pub(crate) const VARIABLE: &str = "MEMORY_FILE_PATH";

/// A store, and the file that is imported into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) store: PathBuf,
    /// A file of the reference server, in JSON Lines; it need not exist.
    pub(crate) source: Option<PathBuf>,
}

impl Place {
    /// By the environment. The directory of the default place is created.
    pub(crate) fn from_environment() -> Result<Place, Failure> {
        if let Some(given) = env::var_os(VARIABLE).filter(|given| !given.is_empty()) {
            return Ok(Place::of(Path::new(&given)));
        }
        let directory = data_directory().ok_or_else(|| {
            Failure::Place(format!("neither {VARIABLE} nor HOME is set: set {VARIABLE} to the file of the memory"))
        })?;
        std::fs::create_dir_all(&directory)
            .map_err(|error| Failure::Place(format!("{}: cannot be created: {error}", directory.display())))?;
        Ok(Place { store: directory.join("memory.mst"), source: None })
    }

    /// By a path: a file that ends in `.jsonl` or `.json` is imported into a store beside it, any other is the store.
    fn of(path: &Path) -> Place {
        let is_json = path
            .extension()
            .is_some_and(|extension| ["jsonl", "json"].iter().any(|json| extension.eq_ignore_ascii_case(json)));
        if !is_json {
            return Place { store: path.to_path_buf(), source: None };
        }
        let mut store = path.as_os_str().to_owned();
        store.push(".mst");
        Place { store: store.into(), source: Some(path.to_path_buf()) }
    }
}

fn data_directory() -> Option<PathBuf> {
    let set = |name| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let home = |below: &str| Some(set("HOME")?.join(below));
    let data = match set("XDG_DATA_HOME") {
        Some(data) => data,
        None if cfg!(target_os = "macos") => home("Library/Application Support")?,
        None => home(".local/share")?,
    };
    Some(data.join("memstone"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_the_reference_server_stays_beside_the_store() {
        let of = |path| Place::of(Path::new(path));
        let both = |source: &str, store: &str| Place { store: store.into(), source: Some(source.into()) };
        assert_eq!(of("/data/memory.jsonl"), both("/data/memory.jsonl", "/data/memory.jsonl.mst"));
        assert_eq!(of("memory.JSON"), both("memory.JSON", "memory.JSON.mst"));
        assert_eq!(of("/data/memory.mst"), Place { store: "/data/memory.mst".into(), source: None });
        assert_eq!(of("memory"), Place { store: "memory".into(), source: None });
        assert_eq!(of("/d.jsonl/m"), Place { store: "/d.jsonl/m".into(), source: None });
    }
}
