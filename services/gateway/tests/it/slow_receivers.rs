//! Receivers that open a stream and take nothing of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::Extension;
use axum::routing::get;
use bytes::Bytes;
use domain::Principal;
use gateway::budget::{Budget, Share};
use gateway::http::body::Frames;
use gateway::http::flow::Flows;
use gateway::http::server::serve;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpListener, TcpStream};

const BODY_BYTES: usize = 1 << 20;
/// So that a body of 1 MiB has 10 seconds and one more.
const MIN_RATE: u64 = 4 << 20;

async fn server(budget: Arc<Budget>) -> SocketAddr {
    let router = axum::Router::new().route(
        "/",
        get(move |Extension(flows): Extension<Arc<Flows>>| async move {
            let guard = budget
                .take(Principal([7; 32]), Share::Get, BODY_BYTES)
                .await
                .unwrap();
            // One frame: as soon as it is polled for, all of it lies in the connection's buffer.
            Frames::body(vec![Bytes::from(vec![9; BODY_BYTES])], Some(guard), &flows)
        }),
    );
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(
        listener,
        None,
        router,
        16,
        MIN_RATE,
        std::future::pending(),
    ));
    address
}

#[tokio::test]
async fn a_stream_with_a_closed_window_gives_its_budget_back() {
    let budget = Arc::new(Budget::new(96 << 20, None));
    let address = server(Arc::clone(&budget)).await;
    let stream = TcpStream::connect(address).await.unwrap();
    // The whole connection is wide open, each stream takes 100 bytes and no more until the body is read.
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .initial_stream_window_size(100)
        .initial_connection_window_size(64 << 20)
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .unwrap();
    let connection = tokio::spawn(connection);
    let mut held = Vec::new();
    for _ in 0..3 {
        let request = http::Request::get(format!("http://{address}/"))
            .body(Empty::new())
            .unwrap();
        held.push(sender.send_request(request).await.unwrap());
    }
    let begun = Instant::now();
    assert_eq!(budget.free_bytes(), (96 << 20) - 3 * BODY_BYTES);
    while budget.free_bytes() != 96 << 20 {
        assert!(
            begun.elapsed() < Duration::from_secs(25),
            "the budget is still held"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert!(
        begun.elapsed() > Duration::from_secs(9),
        "{:?}",
        begun.elapsed()
    );
    // The connection is gone, and whoever comes back to the response learns it.
    assert!(connection.await.is_ok());
    for response in held {
        assert!(response.into_body().collect().await.is_err());
    }
}

#[tokio::test]
async fn a_receiver_that_takes_everything_is_left_alone() {
    let budget = Arc::new(Budget::new(96 << 20, None));
    let address = server(Arc::clone(&budget)).await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http2::Builder::new(TokioExecutor::new())
        .handshake::<_, Empty<Bytes>>(TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    let begun = Instant::now();
    // Longer than a stalled response would have.
    while begun.elapsed() < Duration::from_secs(17) {
        let request = http::Request::get(format!("http://{address}/"))
            .body(Empty::new())
            .unwrap();
        let response = sender.send_request(request).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body.len(), BODY_BYTES);
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert_eq!(budget.free_bytes(), 96 << 20);
}
