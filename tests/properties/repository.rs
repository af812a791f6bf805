//! The files of the repository, for the checks of its texts.

use std::fs;
use std::path::{Path, PathBuf};

/// Directories that are built, downloaded or the version control's.
const OTHERS: [&str; 3] = ["target", "node_modules", ".git"];

/// A file, relative to the repository, and its text.
#[derive(Debug)]
pub(crate) struct Source {
    pub(crate) path: PathBuf,
    pub(crate) text: String,
}

impl Source {
    pub(crate) fn has_extension(&self, wanted: &[&str]) -> bool {
        let extension = self.path.extension().and_then(|e| e.to_str());
        extension.is_some_and(|extension| wanted.contains(&extension))
    }
}

pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every text file, in the order of their paths.
pub(crate) fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    collect(root(), &mut found);
    found.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(found.len() > 200, "only {} files", found.len());
    found
}

fn collect(directory: &Path, found: &mut Vec<Source>) {
    for entry in fs::read_dir(directory).expect("a directory") {
        let path = entry.expect("an entry").path();
        let name = path.file_name().and_then(|name| name.to_str());
        if name.is_none_or(|name| OTHERS.contains(&name)) {
            continue;
        }
        if path.is_dir() {
            collect(&path, found);
        } else if let Ok(text) = fs::read_to_string(&path) {
            let path = path.strip_prefix(root()).expect("below it").to_owned();
            found.push(Source { path, text });
        }
    }
}
