//! The inputs that are kept: `fuzz/corpus/TARGET/…`, one a file.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::Target;

/// Where the inputs of all targets lie.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus")
}

/// The inputs of a target, by file name.
///
/// # Errors
/// When its directory cannot be read.
pub fn load(target: &Target) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut inputs = Vec::new();
    for entry in fs::read_dir(root().join(target.name))? {
        let entry = entry?;
        inputs.push((entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path())?));
    }
    inputs.sort();
    Ok(inputs)
}

/// Keeps an input as `kind-HASH`; where.
///
/// # Errors
/// When it cannot be written.
pub fn keep(target: &Target, kind: &str, input: &[u8]) -> io::Result<PathBuf> {
    let dir = root().join(target.name);
    fs::create_dir_all(&dir)?;
    let path = dir.join(format!("{kind}-{:012x}", crate::mutate::Rng::of(input).number()));
    fs::write(&path, input)?;
    Ok(path)
}
