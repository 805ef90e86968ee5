//! `healthcheck`: requests a service's own `/readyz`, for containers without another HTTP client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::process::ExitCode;
use std::time::Duration;

/// Longest time for each of the three steps: connect, send, receive.
const TIMEOUT: Duration = Duration::from_secs(2);

/// Requests readiness and prints the reply. The exit code is 0 for status 200 only.
pub fn run(operations: SocketAddr) -> ExitCode {
    match ask(reachable(operations)) {
        Ok((200, body)) => {
            println!("{body}");
            ExitCode::SUCCESS
        }
        Ok((status, body)) => {
            eprintln!("{status} {body}");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("{operations}: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The loopback address for a service that listens on every address.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    write!(stream, "GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut reply = Vec::new();
    // A readiness report is a few hundred bytes.
    stream.take(64 * 1024).read_to_end(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply);
    let status = reply.split(' ').nth(1).and_then(|code| code.parse().ok());
    let status = status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "the reply is not HTTP"))?;
    let body = reply.split_once("\r\n\r\n").map_or("", |(_, body)| body);
    Ok((status, body.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_on_every_address_is_asked_on_loopback() {
        assert_eq!(reachable("0.0.0.0:9080".parse().unwrap()), "127.0.0.1:9080".parse().unwrap());
        assert_eq!(reachable("[::]:9080".parse().unwrap()), "[::1]:9080".parse().unwrap());
        assert_eq!(reachable("10.1.2.3:9080".parse().unwrap()), "10.1.2.3:9080".parse().unwrap());
    }
}
