//! Requests that the typed client would never send, on connections that are authenticated all the same; and gRPC as
//! any other client speaks it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{BufMut as _, Bytes, BytesMut};
use domain::Cid;
use http::{HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::BodyExt as _;
use http_body_util::combinators::BoxBody;
use hyper::body::{Body, Frame, Incoming};
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::mpsc;
use transport::body::BoxError;
use transport::protocol::REFUSAL;
use transport::{Bound, Refusal, Role, handshake, tls as transport_tls};
use wire::grpc::v1::storage_service_client::StorageServiceClient;
use wire::grpc::{MESSAGE_BYTES_MAX, v1};

use crate::support::{Kind, Running, SLOT, content, over_both, put, read};

type Outgoing = BoxBody<Bytes, BoxError>;

/// An authenticated HTTP/2 connection without any of the client's checks.
pub struct Connection {
    sender: SendRequest<Outgoing>,
}

impl Connection {
    pub async fn open(running: &Running, role: Role) -> Self {
        let credentials = running.deployment.credentials(role);
        let expected = Role::Node { slot: SLOT };
        match &running.bound {
            Bound::Unix(path) => {
                let mut stream = UnixStream::connect(path).await.unwrap();
                handshake::connect(&mut stream, &credentials, expected)
                    .await
                    .unwrap();
                Self::over(stream).await
            }
            Bound::Tls(address) => {
                let config = transport_tls::client_config(&credentials, expected).unwrap();
                let stream = TcpStream::connect(address).await.unwrap();
                let connector = tokio_rustls::TlsConnector::from(config);
                Self::over(
                    connector
                        .connect(transport_tls::server_name(), stream)
                        .await
                        .unwrap(),
                )
                .await
            }
        }
    }

    async fn over<S>(stream: S) -> Self
    where
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Self { sender }
    }

    /// Starts a request whose body is sent piece by piece.
    pub fn stream(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
    ) -> (Sending, Answering) {
        let (pieces, incoming) = mpsc::channel(1);
        let body = Pieces(incoming).boxed();
        let request = request(method, path, headers, body);
        let answer = self.sender.clone().send_request(request);
        // On its own task, so that it goes out whether or not the answer is waited for.
        (Sending(pieces), Answering(tokio::spawn(answer)))
    }

    pub async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Response<Incoming> {
        let body = http_body_util::Full::new(body)
            .map_err(|never| match never {})
            .boxed();
        self.sender
            .clone()
            .send_request(request(method, path, headers, body))
            .await
            .unwrap()
    }

    pub async fn get(&self, path: &str) -> Response<Incoming> {
        self.send(Method::GET, path, &[], Bytes::new()).await
    }

    fn grpc(&self) -> StorageServiceClient<Channel> {
        StorageServiceClient::with_origin(
            Channel(self.sender.clone()),
            "http://node".parse().unwrap(),
        )
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(8 << 20)
    }
}

fn request(
    method: Method,
    path: &str,
    headers: &[(&str, &str)],
    body: Outgoing,
) -> Request<Outgoing> {
    let mut request = Request::new(body);
    *request.method_mut() = method;
    *request.uri_mut() = format!("http://node{path}").parse().unwrap();
    for (name, value) in headers {
        let name: HeaderName = name.parse().unwrap();
        request
            .headers_mut()
            .insert(name, HeaderValue::from_str(value).unwrap());
    }
    request
}

/// The sending half of a body.
pub struct Sending(mpsc::Sender<Bytes>);

impl Sending {
    /// `false` when the other side does not take it any more.
    pub async fn send(&mut self, bytes: Bytes) -> bool {
        self.0.send(bytes).await.is_ok()
    }
}

struct Pieces(mpsc::Receiver<Bytes>);

impl Body for Pieces {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        self.get_mut()
            .0
            .poll_recv(cx)
            .map(|piece| piece.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// An answer to come.
pub struct Answering(tokio::task::JoinHandle<hyper::Result<Response<Incoming>>>);

impl Answering {
    /// An answer, or the end of the stream.
    pub async fn try_await(self) -> hyper::Result<Response<Incoming>> {
        tokio::time::timeout(std::time::Duration::from_secs(20), self.0)
            .await
            .expect("the node answers or hangs up")
            .unwrap()
    }
}

impl IntoFuture for Answering {
    type Output = Response<Incoming>;
    type IntoFuture = Pin<Box<dyn Future<Output = Response<Incoming>>>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(async { self.try_await().await.unwrap() })
    }
}

pub fn refusal_of(response: &Response<Incoming>) -> Option<Refusal> {
    Refusal::from_code(response.headers().get(REFUSAL)?.to_str().ok()?)
}

pub async fn text(response: Response<Incoming>) -> String {
    String::from_utf8(
        response
            .into_body()
            .collect()
            .await
            .unwrap()
            .to_bytes()
            .to_vec(),
    )
    .unwrap()
}

/// The connection as transport of generated code.
#[derive(Clone)]
struct Channel(SendRequest<Outgoing>);

impl tonic::codegen::Service<Request<tonic::body::Body>> for Channel {
    type Response = Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = hyper::Result<Response<Incoming>>> + Send>>;

    fn poll_ready(&mut self, _cx: &mut Context<'_>) -> Poll<hyper::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<tonic::body::Body>) -> Self::Future {
        let request = request.map(|body| {
            let body: Outgoing = SyncBody(std::sync::Mutex::new(body)).boxed();
            body
        });
        Box::pin(self.0.send_request(request))
    }
}

/// Tonic's body is not `Sync`, and the boxed one wants it; it is never shared.
struct SyncBody(std::sync::Mutex<tonic::body::Body>);

impl Body for SyncBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let body = self.get_mut().0.get_mut().unwrap();
        Pin::new(body).poll_frame(cx).map_err(Into::into)
    }
}

over_both!(
    grpc_and_raw_bodies_are_one_store,
    malformed_messages_are_errors_and_no_more
);

async fn grpc_and_raw_bodies_are_one_store(kind: Kind) {
    let running = Running::start(kind).await;
    let gateway = running.gateway();
    let mut grpc = Connection::open(&running, Role::Gateway).await.grpc();

    let (body, proof) = (content(1, 419_431), content(2, 2_048));
    let cid = Bytes::copy_from_slice(&Cid::of_raw(&body).to_bytes());
    let message = v1::PutShardRequest {
        cid: cid.clone(),
        kind: v1::ShardKind::Small.into(),
        epoch: 7,
        proof: proof.clone(),
        body: body.clone(),
    };
    assert!(
        !grpc
            .put_shard(message.clone())
            .await
            .unwrap()
            .into_inner()
            .already
    );
    assert!(grpc.put_shard(message).await.unwrap().into_inner().already);
    assert_eq!(read(&gateway, &body).await.unwrap(), body);

    let other = content(3, 4 << 20);
    put(&gateway, &other).await.unwrap();
    let whole = v1::GetShardRequest {
        cid: Bytes::copy_from_slice(&Cid::of_raw(&other).to_bytes()),
        ..v1::GetShardRequest::default()
    };
    assert_eq!(
        grpc.get_shard(whole).await.unwrap().into_inner().body,
        other
    );

    let part = v1::GetShardRequest {
        cid,
        range: Some(v1::ByteRange {
            start: 100,
            end: 200,
        }),
        want_proof: true,
    };
    let answer = grpc.get_shard(part.clone()).await.unwrap().into_inner();
    assert_eq!((answer.body, answer.proof), (body.slice(100..200), proof));
    assert_eq!(
        (answer.total_bytes, answer.kind, answer.epoch),
        (419_431, 1, 7)
    );

    for range in [
        v1::ByteRange { start: 5, end: 5 },
        v1::ByteRange {
            start: 419_431,
            end: 419_432,
        },
    ] {
        let status = grpc
            .get_shard(v1::GetShardRequest {
                range: Some(range),
                ..part.clone()
            })
            .await
            .unwrap_err();
        assert_eq!(status.code(), tonic::Code::OutOfRange);
        assert_eq!(
            status.metadata().get(REFUSAL).unwrap(),
            Refusal::BadRange.code()
        );
    }

    // A node may not write this way either.
    let mut node = Connection::open(&running, Role::Node { slot: 9 })
        .await
        .grpc();
    let small = content(4, 10);
    let message = v1::PutShardRequest {
        cid: Bytes::copy_from_slice(&Cid::of_raw(&small).to_bytes()),
        body: small,
        ..v1::PutShardRequest::default()
    };
    assert_eq!(
        node.put_shard(message).await.unwrap_err().code(),
        tonic::Code::PermissionDenied
    );
}

async fn malformed_messages_are_errors_and_no_more(kind: Kind) {
    let running = Running::start(kind).await;
    let connection = Connection::open(&running, Role::Gateway).await;
    let head = [("content-type", "application/grpc"), ("te", "trailers")];
    let framed = |message: &[u8]| {
        let mut frame = BytesMut::new();
        frame.put_u8(0);
        frame.put_u32(u32::try_from(message.len()).unwrap());
        frame.extend_from_slice(message);
        frame.freeze()
    };
    let methods = [
        "PutShard",
        "GetShard",
        "DeleteShard",
        "RestoreShard",
        "VerifyShard",
        "ListShards",
        "HasShards",
        "GetStats",
        "NoSuchMethod",
    ];
    for method in methods {
        let path = format!("/strongroom.v1.StorageService/{method}");
        for message in [
            Bytes::from_static(b"no frame"),
            Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]),
            framed(&[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f]),
            framed(&[0x0a, 0x02, 0x01]),
            framed(&[0xff; 64]),
            Bytes::new(),
        ] {
            let response = connection
                .send(Method::POST, &path, &head, message.clone())
                .await;
            let trailers = {
                let headers = response.headers().clone();
                let collected = response.into_body().collect().await.unwrap();
                collected.trailers().cloned().unwrap_or(headers)
            };
            let status = trailers.get("grpc-status").unwrap();
            assert_ne!(status, "0", "{method} {message:?}");
            // Never a panic, which would come back as an unknown or internal failure of the store.
            assert_ne!(status, "2", "{method} {message:?}");
        }
    }

    let mut grpc = connection.grpc();
    for cid in [
        Bytes::new(),
        Bytes::from_static(b"x"),
        content(1, 36),
        content(1, 100_000),
    ] {
        let message = v1::DeleteShardRequest { cid };
        assert_eq!(
            grpc.delete_shard(message).await.unwrap_err().code(),
            tonic::Code::InvalidArgument
        );
    }
    let message = v1::PutShardRequest {
        cid: Bytes::copy_from_slice(&Cid::of_raw(b"x").to_bytes()),
        kind: 9,
        body: Bytes::from_static(b"x"),
        ..v1::PutShardRequest::default()
    };
    assert_eq!(
        grpc.put_shard(message).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );
    let many = v1::HasShardsRequest {
        cids: vec![Bytes::copy_from_slice(&Cid::of_raw(b"x").to_bytes()); 10_001],
    };
    assert_eq!(
        grpc.has_shards(many).await.unwrap_err().code(),
        tonic::Code::InvalidArgument
    );

    // A message beyond the bound is refused by its announced length.
    let large = content(1, MESSAGE_BYTES_MAX + 1);
    let message = v1::PutShardRequest {
        cid: Bytes::copy_from_slice(&Cid::of_raw(&large).to_bytes()),
        body: large,
        ..v1::PutShardRequest::default()
    };
    let status = grpc.put_shard(message).await.unwrap_err();
    assert!(status.code() != tonic::Code::Ok, "{status:?}");

    let body = content(5, 1_000);
    put(&running.gateway(), &body).await.unwrap();
    assert_eq!(read(&running.gateway(), &body).await.unwrap(), body);
}
