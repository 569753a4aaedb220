//! The directory of the development CA: one writer at a time, keys for the owner only, no file
//! ever half written.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use super::mint::{Authority, Leaf};

/// Owner only.
const PRIVATE: u32 = 0o600;
/// Everybody may read a certificate (the directory decides who gets that far).
const PUBLIC: u32 = 0o644;

/// How to mend what fails here.
const ELSEWHERE: &str = "make it this user's, or set GWPROXY_DATA_DIR to a directory that is";

/// The directory.
#[derive(Debug)]
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    /// Names it; nothing is touched.
    pub(super) fn at(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// Makes the directory and waits until no other process writes to it. The lock ends when the
    /// file is dropped.
    pub(super) fn prepare(&self) -> Result<File, String> {
        let dir = self.dir.display();
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.dir)
            .and_then(|()| std::fs::set_permissions(&self.dir, Permissions::from_mode(0o700)))
            .map_err(|error| format!("cannot make the directory `{dir}`: {error}; {ELSEWHERE}"))?;
        let path = self.dir.join(".lock");
        let lock = OpenOptions::new().create(true).append(true).mode(PRIVATE).open(&path);
        lock.and_then(|lock| lock.lock().map(|()| lock))
            .map_err(|error| format!("cannot lock `{}`: {error}; {ELSEWHERE}", path.display()))
    }

    pub(super) fn ca(&self) -> PathBuf {
        self.dir.join("ca.pem")
    }

    fn ca_key(&self) -> PathBuf {
        self.dir.join("ca-key.pem")
    }

    pub(super) fn cert(&self) -> PathBuf {
        self.dir.join("localhost.pem")
    }

    pub(super) fn key(&self) -> PathBuf {
        self.dir.join("localhost-key.pem")
    }

    /// The authority; none if there is none in working order.
    pub(super) fn authority(&self) -> Result<Option<Authority>, String> {
        let (Some(cert), Some(key)) = (read(&self.ca())?, read(&self.ca_key())?) else {
            return Ok(None);
        };
        // Files that a crash or an editor damaged are made anew like files that are missing.
        Ok(Authority::read(cert, key).ok())
    }

    /// The server's certificate; none if there is none in working order.
    pub(super) fn leaf(&self) -> Result<Option<Leaf>, String> {
        let (Some(cert), Some(key)) = (read(&self.cert())?, read(&self.key())?) else {
            return Ok(None);
        };
        Ok(Leaf::read(cert, key).ok())
    }

    /// Writes the authority.
    pub(super) fn keep_authority(&self, ca: &Authority) -> Result<(), String> {
        write(&self.ca_key(), &ca.key_pem, PRIVATE)?;
        write(&self.ca(), &ca.cert_pem, PUBLIC)
    }

    /// Writes the server's certificate.
    pub(super) fn keep_leaf(&self, leaf: &Leaf) -> Result<(), String> {
        write(&self.key(), &leaf.key_pem, PRIVATE)?;
        write(&self.cert(), &leaf.cert_pem, PUBLIC)
    }
}

fn read(path: &Path) -> Result<Option<String>, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Some(String::new())),
        Err(error) => Err(format!("cannot read `{}`: {error}; {ELSEWHERE}", path.display())),
    }
}

/// Writes a file whole or not at all; it has its mode from the start.
fn write(path: &Path, content: &str, mode: u32) -> Result<(), String> {
    let new = path.with_extension("new");
    let result = match std::fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // Left over from a crash, or not there: the lock says that nobody else is writing it.
        _ => OpenOptions::new().write(true).create_new(true).mode(mode).open(&new),
    };
    result
        .and_then(|mut file| {
            file.write_all(content.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| std::fs::rename(&new, path))
        .map_err(|error| format!("cannot write `{}`: {error}; {ELSEWHERE}", path.display()))
}
