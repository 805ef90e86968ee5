//! Reading the lines of all segments, oldest first, beside the process that writes them.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::ops::ControlFlow;
use std::path::Path;

use flate2::read::MultiGzDecoder;

use crate::manifest::{Manifest, hot_name};
use crate::seal::read_line;
use crate::store::hot_files;

/// Passes each line of the segments that may have events from `from` to `until` to `each`. A file that expires during
/// the read is replaced by its sealed one, or left out. A file that cannot be decompressed to its end is left at the
/// damage; the number of such files is returned.
pub(super) fn lines(
    dir: &Path,
    (from, until): (&str, &str),
    each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<u64> {
    // The folder is listed before the manifest is read: a segment that is sealed in between is in both.
    let files = hot_files(dir)?;
    let manifest = Manifest::read(dir)?;
    let mut damaged = 0;
    let mut of_file = |name: &str, is_compressed: bool| -> io::Result<Option<ControlFlow<()>>> {
        let file = match File::open(dir.join(name)) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let inner: Box<dyn Read> =
            if is_compressed { Box::new(MultiGzDecoder::new(file)) } else { Box::new(file) };
        match each_line(&mut BufReader::with_capacity(256 * 1024, inner), each) {
            Ok(flow) => Ok(Some(flow)),
            Err(error) if is_compressed && error.kind() != io::ErrorKind::Interrupted => {
                tracing::warn!(file = name, %error, "evidence: sealed segment cannot be read to its end");
                damaged += 1;
                Ok(Some(ControlFlow::Continue(())))
            }
            Err(error) => Err(error),
        }
    };
    let kept = manifest.segments();
    for one in &kept {
        if *one.segment.from > *until || *one.segment.until < *from {
            continue;
        }
        let mut flow = if one.hot { of_file(&one.segment.hot.file, false)? } else { None };
        if flow.is_none() && one.sealed {
            flow = of_file(&one.segment.sealed.file, true)?;
        }
        if flow.is_some_and(|flow| flow.is_break()) {
            return Ok(damaged);
        }
    }
    for segment in files.into_iter().filter(|file| !kept.iter().any(|one| one.segment.segment == *file)) {
        if of_file(&hot_name(segment), false)?.is_some_and(|flow| flow.is_break()) {
            break;
        }
    }
    Ok(damaged)
}

fn each_line(
    input: &mut impl BufRead,
    each: &mut dyn FnMut(&[u8]) -> ControlFlow<()>,
) -> io::Result<ControlFlow<()>> {
    let mut line = Vec::new();
    while read_line(input, &mut line)? {
        if each(&line).is_break() {
            return Ok(ControlFlow::Break(()));
        }
    }
    Ok(ControlFlow::Continue(()))
}
