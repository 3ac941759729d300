//! Connects to copies of services. A service that listens on `localhost` may have either loopback address, so the other one is tried
//! when the first is refused.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::net::TcpStream;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Connects to a copy for a request.
pub(crate) async fn connect_in_time(authority: &str) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect(authority)).await;
    connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

/// Connects to a copy, `HOST:PORT`.
pub(crate) async fn connect(authority: &str) -> io::Result<TcpStream> {
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let (host, port) = authority.rsplit_once(':').ok_or_else(invalid)?;
    let port = port.parse().map_err(|_| invalid())?;
    let host = host.trim_matches(['[', ']']);
    let v4 = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let v6 = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
    match host.parse::<IpAddr>() {
        Ok(IpAddr::V4(Ipv4Addr::LOCALHOST)) => TcpStream::connect(&[v4, v6][..]).await,
        Ok(IpAddr::V6(Ipv6Addr::LOCALHOST)) => TcpStream::connect(&[v6, v4][..]).await,
        Ok(address) => TcpStream::connect((address, port)).await,
        Err(_) if host == "localhost" => TcpStream::connect(&[v4, v6][..]).await,
        Err(_) => TcpStream::connect((host, port)).await,
    }
}
