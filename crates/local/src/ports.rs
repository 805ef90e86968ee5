//! Choosing TCP ports on loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use uuid::Uuid;

/// Below the range Linux takes ports for outgoing connections from (32768 to 60999), so that a port found
/// free now is not handed to somebody's client socket before the server that wants it binds it.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// The kernel refuses at once; only a full queue of a listener stays silent.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Whether nobody listens on a port of loopback. Asked by connecting rather than by listening for a moment:
/// a child process forked in that moment would inherit the listener and hold the port until its `exec`.
pub fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, ANSWER_WITHIN)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// A port nobody listens on at this moment. Drawn at random, so that two processes that look at the same
/// time seldom find the same one; whoever binds it should still be ready to ask for another.
pub fn free() -> io::Result<u16> {
    let [port] = distinct()?;
    Ok(port)
}

/// The same, for as many as are needed together: each another.
pub fn distinct<const N: usize>() -> io::Result<[u16; N]> {
    let width = u128::from(RANGE.end - RANGE.start);
    let draw = || RANGE.start + u16::try_from(Uuid::new_v4().as_u128() % width).expect("width is below 2^16");
    choose(std::iter::repeat_with(draw).take(1_000)).ok_or_else(|| {
        io::Error::new(io::ErrorKind::AddrInUse, "too few free ports between 20000 and 31999 on 127.0.0.1")
    })
}

fn choose<const N: usize>(drawn: impl Iterator<Item = u16>) -> Option<[u16; N]> {
    let mut chosen = Vec::with_capacity(N);
    for port in drawn {
        if chosen.len() == N {
            break;
        }
        if !chosen.contains(&port) && is_free(port) {
            chosen.push(port);
        }
    }
    chosen.try_into().ok()
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_port_somebody_listens_on_is_not_free() {
        let port = free().unwrap();
        assert!(is_free(port));
        let _listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        assert!(!is_free(port));
    }

    #[test]
    fn a_port_that_is_drawn_twice_is_given_once() {
        let [one, other] = distinct().unwrap();
        assert_eq!(choose([one, one, other, one].into_iter()), Some([one, other]));
        assert_eq!(choose::<2>([one, one].into_iter()), None);
    }
}
