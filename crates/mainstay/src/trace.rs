//! W3C trace context: the trace of a request, and the span that sent it.

use http::{HeaderMap, HeaderValue};

use crate::headers::{TRACEPARENT, TRACESTATE};

/// A parsed `traceparent` with its `tracestate`, if any.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TraceContext {
    /// 16 bytes, never all zero.
    pub trace_id: [u8; 16],
    /// The span that is current here, 8 bytes, never all zero.
    pub span_id: [u8; 8],
    /// The parent span, if [`TraceContext::child`] made this one.
    pub parent_id: Option<[u8; 8]>,
    /// Bit 0 is `sampled`.
    pub flags: u8,
    /// Vendor state, passed on without being read; at most 512 bytes, the length that the standard asks hops to
    /// carry.
    pub state: Option<HeaderValue>,
}

impl TraceContext {
    /// A new root, sampled. Its id begins with the time, as the standard allows, so that an index by trace ids grows
    /// at one end. The rightmost 10 bytes are random, three more than the standard asks samplers to rely on.
    pub fn root() -> Self {
        Self { trace_id: fresh_trace_id(), span_id: fresh_span_id(), parent_id: None, flags: 1, state: None }
    }

    /// A child: the same trace with a new span id, whose parent is this span.
    #[must_use]
    pub fn child(&self) -> Self {
        let mut child = self.clone();
        child.descend();
        child
    }

    /// Replaces this span with its [`TraceContext::child`].
    pub(crate) fn descend(&mut self) {
        self.parent_id = Some(self.span_id);
        self.span_id = fresh_span_id();
    }

    /// Reads `traceparent` (version 00, or the common prefix of a later version) and `tracestate`. `None` when it is
    /// absent or malformed: as the standard says, a bad trace context starts a new trace.
    pub fn from_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(TRACEPARENT).iter();
        let (value, None) = (values.next()?, values.next()) else { return None };
        let mut context = Self::parse(value.as_bytes())?;
        context.state = headers.get(TRACESTATE).filter(|s| s.len() <= 512).cloned();
        Some(context)
    }

    fn parse(text: &[u8]) -> Option<Self> {
        if text.len() < 55 || text[2] != b'-' || text[35] != b'-' || text[52] != b'-' {
            return None;
        }
        let [version] = hex::<1>(&text[..2])?;
        let more = text.len() > 55;
        if version == 0xff || (version == 0 && more) || (more && text[55] != b'-') {
            return None;
        }
        let (trace_id, span_id) = (hex::<16>(&text[3..35])?, hex::<8>(&text[36..52])?);
        let [flags] = hex::<1>(&text[53..55])?;
        if trace_id == [0; 16] || span_id == [0; 8] {
            return None;
        }
        Some(Self { trace_id, span_id, parent_id: None, flags, state: None })
    }

    /// The trace id as 32 lower-case hex digits.
    pub fn trace_id_hex(&self) -> String {
        to_hex(&self.trace_id)
    }

    /// The span id as 16 lower-case hex digits.
    pub fn span_id_hex(&self) -> String {
        to_hex(&self.span_id)
    }

    /// The parent's span id as 16 lower-case hex digits, if there is a parent.
    pub fn parent_id_hex(&self) -> Option<String> {
        self.parent_id.as_ref().map(to_hex)
    }

    /// The value of the outgoing `traceparent`.
    pub fn to_header_value(&self) -> HeaderValue {
        let mut text = *b"00-................................-................-..";
        write_hex(&self.trace_id, &mut text[3..35]);
        write_hex(&self.span_id, &mut text[36..52]);
        write_hex(&[self.flags], &mut text[53..55]);
        HeaderValue::from_bytes(&text).expect("hex and dashes are header-safe")
    }

    /// Writes `traceparent` and `tracestate`, and replaces earlier values.
    pub fn write_to(&self, headers: &mut HeaderMap) {
        headers.insert(TRACEPARENT, self.to_header_value());
        match &self.state {
            Some(state) => headers.insert(TRACESTATE, state.clone()),
            None => headers.remove(TRACESTATE),
        };
    }
}

/// 48 bits of Unix time in milliseconds, as a UUIDv7 begins, then 80 random bits. It has not been all zero since
/// 1970.
fn fresh_trace_id() -> [u8; 16] {
    let random = crate::random::Random::shared();
    let mut id = *uuid::Uuid::now_v7().as_bytes();
    id[6..8].copy_from_slice(&random.next_u64().to_ne_bytes()[..2]);
    id[8..].copy_from_slice(&random.next_u64().to_ne_bytes());
    id
}

/// A random span id. It must differ from the others of its trace and need not be hard to guess, so it needs no system
/// call.
fn fresh_span_id() -> [u8; 8] {
    let random = crate::random::Random::shared();
    loop {
        let id = random.next_u64().to_ne_bytes();
        if id != [0; 8] {
            return id;
        }
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// The two digits of every byte: one look-up for each byte instead of two.
static PAIRS: [[u8; 2]; 256] = {
    let mut pairs = [[0; 2]; 256];
    let mut byte = 0;
    while byte < 256 {
        pairs[byte] = [DIGITS[byte >> 4], DIGITS[byte & 15]];
        byte += 1;
    }
    pairs
};

fn write_hex<const N: usize>(bytes: &[u8; N], out: &mut [u8]) {
    for (byte, pair) in bytes.iter().zip(out.chunks_exact_mut(2)) {
        pair.copy_from_slice(&PAIRS[usize::from(*byte)]);
    }
}

fn to_hex<const N: usize>(bytes: &[u8; N]) -> String {
    let mut text = vec![0; 2 * N];
    write_hex(bytes, &mut text);
    String::from_utf8(text).expect("hex digits are ASCII")
}

/// Parses hex digits, lower-case only, as the standard requires.
fn hex<const N: usize>(text: &[u8]) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_trace_context_is_written_as_it_was_read() {
        let mut headers = HeaderMap::new();
        headers.insert(TRACEPARENT, HeaderValue::from_static(GOOD));
        headers.insert(TRACESTATE, HeaderValue::from_static("vendor=1"));
        let context = TraceContext::from_headers(&headers).unwrap();
        let mut out = HeaderMap::new();
        context.write_to(&mut out);
        assert_eq!(out, headers);
        let child = context.child();
        assert_eq!(child.trace_id, context.trace_id);
        assert_ne!(child.span_id, context.span_id);
        assert_eq!(child.parent_id_hex(), Some(context.span_id_hex()));
    }

    #[test]
    fn new_traces_have_different_ids_in_the_order_of_their_time() {
        let millis = || uuid::Uuid::now_v7().as_u128() >> 80;
        let before = millis();
        let roots: Vec<_> = (0..100).map(|_| TraceContext::root()).collect();
        let after = millis();
        for root in &roots {
            let time = u128::from_be_bytes(root.trace_id) >> 80;
            assert!((before..=after).contains(&time), "{}", root.trace_id_hex());
            assert_eq!(
                u128::from_str_radix(&root.trace_id_hex(), 16),
                Ok(u128::from_be_bytes(root.trace_id))
            );
        }
        let random: std::collections::HashSet<_> = roots.iter().map(|root| &root.trace_id[9..]).collect();
        assert_eq!(random.len(), roots.len(), "the rightmost seven bytes alone are unique");
    }

    #[test]
    fn malformed_parents_count_as_absent() {
        let long = format!("{GOOD}-extra");
        let bad = [
            "",
            "00",
            &GOOD.to_uppercase(),
            &GOOD.replace("4bf92f3577b34da6a3ce929d0e0e4736", &"0".repeat(32)),
            &GOOD.replace("00f067aa0ba902b7", &"0".repeat(16)),
            &GOOD.replacen("00-", "ff-", 1),
            &long,
        ];
        for text in bad {
            assert_eq!(TraceContext::parse(text.as_bytes()), None, "{text}");
        }
        assert!(TraceContext::parse(long.replacen("00-", "01-", 1).as_bytes()).is_some());
    }
}
