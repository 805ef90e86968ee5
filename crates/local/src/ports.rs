//! Free TCP ports on loopback.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use uuid::Uuid;

/// The range of drawn ports. It is below the range that Linux uses for outgoing connections (32768 to 60999), so that
/// a free port is not given to another process's client socket before the server binds it.
const RANGE: std::ops::Range<u16> = 20_000..32_000;

/// The wait for an answer. The kernel refuses a free port at once; only a listener with a full queue stays silent.
const ANSWER_WITHIN: Duration = Duration::from_millis(500);

/// Returns whether no process listens on a port of loopback. The check connects instead of listening for a moment: a
/// child process forked in that moment would inherit the listener and hold the port until its `exec`.
pub fn is_free(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&address, ANSWER_WITHIN)
        .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Draws a port on which no process listens at this moment. The draw is random, so that two processes that draw at
/// the same time seldom get the same port. The caller should be ready to draw another one when its bind fails.
pub fn free() -> io::Result<u16> {
    let [port] = distinct()?;
    Ok(port)
}

/// Draws `N` different free ports.
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
    fn a_port_with_a_listener_is_not_free() {
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
