//! HTTP/1.1 messages as bytes, parsed only as far as needed to find their end.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Largest message in bytes. No test sends a larger one.
const MAX: usize = 16 << 20;

/// A complete request or reply, byte for byte.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    bytes: Vec<u8>,
    head: usize,
}

impl Message {
    /// Head and body.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The body as received, including chunk headers.
    pub fn body(&self) -> &[u8] {
        &self.bytes[self.head..]
    }

    /// The first two words of the first line: `POST /v1/orders` or `HTTP/1.1 201`.
    pub fn subject(&self) -> String {
        let line = self.line(0);
        line.split(' ').take(2).collect::<Vec<_>>().join(" ")
    }

    /// Status of a reply.
    pub fn status(&self) -> Option<u16> {
        self.line(0).split(' ').nth(1)?.parse().ok()
    }

    /// Value of a header.
    pub fn header(&self, name: &str) -> Option<String> {
        header(&self.bytes[..self.head], name)
    }

    fn line(&self, index: usize) -> String {
        let head = String::from_utf8_lossy(&self.bytes[..self.head]).into_owned();
        head.split("\r\n").nth(index).unwrap_or_default().to_owned()
    }

    /// True if the sender closes the connection after this message.
    pub(super) fn is_last(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

fn header(head: &[u8], name: &str) -> Option<String> {
    let head = String::from_utf8_lossy(head);
    head.split("\r\n").skip(1).find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// Kind of message. A request without a length has no body; a reply without a length ends with its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Request,
    Reply,
}

/// Bytes read from a connection that do not form a complete message yet.
#[derive(Debug, Default)]
pub(super) struct Inbox(Vec<u8>);

impl Inbox {
    /// Reads more bytes. Returns false if the other side has closed the connection.
    pub(super) async fn fill(&mut self, from: &mut (impl AsyncRead + Unpin)) -> io::Result<bool> {
        if self.0.len() > MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a message is larger than 16 MiB"));
        }
        Ok(from.read_buf(&mut self.0).await? > 0)
    }

    /// The next complete message, or `None` if the other side closed the connection between two messages.
    pub(super) async fn next(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        kind: Kind,
    ) -> io::Result<Option<Message>> {
        loop {
            if let Some(message) = self.cut(kind, false) {
                return Ok(Some(message));
            }
            if !self.fill(from).await? {
                let rest = self.cut(kind, true);
                return if rest.is_some() || self.0.is_empty() {
                    Ok(rest)
                } else {
                    Err(io::ErrorKind::UnexpectedEof.into())
                };
            }
        }
    }

    /// Removes and returns the complete message at the front, if there is one. `ended` is true if no more bytes will
    /// come.
    fn cut(&mut self, kind: Kind, ended: bool) -> Option<Message> {
        let head = find(&self.0, b"\r\n\r\n")? + 4;
        let (start, body) = (&self.0[..head], &self.0[head..]);
        let chunked = header(start, "transfer-encoding").is_some_and(|coding| coding.ends_with("chunked"));
        let length = header(start, "content-length").and_then(|length| length.parse::<usize>().ok());
        let size = if chunked {
            chunks(body)?
        } else if let Some(length) = length {
            length
        } else if kind == Kind::Request || start.starts_with(b"HTTP/1.1 204") {
            0
        } else if ended {
            body.len()
        } else {
            return None;
        };
        if body.len() < size {
            return None;
        }
        let rest = self.0.split_off(head + size);
        Some(Message { bytes: std::mem::replace(&mut self.0, rest), head })
    }
}

/// The length of the complete chunked body at the front of `body`. Trailers are not supported, because no service or
/// test sends any.
fn chunks(body: &[u8]) -> Option<usize> {
    let mut at = 0;
    loop {
        let line = find(&body[at..], b"\r\n")?;
        let size = std::str::from_utf8(&body[at..at + line]).ok()?;
        let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
        at += line + 2 + size + 2;
        if at > body.len() {
            return None;
        }
        if size == 0 {
            return Some(at);
        }
    }
}

pub(super) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(kind: Kind, wire: &[u8]) -> (Vec<Message>, bool) {
        let (mut inbox, mut from, mut found) = (Inbox::default(), wire, Vec::new());
        loop {
            match inbox.next(&mut from, kind).await {
                Ok(Some(message)) => found.push(message),
                Ok(None) => return (found, true),
                Err(_) => return (found, false),
            }
        }
    }

    #[tokio::test]
    async fn a_message_ends_where_its_head_says() {
        let two = b"POST /a HTTP/1.1\r\nContent-Length: 2\r\n\r\nhiGET /b HTTP/1.1\r\n\r\n";
        let (found, whole) = read(Kind::Request, two).await;
        assert!(whole);
        assert_eq!(found.iter().map(Message::subject).collect::<Vec<_>>(), ["POST /a", "GET /b"]);
        assert_eq!(found[0].body(), b"hi");

        let chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
        let (found, whole) = read(Kind::Reply, chunked).await;
        assert!(whole);
        assert_eq!(found.iter().filter_map(Message::status).collect::<Vec<_>>(), [200, 204]);

        let (found, whole) = read(Kind::Reply, b"HTTP/1.1 200 OK\r\n\r\nuntil the end").await;
        assert!(whole);
        assert_eq!(found[0].body(), b"until the end");
    }

    #[tokio::test]
    async fn an_incomplete_message_is_an_error() {
        let (found, whole) = read(Kind::Request, b"POST /a HTTP/1.1\r\nContent-Length: 3\r\n\r\nhi").await;
        assert!(found.is_empty() && !whole);
    }
}
