//! Sealing: from a finished segment to a compressed one with every bad event and one in N good ones.
//!
//! Good events are counted apart for each route and status. The last of each N is kept with weight N, and the last of
//! all with the weight of the rest. So the weights of a route and status add up to exactly its number of events.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::Path;

use flate2::{Compression, GzBuilder};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::Verdict;
use crate::manifest::{SealedFile, Segment, hex};

/// Longest line that is read. A line of 32 fields and 64 decisions is far below it; a foreign file may not be.
pub(crate) const LONGEST_LINE: usize = 1024 * 1024;

/// The members of an event that sealing needs.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    verdict: Verdict,
    #[serde(borrow, rename = "http.route", default)]
    route: Cow<'a, str>,
    #[serde(rename = "http.response.status_code", default)]
    status: u16,
    #[serde(borrow, default)]
    step: Cow<'a, str>,
}

/// Good events of one kind that no kept event stands for yet.
#[derive(Default)]
struct Waiting {
    count: u64,
    latest: Vec<u8>,
}

/// Seals `hot` into `sealed`; the file's name is `segment`'s. `None` when the segment has no line.
pub(crate) fn seal(
    dir: &Path,
    segment: u64,
    hot: &str,
    sealed: &str,
    one_in: u64,
) -> io::Result<Option<Segment>> {
    let mut input = BufReader::with_capacity(64 * 1024, Hashing::new(File::open(dir.join(hot))?));
    let temporary = dir.join(format!("{sealed}.tmp"));
    let output = Hashing::new(File::create(&temporary)?);
    let mut kept = Kept { output: GzBuilder::new().write(output, Compression::fast()), events: 0 };
    let mut groups: HashMap<(String, u16), Waiting> = HashMap::new();
    let (mut from, mut until) = (String::new(), String::new());
    let (mut events, mut bad, mut unreadable) = (0, 0, 0);

    let mut line = Vec::new();
    while read_line(&mut input, &mut line)? {
        let Ok(head) = serde_json::from_slice::<Head<'_>>(&line) else {
            unreadable += 1;
            continue;
        };
        events += 1;
        if from.is_empty() || *head.timestamp < *from {
            from = head.timestamp.clone().into_owned();
        }
        if *head.timestamp > *until {
            until = head.timestamp.clone().into_owned();
        }
        if head.verdict == Verdict::Bad {
            bad += 1;
            kept.write(&line, 1)?;
            continue;
        }
        let group = (if head.route.is_empty() { head.step } else { head.route }.into_owned(), head.status);
        let waiting = groups.entry(group).or_default();
        waiting.count += 1;
        if waiting.count == one_in {
            waiting.count = 0;
            kept.write(&line, one_in)?;
        } else {
            waiting.latest.clone_from(&line);
        }
    }
    for waiting in groups.into_values().filter(|waiting| waiting.count > 0) {
        kept.write(&waiting.latest, waiting.count)?;
    }
    let output = kept.output.finish()?;
    output.inner.sync_all()?;
    let input = input.into_inner();
    if events + unreadable == 0 {
        std::fs::remove_file(&temporary)?;
        return Ok(None);
    }
    std::fs::rename(&temporary, dir.join(sealed))?;
    Ok(Some(Segment {
        segment,
        from,
        until,
        bad,
        unreadable,
        sealed: output.file(sealed, kept.events),
        hot: input.file(hot, events),
    }))
}

/// The compressed file with a count of its lines.
struct Kept {
    output: flate2::write::GzEncoder<Hashing<File>>,
    events: u64,
}

impl Kept {
    fn write(&mut self, line: &[u8], weight: u64) -> io::Result<()> {
        self.events += 1;
        if weight == 1 {
            self.output.write_all(line)?;
        } else {
            // The first byte of a readable line is `{`.
            write!(self.output, "{{\"weight\":{weight},")?;
            self.output.write_all(&line[1..])?;
        }
        self.output.write_all(b"\n")
    }
}

/// Reads the next line without its line break. The end of a line beyond [`LONGEST_LINE`] is read and dropped, and the
/// line is then no JSON. False at the end, and at a last line that is not finished.
pub(crate) fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<bool> {
    line.clear();
    loop {
        let found = input.fill_buf()?;
        if found.is_empty() {
            return Ok(false);
        }
        let end = found.iter().position(|byte| *byte == b'\n');
        let part = &found[..end.unwrap_or(found.len())];
        if line.len() < LONGEST_LINE {
            line.extend_from_slice(part);
        }
        let used = part.len() + usize::from(end.is_some());
        input.consume(used);
        if end.is_some() {
            return Ok(true);
        }
    }
}

/// SHA-256 and size of all bytes that pass.
#[derive(Debug)]
pub(crate) struct Hashing<T> {
    inner: T,
    digest: Sha256,
    bytes: u64,
}

impl<T> Hashing<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner, digest: Sha256::new(), bytes: 0 }
    }

    fn pass(&mut self, bytes: &[u8]) {
        self.digest.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    pub(crate) fn file(self, name: &str, events: u64) -> SealedFile {
        SealedFile { file: name.to_owned(), bytes: self.bytes, events, sha256: hex(&self.digest.finalize()) }
    }
}

impl<T: Read> Read for Hashing<T> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        self.pass(&buffer[..read]);
        Ok(read)
    }
}

impl<T: Write> Write for Hashing<T> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.pass(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}
