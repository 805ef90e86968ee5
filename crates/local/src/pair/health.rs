//! The readiness check of a service: one hand-written HTTP request, because this crate needs no more HTTP than that.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// `Ok` when `GET /readyz` answers 200; otherwise the status that it answered, or the reason why it did not.
pub(super) async fn ready(ops_port: u16) -> Result<(), String> {
    match timeout(ANSWER_WITHIN, status(ops_port)).await {
        Ok(Ok(200)) => Ok(()),
        Ok(Ok(status)) => Err(format!("/readyz answers {status}")),
        Ok(Err(error)) => Err(error.to_string()),
        Err(_elapsed) => Err("/readyz does not answer".to_owned()),
    }
}

async fn status(port: u16) -> io::Result<u16> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
    let request = format!("GET /readyz HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut head = [0; "HTTP/1.1 200".len()];
    stream.read_exact(&mut head).await?;
    let status =
        std::str::from_utf8(&head).ok().and_then(|head| head.strip_prefix("HTTP/1.1 ")?.parse().ok());
    status.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "not an HTTP reply"))
}
