//! Verification: every line of the manifest, and every file that it names.

use std::fs::File;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::manifest::{Manifest, SealedFile};
use crate::seal::Hashing;

/// Result of a verification.
#[derive(Debug, Default, Serialize)]
pub struct Verified {
    /// Lines of the manifest.
    pub seals: u64,
    /// Files whose hash was computed.
    pub files: u64,
    /// Hash of the manifest's last line. It stands for the whole chain.
    pub head: String,
    pub faults: Vec<Fault>,
}

/// A file that is not as it was sealed.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// Name of the file in the folder of the store.
    pub file: String,
    /// Number of the seal that names the file; `None` for a line of the manifest.
    pub seal: Option<u64>,
    pub what: String,
}

/// Verifies the chain, and the hash of each file that has not expired.
pub fn verify(dir: &Path) -> io::Result<Verified> {
    let manifest = Manifest::read(dir)?;
    let mut verified = Verified {
        seals: manifest.seals.len() as u64,
        head: manifest.head.clone(),
        faults: manifest
            .broken
            .iter()
            .map(|broken| Fault {
                file: crate::manifest::NAME.to_owned(),
                seal: None,
                what: format!("line {}: {}", broken.line, broken.what),
            })
            .collect(),
        ..Verified::default()
    };
    for kept in manifest.segments() {
        let hot = kept.hot.then_some(&kept.segment.hot);
        let sealed = kept.sealed.then_some(&kept.segment.sealed);
        for file in hot.into_iter().chain(sealed) {
            verified.files += 1;
            if let Some(what) = difference(dir, file)? {
                verified.faults.push(Fault { file: file.file.clone(), seal: Some(kept.seal), what });
            }
        }
    }
    Ok(verified)
}

/// The difference between a file and its seal; `None` when there is none.
fn difference(dir: &Path, sealed: &SealedFile) -> io::Result<Option<String>> {
    let file = match File::open(dir.join(&sealed.file)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Ok(Some("the file is missing".to_owned()));
        }
        Err(error) => return Err(error),
    };
    let mut hashing = Hashing::new(file);
    io::copy(&mut hashing, &mut io::sink())?;
    let found = hashing.file(&sealed.file, sealed.events);
    Ok((found != *sealed).then(|| {
        if found.bytes == sealed.bytes {
            "the content was altered".to_owned()
        } else {
            format!("the file has {} bytes instead of {}", found.bytes, sealed.bytes)
        }
    }))
}
