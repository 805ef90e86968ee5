//! The manifest: one JSON line for each act of the store, chained by hash.
//!
//! A line names the files that it is about with their SHA-256, the hash of the line before it, and its own hash. So
//! one altered byte, in a file or in the manifest, is found and named. A chain cannot show that its newest lines were
//! removed: compare [`Manifest::head`] with a copy kept elsewhere for that.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

pub(crate) const NAME: &str = "manifest.jsonl";

/// Name of the file with all events of a segment.
pub(crate) fn hot_name(segment: u64) -> String {
    format!("{segment:08}.jsonl")
}

/// Name of the file with the sealed events of a segment.
pub(crate) fn sealed_name(segment: u64) -> String {
    format!("{segment:08}.jsonl.gz")
}

/// Hash before the first line.
const ORIGIN: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const OWN_HASH: &str = ",\"sha256\":\"";

/// A file as it was when it was sealed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedFile {
    /// Name of the file in the folder of the store.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Lines in the file.
    pub events: u64,
    pub sha256: String,
}

/// A finished segment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Segment {
    /// Number of the segment, rising.
    pub segment: u64,
    /// Time of the earliest event.
    pub from: String,
    /// Time of the latest event.
    pub until: String,
    /// Bad events, all of which are in both files.
    pub bad: u64,
    /// Lines that are no events.
    pub unreadable: u64,
    /// All events.
    pub hot: SealedFile,
    /// Every bad event, and good ones with their weight.
    pub sealed: SealedFile,
}

/// The tier that a file belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// All events, as JSON lines.
    Hot,
    /// Every bad event and one in N good ones, compressed.
    Sealed,
}

/// Reason why a file was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The file was older than its tier keeps.
    Age,
    /// The budget was used up.
    Budget,
}

/// An act of the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "lowercase")]
pub enum Act {
    /// A segment was finished.
    Sealed(Segment),
    /// A segment's file was removed.
    Expired { segment: u64, tier: Tier, reason: Reason },
}

/// A line of the manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seal {
    /// Number of the seal, rising by one.
    pub seal: u64,
    /// Time of the act.
    pub at: String,
    #[serde(flatten)]
    pub act: Act,
    /// Hash of the line before.
    pub previous: String,
}

/// A line of the manifest that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokenLine {
    /// Number of the line, from 1.
    pub line: usize,
    pub what: String,
}

/// The lines that could be read, and the others.
#[derive(Debug, Default)]
pub struct Manifest {
    pub seals: Vec<Seal>,
    pub broken: Vec<BrokenLine>,
    /// Hash of the last line.
    pub head: String,
    /// Bytes of the file up to the end of its last whole line.
    pub(crate) whole: u64,
}

impl Manifest {
    /// Reads the manifest of a folder. A folder without one has an empty manifest.
    pub fn read(dir: &Path) -> io::Result<Self> {
        let mut manifest = Self { head: ORIGIN.to_owned(), ..Self::default() };
        let bytes = match std::fs::read(dir.join(NAME)) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(manifest),
            Err(error) => return Err(error),
        };
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
        manifest.whole = whole as u64;
        for (number, line) in bytes[..whole].split(|byte| *byte == b'\n').enumerate() {
            if !line.is_empty() {
                manifest.add(number + 1, line);
            }
        }
        Ok(manifest)
    }

    fn add(&mut self, line: usize, bytes: &[u8]) {
        let mut broken = |what: String| self.broken.push(BrokenLine { line, what });
        let parsed = std::str::from_utf8(bytes).ok().and_then(|text| {
            let (body, hash) = text.rsplit_once(OWN_HASH)?;
            let seal = serde_json::from_str::<Seal>(&format!("{body}}}")).ok()?;
            Some((body, hash.strip_suffix("\"}")?, seal))
        });
        let Some((body, hash, seal)) = parsed else {
            return broken("the line is no seal".to_owned());
        };
        // A name that was altered must not lead to a file outside of the store.
        if let Act::Sealed(segment) = &seal.act
            && (segment.hot.file != hot_name(segment.segment)
                || segment.sealed.file != sealed_name(segment.segment))
        {
            self.head = hex_of(bytes);
            return broken(format!("seal {} names a file that is not its segment's", seal.seal));
        }
        let is_whole = hex_of(body.as_bytes()) == hash;
        if !is_whole {
            broken(format!("seal {} was altered", seal.seal));
        }
        // The first line that is left follows lines that were cut off with their segments.
        let follows = match self.seals.last() {
            Some(last) => seal.previous == self.head && seal.seal == last.seal + 1,
            None => true,
        };
        if is_whole && !follows {
            self.broken.push(BrokenLine {
                line,
                what: format!("seal {} does not follow the line before it", seal.seal),
            });
        }
        self.head = hex_of(bytes);
        self.seals.push(seal);
    }

    /// Finished segments with the tiers whose files have not expired.
    pub fn segments(&self) -> Vec<KeptSegment<'_>> {
        let mut kept: Vec<KeptSegment<'_>> = Vec::new();
        for seal in &self.seals {
            match &seal.act {
                Act::Sealed(segment) => {
                    kept.push(KeptSegment { seal: seal.seal, segment, hot: true, sealed: true });
                }
                Act::Expired { segment, tier, .. } => {
                    for one in kept.iter_mut().filter(|one| one.segment.segment == *segment) {
                        match tier {
                            Tier::Hot => one.hot = false,
                            Tier::Sealed => one.sealed = false,
                        }
                    }
                }
            }
        }
        kept.retain(|one| one.hot || one.sealed);
        kept
    }
}

/// A finished segment and the files that it still has.
#[derive(Debug, Clone, Copy)]
pub struct KeptSegment<'a> {
    /// Number of the seal that names the segment.
    pub seal: u64,
    pub segment: &'a Segment,
    /// Whether the file with all events is kept.
    pub hot: bool,
    /// Whether the file with the sealed events is kept.
    pub sealed: bool,
}

/// The end of a manifest that is written to.
#[derive(Debug)]
pub(crate) struct Writer {
    path: PathBuf,
    file: File,
    next: u64,
    head: String,
    /// Bytes of the file.
    pub(crate) bytes: u64,
}

impl Writer {
    /// Continues a manifest. A last line that was not finished is cut off.
    pub(crate) fn continue_(dir: &Path, manifest: &Manifest) -> io::Result<Self> {
        let path = dir.join(NAME);
        let file = OpenOptions::new().append(true).create(true).open(&path)?;
        file.set_len(manifest.whole)?;
        let next = manifest.seals.last().map_or(1, |last| last.seal + 1);
        Ok(Self { path, file, next, head: manifest.head.clone(), bytes: manifest.whole })
    }

    /// Adds a line and waits until the disk has it.
    pub(crate) fn add(&mut self, at: String, act: Act) -> io::Result<Seal> {
        let seal = Seal { seal: self.next, at, act, previous: self.head.clone() };
        let line = line_of(&seal)?;
        let written = self.file.write_all(&line).and_then(|()| self.file.sync_data());
        if let Err(error) = written {
            // Half a line must not stand before the next one.
            self.file.set_len(self.bytes)?;
            return Err(error);
        }
        self.head = hex_of(&line[..line.len() - 1]);
        self.next += 1;
        self.bytes += line.len() as u64;
        Ok(seal)
    }

    /// Replaces the file by one without the lines before the seal `first`, whose segments have all expired.
    pub(crate) fn cut_before(&mut self, first: u64) -> io::Result<()> {
        let text = std::fs::read(&self.path)?;
        let is_before =
            |line: &[u8]| serde_json::from_slice::<Seal>(line).is_ok_and(|seal| seal.seal < first);
        let dropped: usize = text
            .split_inclusive(|byte| *byte == b'\n')
            .take_while(|line| is_before(line))
            .map(<[u8]>::len)
            .sum();
        let replacement = self.path.with_extension("tmp");
        let mut file = File::create(&replacement)?;
        file.write_all(&text[dropped..])?;
        file.sync_all()?;
        std::fs::rename(&replacement, &self.path)?;
        self.file = OpenOptions::new().append(true).open(&self.path)?;
        self.bytes = (text.len() - dropped) as u64;
        Ok(())
    }
}

/// The line of a seal, with its own hash as the last member and a line break.
fn line_of(seal: &Seal) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(seal)?;
    line.pop();
    let hash = hex_of(&line);
    write!(line, "{OWN_HASH}{hash}\"}}")?;
    line.push(b'\n');
    Ok(line)
}

/// SHA-256 in hex.
pub(crate) fn hex_of(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

pub(crate) fn hex(digest: &[u8]) -> String {
    let mut text = String::with_capacity(2 * digest.len());
    for byte in digest {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
