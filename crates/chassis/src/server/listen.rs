//! Opening a listening socket, with errors for an operator.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

/// A listening socket and the setting that named its address.
#[derive(Debug)]
pub struct Listener {
    pub(crate) socket: TcpListener,
    address: SocketAddr,
}

impl Listener {
    /// Address of the socket. Port 0 of the setting is replaced by the port that the system chose.
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Error of [`bind`], with the name of the setting.
#[derive(Debug, thiserror::Error)]
#[error("{variable}: cannot listen on {address}: {}", explain(source))]
pub struct BindError {
    variable: &'static str,
    address: SocketAddr,
    source: io::Error,
}

fn explain(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => "another process listens there; stop it or set another port".to_owned(),
        io::ErrorKind::PermissionDenied => {
            "this user may not open this port; any user may open ports from 1024".to_owned()
        }
        io::ErrorKind::AddrNotAvailable => "this machine has no such address".to_owned(),
        _ => error.to_string(),
    }
}

/// Opens the socket for `address`, the value of the setting `variable`.
pub async fn bind(variable: &'static str, address: SocketAddr) -> Result<Listener, BindError> {
    let failed = |source| BindError { variable, address, source };
    let socket = TcpListener::bind(address).await.map_err(failed)?;
    let address = socket.local_addr().map_err(failed)?;
    Ok(Listener { socket, address })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_port_in_use_is_an_error_that_names_the_setting() {
        let first = bind("LISTEN_ADDR", "127.0.0.1:0".parse().unwrap()).await.unwrap();
        let error = bind("LISTEN_ADDR", first.address()).await.unwrap_err().to_string();
        let wanted =
            format!("LISTEN_ADDR: cannot listen on {}: another process listens there", first.address());
        assert!(error.starts_with(&wanted), "{error}");
    }
}
