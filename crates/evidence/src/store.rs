//! The folder of one process: the open segment, the finished ones, and the manifest that names them.
//!
//! | file | holds |
//! |---|---|
//! | `00000007.jsonl` | all events of segment 7; the newest one is still written to |
//! | `00000006.jsonl.gz` | every bad event of segment 6, and one in N good ones with their weight |
//! | `manifest.jsonl` | the seals, chained ([`crate::manifest`]) |
//! | `lock` | held by the process that writes |
//!
//! Other files are left alone. Every function takes the time from its caller. A clock that is stepped back ends the
//! open segment and expires nothing.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use time::OffsetDateTime;

use crate::manifest::{Act, Manifest, Reason, Tier, Writer, hot_name, sealed_name};
use crate::options::Options;
use crate::seal::seal;
use crate::stamp::{stamp, time};

/// Longest time between two looks for expired files.
const EXPIRY_INTERVAL: Duration = Duration::from_mins(1);

/// Reason why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process writes to the folder.
    #[error("{0} belongs to another process")]
    InUse(String),
    /// The folder cannot be made, read or written.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
}

/// Repairs of files that an earlier process left behind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Repairs {
    /// Segments that were still open, and were sealed now.
    pub sealed: u64,
    /// Bytes of last lines that were not finished, and were cut off.
    pub cut: u64,
    /// Lines of the manifest that do not hold. They stay as they are; `verify` names them.
    pub broken: u64,
}

/// A store that is written to.
#[derive(Debug)]
pub struct Store {
    options: Options,
    manifest: Writer,
    kept: Vec<Kept>,
    open: Option<Open>,
    /// Finished segments that wait to be sealed, with their sizes.
    unsealed: VecDeque<(u64, u64)>,
    next: u64,
    last_expiry: OffsetDateTime,
    /// Held until the store is dropped.
    _lock: File,
}

/// A finished segment with the sizes of its files; 0 for a file that has expired.
#[derive(Debug)]
struct Kept {
    segment: u64,
    seal: u64,
    from: String,
    until: String,
    hot: u64,
    sealed: u64,
}

/// The segment that events are added to.
#[derive(Debug)]
struct Open {
    segment: u64,
    file: File,
    bytes: u64,
    since: OffsetDateTime,
}

/// Sizes and ages of one tier.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct TierState {
    pub segments: u64,
    pub bytes: u64,
    /// Time of the earliest event.
    pub oldest: Option<String>,
}

/// Sizes and ages of all tiers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Tiers {
    pub hot: TierState,
    pub sealed: TierState,
    pub manifest_bytes: u64,
    pub budget_bytes: u64,
}

/// Numbers of the files that have the name of an open or hot segment, in order.
pub(crate) fn hot_files(dir: &Path) -> io::Result<Vec<u64>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_suffix(".jsonl"));
        if let Some(number) = number.and_then(|digits| digits.parse().ok())
            && name.to_str() == Some(&hot_name(number))
            && entry.file_type()?.is_file()
        {
            found.push(number);
        }
    }
    found.sort_unstable();
    Ok(found)
}

impl Store {
    /// Opens the folder, and repairs what a killed process left behind.
    pub fn open(options: Options, now: OffsetDateTime) -> Result<(Self, Repairs), OpenError> {
        let name = options.dir.display().to_string();
        let lock = lock(&options.dir).map_err(|error| match error {
            TryLockError::WouldBlock => OpenError::InUse(name.clone()),
            TryLockError::Error(error) => OpenError::Io(name.clone(), error),
        })?;
        Self::open_locked(options, lock, now).map_err(|error| OpenError::Io(name, error))
    }

    fn open_locked(options: Options, lock: File, now: OffsetDateTime) -> io::Result<(Self, Repairs)> {
        let manifest = Manifest::read(&options.dir)?;
        let writer = Writer::continue_(&options.dir, &manifest)?;
        let kept = manifest.segments().into_iter().map(|one| Kept {
            segment: one.segment.segment,
            seal: one.seal,
            from: one.segment.from.clone(),
            until: one.segment.until.clone(),
            hot: if one.hot { one.segment.hot.bytes } else { 0 },
            sealed: if one.sealed { one.segment.sealed.bytes } else { 0 },
        });
        let kept: Vec<Kept> = kept.collect();
        let files = hot_files(&options.dir)?;
        let newest_file = files.last().copied().unwrap_or(0);
        let newest = manifest.seals.iter().filter_map(|seal| match &seal.act {
            Act::Sealed(segment) => Some(segment.segment),
            Act::Expired { .. } => None,
        });
        let next = newest.chain([newest_file]).max().unwrap_or(0) + 1;
        let mut repairs = Repairs { broken: manifest.broken.len() as u64, ..Repairs::default() };
        remove_expired(&options.dir, &manifest)?;
        let mut unsealed = VecDeque::new();
        for segment in files.into_iter().filter(|segment| !kept.iter().any(|one| one.segment == *segment)) {
            let path = options.dir.join(hot_name(segment));
            if path.exists() {
                repairs.cut += cut_last_line(&path)?;
                unsealed.push_back((segment, path.metadata()?.len()));
            }
        }
        let mut store = Self {
            options,
            manifest: writer,
            kept,
            open: None,
            unsealed,
            next,
            last_expiry: now,
            _lock: lock,
        };
        repairs.sealed = store.seal_finished(now)?;
        store.expire(now)?;
        Ok((store, repairs))
    }

    /// Adds whole lines. When it fails, none of them was added.
    pub fn append(&mut self, lines: &[u8], now: OffsetDateTime) -> io::Result<()> {
        self.end_if_due(now);
        let open = if let Some(open) = &mut self.open {
            open
        } else {
            let path = self.options.dir.join(hot_name(self.next));
            let file = OpenOptions::new().append(true).create_new(true).open(path)?;
            let segment = self.next;
            self.next += 1;
            self.open.insert(Open { segment, file, bytes: 0, since: now })
        };
        if let Err(error) = open.file.write_all(lines) {
            // Part of a line must not stand before the next one.
            open.file.set_len(open.bytes)?;
            return Err(error);
        }
        open.bytes += lines.len() as u64;
        Ok(())
    }

    /// Ends the open segment if it is large or old enough, seals what is finished, and removes what has expired.
    pub fn tick(&mut self, now: OffsetDateTime) -> io::Result<()> {
        self.end_if_due(now);
        let sealed = self.seal_finished(now)?;
        if sealed > 0 || now - self.last_expiry >= EXPIRY_INTERVAL {
            self.expire(now)?;
        }
        Ok(())
    }

    /// Ends and seals the open segment.
    pub fn finish(&mut self, now: OffsetDateTime) -> io::Result<()> {
        self.end();
        self.seal_finished(now)?;
        self.expire(now)
    }

    fn end_if_due(&mut self, now: OffsetDateTime) {
        let is_due = self.open.as_ref().is_some_and(|open| {
            let age = now - open.since;
            open.bytes >= self.options.segment_limit() || age >= self.options.segment_age || age.is_negative()
        });
        if is_due {
            self.end();
        }
    }

    fn end(&mut self) {
        self.unsealed.extend(self.open.take().map(|open| (open.segment, open.bytes)));
    }

    /// Seals the finished segments, oldest first, and counts them. A segment that fails is tried again.
    fn seal_finished(&mut self, now: OffsetDateTime) -> io::Result<u64> {
        let mut count = 0;
        while let Some((segment, _)) = self.unsealed.front().copied() {
            match self.seal(segment, now) {
                Ok(()) => count += 1,
                // A file that was removed by hand cannot be sealed at the next try either.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    tracing::warn!(segment, %error, "evidence: finished segment not sealed; its file is gone");
                }
                Err(error) => return Err(error),
            }
            self.unsealed.pop_front();
        }
        Ok(count)
    }

    fn seal(&mut self, segment: u64, now: OffsetDateTime) -> io::Result<()> {
        let (hot, sealed) = (hot_name(segment), sealed_name(segment));
        let Some(made) = seal(&self.options.dir, segment, &hot, &sealed, self.options.one_in)? else {
            return std::fs::remove_file(self.options.dir.join(hot));
        };
        let kept = Kept {
            segment,
            seal: 0,
            from: made.from.clone(),
            until: made.until.clone(),
            hot: made.hot.bytes,
            sealed: made.sealed.bytes,
        };
        let seal = self.manifest.add(stamp(now), Act::Sealed(made))?;
        self.kept.push(Kept { seal: seal.seal, ..kept });
        metrics::counter!(crate::names::SEALS).increment(1);
        Ok(())
    }

    /// Removes files by age, then by budget: first all events of the oldest segments while the hot tier has more than
    /// half of the budget, then the oldest sealed segments. The manifest loses the lines of segments that are gone.
    fn expire(&mut self, now: OffsetDateTime) -> io::Result<()> {
        self.last_expiry = now;
        for at in 0..self.kept.len() {
            let age = time(&self.kept[at].until).map(|until| now - until);
            let is_older = |most: Duration| age.is_some_and(|age| age > most);
            if is_older(self.options.hot_age) {
                self.remove(at, Tier::Hot, Reason::Age, now)?;
            }
            if is_older(self.options.sealed_age) {
                self.remove(at, Tier::Sealed, Reason::Age, now)?;
            }
        }
        for at in 0..self.kept.len() {
            if self.hot_bytes() > self.options.budget / 2 {
                self.remove(at, Tier::Hot, Reason::Budget, now)?;
            }
        }
        for at in 0..self.kept.len() {
            let sealed: u64 = self.kept.iter().map(|one| one.sealed).sum();
            if self.hot_bytes() + sealed + self.manifest.bytes > self.options.budget {
                self.remove(at, Tier::Hot, Reason::Budget, now)?;
                self.remove(at, Tier::Sealed, Reason::Budget, now)?;
            }
        }
        let before = self.kept.len();
        self.kept.retain(|one| one.hot + one.sealed > 0);
        if self.kept.len() < before
            && let Some(first) = self.kept.first()
        {
            self.manifest.cut_before(first.seal)?;
        }
        Ok(())
    }

    /// Bytes of the hot tier, the open segment included.
    fn hot_bytes(&self) -> u64 {
        let kept: u64 = self.kept.iter().map(|one| one.hot).sum();
        let unsealed: u64 = self.unsealed.iter().map(|(_, bytes)| bytes).sum();
        kept + unsealed + self.open.as_ref().map_or(0, |open| open.bytes)
    }

    fn remove(&mut self, at: usize, tier: Tier, reason: Reason, now: OffsetDateTime) -> io::Result<()> {
        let Kept { segment, hot, sealed, .. } = self.kept[at];
        let (bytes, name) = match tier {
            Tier::Hot => (hot, hot_name(segment)),
            Tier::Sealed => (sealed, sealed_name(segment)),
        };
        if bytes == 0 {
            return Ok(());
        }
        // The line comes first, because a missing file without a line looks like a loss. If the process is killed before
        // the file is removed, the next start removes it.
        self.manifest.add(stamp(now), Act::Expired { segment, tier, reason })?;
        remove_if_there(&self.options.dir.join(name))?;
        match tier {
            Tier::Hot => self.kept[at].hot = 0,
            Tier::Sealed => self.kept[at].sealed = 0,
        }
        Ok(())
    }

    /// Sizes and ages of the tiers.
    pub fn tiers(&self) -> Tiers {
        let tier = |size: fn(&Kept) -> u64| {
            let of = || self.kept.iter().filter(|one| size(one) > 0);
            TierState {
                segments: of().count() as u64,
                bytes: of().map(size).sum(),
                oldest: of().map(|one| one.from.clone()).min(),
            }
        };
        let mut hot = tier(|one| one.hot);
        if let Some(open) = &self.open {
            hot.segments += 1;
            hot.bytes += open.bytes;
            hot.oldest = hot.oldest.or_else(|| Some(stamp(open.since)));
        }
        Tiers {
            hot,
            sealed: tier(|one| one.sealed),
            manifest_bytes: self.manifest.bytes,
            budget_bytes: self.options.budget,
        }
    }
}

fn lock(dir: &Path) -> Result<File, TryLockError> {
    std::fs::create_dir_all(dir).map_err(TryLockError::Error)?;
    let file =
        OpenOptions::new().create(true).append(true).open(dir.join("lock")).map_err(TryLockError::Error)?;
    file.try_lock()?;
    Ok(file)
}

/// Removes files whose expiry is in the manifest.
fn remove_expired(dir: &Path, manifest: &Manifest) -> io::Result<()> {
    for seal in &manifest.seals {
        let Act::Expired { segment, tier, .. } = seal.act else { continue };
        let name = match tier {
            Tier::Hot => hot_name(segment),
            Tier::Sealed => sealed_name(segment),
        };
        remove_if_there(&dir.join(name))?;
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Cuts off a last line without a line break, and returns its length.
fn cut_last_line(path: &Path) -> io::Result<u64> {
    let mut file = OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let mut end = length;
    let mut block = vec![0; 64 * 1024];
    while end > 0 {
        let begin = end.saturating_sub(block.len() as u64);
        let part = &mut block[..usize::try_from(end - begin).unwrap_or(usize::MAX)];
        file.seek(SeekFrom::Start(begin))?;
        file.read_exact(part)?;
        if let Some(at) = part.iter().rposition(|byte| *byte == b'\n') {
            end = begin + at as u64 + 1;
            break;
        }
        end = begin;
    }
    if end < length {
        file.set_len(end)?;
    }
    Ok(length - end)
}
