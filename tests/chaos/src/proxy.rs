//! The network between one node and one server: bytes pass, or stand still, or the connections are cut and new ones refused.

use std::net::{Ipv4Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the network does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// Bytes pass.
    Fair,
    /// Nothing passes, not even the end of a connection; nobody is told.
    Frozen,
    /// Connections are closed, and new ones closed at once.
    Cut,
}

/// A network of one node and one server.
pub struct Proxy {
    /// Where the node connects.
    pub address: SocketAddr,
    weather: watch::Sender<Weather>,
}

impl Proxy {
    /// A fair network towards `target`.
    pub async fn start(target: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (weather, seen) = watch::channel(Weather::Fair);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *seen.borrow() != Weather::Cut {
                    tokio::spawn(carry(client, target, seen.clone()));
                }
            }
        });
        Ok(Self { address, weather })
    }

    /// Changes the weather.
    pub fn set(&self, weather: Weather) {
        self.weather.send_replace(weather);
    }
}

async fn carry(client: TcpStream, target: SocketAddr, mut weather: watch::Receiver<Weather>) {
    thawed(&mut weather.clone()).await;
    let Ok(server) = TcpStream::connect(target).await else { return };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let (there, back) = (weather.clone(), weather.clone());
    tokio::select! {
        () = pump(from_client, to_server, there) => {}
        () = pump(from_server, to_client, back) => {}
        _ = weather.wait_for(|weather| *weather == Weather::Cut) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut weather: watch::Receiver<Weather>,
) {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await;
        // What was read, also an end, passes when the frost is over.
        thawed(&mut weather).await;
        match read {
            Ok(count) if count > 0 => {
                if to.write_all(&buffer[..count]).await.is_err() {
                    return;
                }
            }
            _ => return,
        }
    }
}

async fn thawed(weather: &mut watch::Receiver<Weather>) {
    let _ = weather.wait_for(|weather| *weather != Weather::Frozen).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.split();
                    let _ = tokio::io::copy(&mut from, &mut to).await;
                });
            }
        });
        address
    }

    async fn says(stream: &mut TcpStream) -> Option<u8> {
        stream.write_all(b"x").await.ok()?;
        heard(stream).await
    }

    async fn heard(stream: &mut TcpStream) -> Option<u8> {
        tokio::time::timeout(Duration::from_millis(300), stream.read_u8()).await.ok()?.ok()
    }

    #[tokio::test]
    async fn bytes_pass_or_stand_still_or_are_cut() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(says(&mut stream).await, Some(b'x'));
        proxy.set(Weather::Frozen);
        assert_eq!(says(&mut stream).await, None);
        proxy.set(Weather::Fair);
        assert_eq!(heard(&mut stream).await, Some(b'x'), "what was frozen arrives");
        proxy.set(Weather::Cut);
        let mut late = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!((says(&mut stream).await, says(&mut late).await), (None, None));
        proxy.set(Weather::Fair);
        assert_eq!(says(&mut late).await, None, "a cut connection stays cut");
        let mut anew = TcpStream::connect(proxy.address).await.unwrap();
        assert_eq!(says(&mut anew).await, Some(b'x'));
    }
}
