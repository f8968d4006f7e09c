//! A gateway that fails, stalls or breaks off: retried within bounds, resumed where it stopped, nothing half done.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use client::{ByteRange, Client, Error, ErrorKind, PutOptions};
use domain::limits::CHUNK_PLAIN_BYTES_MAX;
use http::Method;
use wire::problem::Code;

use crate::fake::problem;
use crate::{bucket, config, content, key, world};

const CHUNKS: usize = 4;
const PLAIN: usize = CHUNKS * CHUNK_PLAIN_BYTES_MAX;

#[tokio::test]
async fn what_may_pass_is_retried_with_fresh_nonces() {
    // The gateway of these tests panics at a nonce that is used twice.
    for code in [
        Code::Unavailable,
        Code::TooManyRequests,
        Code::Timeout,
        Code::NotEnoughNodes,
    ] {
        let world = world().await;
        let mut failures = 2;
        world.fake.on_request(move |method, _, _| {
            if *method == Method::PUT && failures > 0 {
                failures -= 1;
                return Some(problem(code));
            }
            None
        });
        world
            .client
            .put_bytes(&bucket(), &key("a"), b"x", &PutOptions::default())
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn what_will_not_pass_is_not_retried() {
    let world = world().await;
    for (code, kind) in [
        (Code::StorageFull, ErrorKind::Unavailable),
        (Code::Forbidden, ErrorKind::Denied),
        (Code::Internal, ErrorKind::Internal),
        (Code::BodyTooLarge, ErrorKind::Usage),
    ] {
        let before = world.fake.requests("GET /v1/buckets/photos/object?");
        world
            .fake
            .on_request(move |_, path, _| path.ends_with("/object").then(|| problem(code)));
        let error = world
            .client
            .get_bytes(&bucket(), &key("a"), ByteRange::All)
            .await
            .unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(
            world.fake.requests("GET /v1/buckets/photos/object?"),
            before + 1
        );
    }
}

#[tokio::test]
async fn retries_end() {
    let world = world().await;
    let mut config = config(&world.fake, &world.dir.path().join("state"), 1);
    config.retry_for = Duration::from_millis(400);
    let client = Client::connect(config).await.unwrap();
    client.bucket(&bucket()).await.unwrap();
    world
        .fake
        .on_request(|_, _, _| Some(problem(Code::Unavailable)));
    let started = Instant::now();
    let error = client
        .get_bytes(&bucket(), &key("a"), ByteRange::All)
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert!(started.elapsed() < Duration::from_secs(5));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_put_of_a_file_goes_on_where_it_stopped() {
    let world = world().await;
    let bytes = content(PLAIN, 1);
    let path = world.dir.path().join("source");
    std::fs::write(&path, &bytes).unwrap();
    world.fake.on_request(|_, path, _| {
        path.ends_with("/chunks/3")
            .then(|| problem(Code::StorageFull))
    });
    let mut config = config(&world.fake, &world.dir.path().join("state"), 1);
    config.chunks_in_flight = 1;
    let client = Client::connect(config).await.unwrap();
    let error = client
        .put_file(&bucket(), &key("a"), &path, &PutOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::StorageFull));
    let gone = client.head(&bucket(), &key("a")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);

    world.fake.store().hook = None;
    let told = Arc::new(AtomicU64::new(0));
    let options = PutOptions {
        progress: Some({
            let told = Arc::clone(&told);
            Arc::new(move |more| {
                told.fetch_add(more, Ordering::Relaxed);
            })
        }),
        ..PutOptions::default()
    };
    let fresh = world.fresh_client().await;
    let stored = fresh
        .put_file(&bucket(), &key("a"), &path, &options)
        .await
        .unwrap();
    assert_eq!(stored.resumed_bytes, 3 * CHUNK_PLAIN_BYTES_MAX as u64);
    assert_eq!(told.load(Ordering::Relaxed), PLAIN as u64);
    assert_eq!(
        world.fake.requests("/chunks/0?"),
        1,
        "an acknowledged chunk is not sent again"
    );
    assert_eq!(world.fake.requests("POST /v1/buckets/photos/uploads"), 1);
    let (_, back) = fresh
        .get_bytes(&bucket(), &key("a"), ByteRange::All)
        .await
        .unwrap();
    assert!(back == bytes);
    // Nothing is left to resume.
    let again = fresh
        .put_file(&bucket(), &key("a"), &path, &options)
        .await
        .unwrap();
    assert_eq!(again.resumed_bytes, 0);
}

#[tokio::test]
async fn a_file_that_changed_is_stored_from_the_start() {
    let world = world().await;
    let path = world.dir.path().join("source");
    std::fs::write(&path, content(PLAIN, 1)).unwrap();
    world.fake.on_request(|_, path, _| {
        path.ends_with("/chunks/3")
            .then(|| problem(Code::StorageFull))
    });
    let put = |path: std::path::PathBuf| {
        let client = world.client.clone();
        async move {
            client
                .put_file(&bucket(), &key("a"), &path, &PutOptions::default())
                .await
        }
    };
    put(path.clone()).await.unwrap_err();
    world.fake.store().hook = None;
    let changed = content(PLAIN, 2);
    std::fs::write(&path, &changed).unwrap();
    let stored = put(path).await.unwrap();
    assert_eq!(stored.resumed_bytes, 0);
    assert_eq!(
        world.fake.requests("DELETE /v1/uploads"),
        1,
        "the stale upload is ended"
    );
    let (_, back) = world
        .client
        .get_bytes(&bucket(), &key("a"), ByteRange::All)
        .await
        .unwrap();
    assert!(back == changed);
}

#[tokio::test]
async fn a_file_that_changes_while_it_is_stored_is_refused() {
    let world = world().await;
    let path = world.dir.path().join("source");
    std::fs::write(&path, content(PLAIN, 1)).unwrap();
    let touched = path.clone();
    world.fake.on_request(move |_, request, _| {
        if request.ends_with("/chunks/3") {
            std::fs::write(&touched, content(PLAIN, 2)).unwrap();
        }
        None
    });
    let result = world
        .client
        .put_file(&bucket(), &key("a"), &path, &PutOptions::default())
        .await;
    assert!(matches!(result, Err(Error::SourceChanged(_))), "{result:?}");
    let gone = world.client.head(&bucket(), &key("a")).await.unwrap_err();
    assert_eq!(gone.kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn a_failed_stream_is_undone() {
    let world = world().await;
    world.fake.on_request(|_, path, _| {
        path.ends_with("/chunks/1")
            .then(|| problem(Code::StorageFull))
    });
    let bytes = content(PLAIN, 1);
    let error = world
        .client
        .put_bytes(&bucket(), &key("a"), &bytes, &PutOptions::default())
        .await
        .unwrap_err();
    assert_eq!(error.code(), Some(Code::StorageFull));
    assert_eq!(world.fake.requests("DELETE /v1/uploads"), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_get_to_a_file_goes_on_where_it_stopped() {
    let world = world().await;
    let bytes = content(PLAIN, 1);
    world
        .client
        .put_bytes(&bucket(), &key("a"), &bytes, &PutOptions::default())
        .await
        .unwrap();
    let out = world.dir.path().join("out");
    world.fake.on_request(|method, path, _| {
        (*method == Method::GET && path.ends_with("/chunks/3")).then(|| problem(Code::Internal))
    });
    let mut config = config(&world.fake, &world.dir.path().join("state"), 1);
    config.chunks_in_flight = 1;
    let client = Client::connect(config).await.unwrap();
    client
        .get_file(&bucket(), &key("a"), &out, false, None)
        .await
        .unwrap_err();
    assert!(!out.exists());
    // Somebody touches what is there already: it does not count then.
    let part = world.dir.path().join(".out.strongroom.part");
    let mut touched = std::fs::read(&part).unwrap();
    touched[CHUNK_PLAIN_BYTES_MAX + 5] ^= 1;
    std::fs::write(&part, &touched).unwrap();
    world.fake.store().hook = None;
    let fresh = world.fresh_client().await;
    let got = fresh
        .get_file(&bucket(), &key("a"), &out, false, None)
        .await
        .unwrap();
    assert_eq!(got.resumed_bytes, 2 * CHUNK_PLAIN_BYTES_MAX as u64);
    assert!(std::fs::read(&out).unwrap() == bytes);
    assert!(!part.exists());
    // What is no file is not replaced by one.
    let socket = world.dir.path().join("socket");
    let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
    let refused = fresh
        .get_file(&bucket(), &key("a"), &socket, false, None)
        .await;
    assert!(matches!(refused, Err(client::Error::Unsupported(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_in_flight_are_bounded() {
    let world = world().await;
    let mut config = config(&world.fake, &world.dir.path().join("state"), 1);
    config.chunks_in_flight = 64;
    // The least that is taken: 10 MiB, room for one chunk's plaintext and ciphertext.
    config.budget_bytes = 1;
    let client = Client::connect(config).await.unwrap();
    let bytes = content(PLAIN, 1);
    let seen = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&seen);
    world.fake.on_request(move |_, path, _| {
        if path.contains("/chunks/") {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        None
    });
    client
        .put_bytes(&bucket(), &key("a"), &bytes, &PutOptions::default())
        .await
        .unwrap();
    let (_, back) = client
        .get_bytes(&bucket(), &key("a"), ByteRange::All)
        .await
        .unwrap();
    assert!(back == bytes);
    // One more: a long read asks for its first blocks by themselves.
    assert_eq!(seen.load(Ordering::Relaxed), 2 * CHUNKS + 1);
}

#[tokio::test]
async fn a_body_that_breaks_off_is_asked_for_again() {
    let world = world().await;
    let bytes = content(PLAIN, 1);
    world
        .client
        .put_bytes(&bucket(), &key("a"), &bytes, &PutOptions::default())
        .await
        .unwrap();
    let proxy = crate::faults::cutting_proxy(world.fake.address, 1_000_000).await;
    let mut config = config(&world.fake, &world.dir.path().join("state"), 1);
    config.endpoint = format!("http://{proxy}");
    let client = Client::connect(config).await.unwrap();
    let (_, back) = client
        .get_bytes(&bucket(), &key("a"), ByteRange::All)
        .await
        .unwrap();
    assert!(back == bytes);
}

/// Forwards connections; the first one that has carried so many bytes of answers is cut.
async fn cutting_proxy(to: std::net::SocketAddr, after: usize) -> std::net::SocketAddr {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let cuts = Arc::new(AtomicUsize::new(1));
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let cuts = Arc::clone(&cuts);
            tokio::spawn(async move {
                let server = tokio::net::TcpStream::connect(to).await.unwrap();
                let (mut from_client, mut to_client) = client.into_split();
                let (mut from_server, mut to_server) = server.into_split();
                let up = tokio::spawn(async move {
                    let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
                });
                let (mut carried, mut buffer) = (0, vec![0; 65_536]);
                while let Ok(n @ 1..) = from_server.read(&mut buffer).await {
                    carried += n;
                    let cut = carried > after
                        && cuts
                            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                                left.checked_sub(1)
                            })
                            .is_ok();
                    if cut || to_client.write_all(&buffer[..n]).await.is_err() {
                        break;
                    }
                }
                up.abort();
            });
        }
    });
    address
}
