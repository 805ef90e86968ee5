//! The lines of a file, one at a time and each within a bound, so that an endless line takes no memory.

use std::io::{self, BufRead, Read};

/// The longest line that is read, in bytes: about a thousand times a usual row.
pub(super) const LONGEST: usize = 64 * 1024;

/// A line without its line end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Line<'a> {
    /// The line number, from 1.
    pub(super) number: u64,
    pub(super) text: &'a [u8],
    /// True if the line is longer than [`LONGEST`]; `text` is then its beginning.
    pub(super) is_too_long: bool,
    /// True if the file ends without a line end after this line.
    pub(super) is_open: bool,
}

/// A reader of lines. LF and CR LF end a line.
#[derive(Debug)]
pub(super) struct Lines<R> {
    source: R,
    buffer: Vec<u8>,
    number: u64,
}

impl<R: BufRead> Lines<R> {
    pub(super) fn of(source: R) -> Self {
        Self { source, buffer: Vec::new(), number: 0 }
    }

    /// The number of lines read so far.
    pub(super) fn count(&self) -> u64 {
        self.number
    }

    pub(super) fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.buffer.clear();
        let most = LONGEST as u64 + 2;
        if self.source.by_ref().take(most).read_until(b'\n', &mut self.buffer)? == 0 {
            return Ok(None);
        }
        self.number += 1;
        let is_ended = self.buffer.ends_with(b"\n");
        // A text that fills the bound and has no line end continues, unless the file ends there.
        let is_cut = !is_ended && self.buffer.len() as u64 == most;
        let is_open = if is_cut { !self.skip_line()? } else { !is_ended };
        let text = self.buffer.strip_suffix(b"\n").unwrap_or(&self.buffer);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let is_too_long = is_cut || text.len() > LONGEST;
        let text = &text[..text.len().min(LONGEST)];
        Ok(Some(Line { number: self.number, text, is_too_long, is_open }))
    }

    /// Skips the rest of the line. `false` when the file ends first.
    fn skip_line(&mut self) -> io::Result<bool> {
        loop {
            let ready = self.source.fill_buf()?;
            if ready.is_empty() {
                return Ok(false);
            }
            let end = ready.iter().position(|byte| *byte == b'\n');
            let used = end.map_or(ready.len(), |end| end + 1);
            self.source.consume(used);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(text: &[u8]) -> Vec<(u64, Vec<u8>, bool, bool)> {
        let mut lines = Lines::of(text);
        let mut all = Vec::new();
        while let Some(line) = lines.next().unwrap() {
            all.push((line.number, line.text.to_vec(), line.is_too_long, line.is_open));
        }
        assert_eq!(lines.count(), all.len() as u64);
        all
    }

    #[test]
    fn lines_are_numbered_from_one_for_both_line_ends() {
        let expected = vec![
            (1, b"a".to_vec(), false, false),
            (2, b"".to_vec(), false, false),
            (3, b"b".to_vec(), false, true),
        ];
        assert_eq!(all(b"a\n\nb"), expected);
        assert_eq!(all(b"a\r\n\r\nb"), expected);
        assert_eq!(all(b""), []);
    }

    #[test]
    fn a_line_over_the_bound_is_cut_and_the_next_line_is_read() {
        let mut text = vec![b'x'; 3 * LONGEST];
        text.extend_from_slice(b"\nb\n");
        let lines = all(&text);
        assert_eq!((lines[0].0, lines[0].1.len(), lines[0].2, lines[0].3), (1, LONGEST, true, false));
        assert_eq!(lines[1], (2, b"b".to_vec(), false, false));
        let whole = all(&[vec![b'x'; LONGEST], b"\r\n".to_vec()].concat());
        assert_eq!((whole[0].1.len(), whole[0].2), (LONGEST, false));
    }
}
