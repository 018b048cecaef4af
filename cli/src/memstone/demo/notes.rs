//! The text that the demo stores: Markdown files, cut into notes by paragraph.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// One text: its name, and its paragraphs.
pub(super) struct Source {
    pub(super) name: String,
    pub(super) paragraphs: Vec<String>,
}

/// What is used where no text is found.
const BUILT_IN: &str = include_str!("../../../../docs/KEY_ENCODING.md");

/// The Markdown files below `docs`; or README.md and those below docs/ here; or the built-in text.
pub(super) fn collect(docs: Option<&Path>) -> Result<Vec<Source>, Failure> {
    let mut files = Vec::new();
    match docs {
        Some(folder) => find(folder, &mut files)?,
        None => {
            files.extend(Some(PathBuf::from("README.md")).filter(|file| file.is_file()));
            if Path::new("docs").is_dir() {
                find(Path::new("docs"), &mut files)?;
            }
        }
    }
    files.sort();
    let mut sources = Vec::new();
    for file in files {
        let text = fs::read(&file).map_err(|error| Failure::Other(format!("{}: {error}", file.display())))?;
        sources.extend(source(&file.display().to_string(), &String::from_utf8_lossy(&text)));
    }
    match (sources.is_empty(), docs) {
        (true, Some(folder)) => Err(Failure::Usage(format!("there is no Markdown text below {}", folder.display()))),
        (true, None) => Ok(source("built-in text", BUILT_IN).into_iter().collect()),
        _ => Ok(sources),
    }
}

fn find(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), Failure> {
    let unreadable = |error| Failure::Other(format!("{}: {error}", folder.display()));
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        // Links are not followed: they might lead in circles.
        let kind = entry.file_type().map_err(unreadable)?;
        if kind.is_dir() {
            find(&entry.path(), files)?;
        } else if kind.is_file() && entry.path().extension().is_some_and(|extension| extension == "md") {
            files.push(entry.path());
        }
    }
    Ok(())
}

fn source(name: &str, text: &str) -> Option<Source> {
    let text = text.replace("\r\n", "\n");
    let paragraphs: Vec<_> =
        text.split("\n\n").map(str::trim).filter(|paragraph| !paragraph.is_empty()).map(str::to_owned).collect();
    (!paragraphs.is_empty()).then(|| Source { name: name.to_owned(), paragraphs })
}
