//! gRPC with signed calls, as a client of our own makes them. What clients of others see: `testing/grpc`.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use crypto::Identity;
use domain::DeploymentId;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use tonic::body::Body;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower_service::Service;
use wire::grpc::v1::key_service_client::KeyServiceClient;
use wire::grpc::v1::ledger_service_client::LedgerServiceClient;
use wire::grpc::{PROBLEM, v1};
use wire::http_signature::{CONTENT_DIGEST_HEADER, RequestView, content_digest};

use crate::harness::{Options, Platform};
use crate::support::{deployment, identity, now_s, runtime, signed_headers};

/// What is done to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// As it should be.
    Signed,
    /// Its message is another than the one that was signed.
    OtherMessage,
    /// The message is not covered.
    NoDigest,
    /// Sent to another method than the one that was signed.
    OtherMethod,
    /// An hour ago.
    Old,
    /// Nobody signs.
    Unsigned,
}

/// Signs each call over its whole body.
#[derive(Clone)]
struct Signing {
    channel: Channel,
    me: Arc<Identity>,
    deployment: DeploymentId,
    how: How,
}

impl Service<Request<Body>> for Signing {
    type Response = Response<Body>;
    type Error = tonic::transport::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.channel.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        // The one that is ready.
        let waiting = self.channel.clone();
        let mut channel = std::mem::replace(&mut self.channel, waiting);
        let Self {
            me,
            deployment,
            how,
            ..
        } = self.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            let mut body = body.collect().await.unwrap().to_bytes().to_vec();
            if how != How::NoDigest {
                parts
                    .headers
                    .insert(CONTENT_DIGEST_HEADER, content_digest(&body));
            }
            let created_s = match how {
                How::Old => now_s() - 3_600,
                _ => now_s(),
            };
            if how != How::Unsigned {
                let view = RequestView::from(&parts);
                signed_headers(view, &me, deployment, created_s).insert_into(&mut parts.headers);
            }
            match how {
                How::OtherMessage => *body.last_mut().unwrap() ^= 1,
                How::OtherMethod => {
                    let text = parts.uri.to_string().replace("/Finality", "/Status");
                    parts.uri = text.parse().unwrap();
                }
                _ => {}
            }
            let body = Body::new(Full::from(body));
            channel.call(Request::from_parts(parts, body)).await
        })
    }
}

async fn signing(platform: &Platform, how: How) -> Signing {
    let endpoint = Endpoint::from_shared(format!("http://{}", platform.grpc())).unwrap();
    Signing {
        channel: endpoint.connect().await.unwrap(),
        me: Arc::new(identity(platform)),
        deployment: deployment(platform),
        how,
    }
}

fn origin(platform: &Platform) -> http::Uri {
    format!("http://{}", platform.grpc()).parse().unwrap()
}

fn problem(status: &Status) -> &str {
    status
        .metadata()
        .get(PROBLEM)
        .unwrap_or_else(|| panic!("{status:?}"))
        .to_str()
        .unwrap()
}

#[test]
fn a_signature_covers_the_whole_call() {
    let platform = Platform::start();
    runtime().block_on(async {
        let ledger = async |how| {
            let service = signing(&platform, how).await;
            LedgerServiceClient::with_origin(service, origin(&platform))
        };
        let asked = || v1::FinalityRequest { height: Some(1) };
        let first = ledger(How::Signed).await.finality(asked()).await.unwrap();
        assert!(first.metadata().get("x-request-id").is_some());
        for (how, expected) in [
            (How::OtherMessage, "signature_invalid"),
            (How::NoDigest, "signature_invalid"),
            (How::OtherMethod, "signature_invalid"),
            (How::Old, "signature_expired"),
            (How::Unsigned, "unauthenticated"),
        ] {
            let status = ledger(how).await.finality(asked()).await.unwrap_err();
            assert_eq!(
                (status.code(), problem(&status)),
                (Code::Unauthenticated, expected),
                "{how:?}: {status:?}"
            );
        }
        // The same connection serves many calls, each signed anew.
        let mut ledger = ledger(How::Signed).await;
        for height in 1..20 {
            let refused = ledger
                .finality(v1::FinalityRequest {
                    height: Some(height),
                })
                .await;
            if let Err(status) = refused {
                assert_eq!(problem(&status), "not_found", "{status:?}");
            }
        }
    });
    let calls = platform.metric(
        "strongroom_requests_total{endpoint=\"/strongroom.v1.LedgerService/{method}\",method=\"POST\",status=\"401\"}",
    );
    assert!((calls - 5.0).abs() < 0.5, "{calls}");
}

#[test]
fn without_custody_there_is_nobody_to_ask() {
    let platform = Platform::start_with(Options {
        args: vec!["--no-custody".to_owned()],
        ..Options::default()
    });
    runtime().block_on(async {
        let service = signing(&platform, How::Signed).await;
        let mut keys = KeyServiceClient::with_origin(service.clone(), origin(&platform));
        let status = keys
            .get_custody(v1::GetCustodyRequest {})
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), problem(&status)),
            (Code::Unimplemented, "not_implemented")
        );
        let mut ledger = LedgerServiceClient::with_origin(service, origin(&platform));
        let status = ledger.status(v1::StatusRequest {}).await.unwrap_err();
        assert_eq!(problem(&status), "not_implemented");
    });
}
