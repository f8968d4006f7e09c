//! Listeners: real sockets, bounded sessions, an orderly stop.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use attestation::Role;
use attested::{Session, serve};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::oneshot;

use crate::support::{World, everyone};

async fn echo<S: AsyncRead + AsyncWrite + Unpin>(mut session: Session<S>) {
    while let Ok(Some(message)) = session.receive().await {
        if session.send(&message).await.is_err() {
            return;
        }
    }
}

#[tokio::test]
async fn tcp_and_unix_sockets_serve_until_told_to_stop() {
    let world = World::new();
    let custodian = Arc::new(world.custodian());
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = tcp.local_addr().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("custodian.sock");
    let unix = UnixListener::bind(&path).unwrap();
    let (stop_tcp, stopped_tcp) = oneshot::channel::<()>();
    let (stop_unix, stopped_unix) = oneshot::channel::<()>();
    let serving = tokio::spawn({
        let custodian = custodian.clone();
        async move {
            tokio::join!(
                serve(tcp, custodian.clone(), everyone(), echo, async {
                    stopped_tcp.await.unwrap()
                }),
                serve(unix, custodian, everyone(), echo, async {
                    stopped_unix.await.unwrap()
                }),
            )
        }
    });
    let client = world.client();
    let stream = TcpStream::connect(address).await.unwrap();
    let mut over_tcp = client.connect(stream, Role::Custodian).await.unwrap();
    let stream = UnixStream::connect(&path).await.unwrap();
    let mut over_unix = client.connect(stream, Role::Custodian).await.unwrap();
    over_tcp.send(b"tcp").await.unwrap();
    assert_eq!(over_tcp.receive().await.unwrap().unwrap(), b"tcp");
    over_unix.send(b"unix").await.unwrap();
    assert_eq!(over_unix.receive().await.unwrap().unwrap(), b"unix");
    stop_tcp.send(()).unwrap();
    stop_unix.send(()).unwrap();
    serving.await.unwrap();
    assert!(over_tcp.receive().await.is_err());
    assert!(over_unix.receive().await.is_err());
}

/// Clients at their bound are turned away, and attested peers still get in.
#[tokio::test]
async fn sessions_are_bounded_by_kind() {
    let mut world = World::new();
    world.limits.clients_max = 2;
    world.limits.attested_max = 1;
    let custodian = Arc::new(world.custodian());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let most = Arc::new(AtomicUsize::new(0));
    let now = Arc::new(AtomicUsize::new(0));
    let counted = {
        let (most, now) = (most.clone(), now.clone());
        move |session: Session<TcpStream>| {
            let (most, now) = (most.clone(), now.clone());
            async move {
                let open = now.fetch_add(1, Ordering::SeqCst) + 1;
                most.fetch_max(open, Ordering::SeqCst);
                echo(session).await;
                now.fetch_sub(1, Ordering::SeqCst);
            }
        }
    };
    let serving = tokio::spawn(serve(
        listener,
        custodian,
        everyone(),
        counted,
        std::future::pending(),
    ));
    let (client, worker) = (world.client(), world.worker());
    let open = async |endpoint: &attested::Endpoint| {
        let stream = TcpStream::connect(address).await.unwrap();
        let mut session = endpoint.connect(stream, Role::Custodian).await.unwrap();
        let served =
            session.send(b"x").await.is_ok() && matches!(session.receive().await, Ok(Some(_)));
        (session, served)
    };
    let first = open(&client).await;
    let second = open(&client).await;
    let third = open(&client).await;
    assert_eq!((first.1, second.1, third.1), (true, true, false));
    let attested = open(&worker).await;
    let another = open(&worker).await;
    assert_eq!((attested.1, another.1), (true, false));
    // A place that is given back is given on.
    drop(first);
    let mut again = false;
    for _ in 0..200 {
        again = open(&client).await.1;
        if again {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(again);
    assert_eq!(most.load(Ordering::SeqCst), 3);
    serving.abort();
}
