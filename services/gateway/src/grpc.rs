//! gRPC: `KeyService` and `LedgerService` over the same use-cases, authentication, budget and metrics as REST, with the standard
//! health and reflection services for anybody. docs/grpc.md is its description.
//!
//! A call is a POST whose body is one length-prefixed message. That body is read within its bounds and held against the request's
//! signature before anything decodes it, so the services behind see only messages that count.

pub mod answer;
pub mod keys;
pub mod ledger;

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Request, State};
use axum::middleware::{Next, from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::any_service;
use domain::limits::CONTROL_BODY_BYTES_MAX;
use tonic::server::NamedService;
use wire::grpc::v1::key_service_server::KeyServiceServer;
use wire::grpc::v1::ledger_service_server::LedgerServiceServer;
use wire::grpc::{LEDGER_MESSAGE_BYTES_MAX, PUBLIC_DESCRIPTORS};
use wire::problem::Code;

use crate::app::App;
use crate::http::authentication::{self, Caller};
use crate::http::{self, Answer, buckets};

use self::keys::Keys;
use self::ledger::Ledger;

/// Bytes of a question to the health or reflection service, at most.
const PUBLIC_MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Why gRPC cannot be offered: the contract that was compiled in is damaged.
pub type ContractError = tonic_reflection::server::Error;

/// All services.
///
/// # Errors
/// [`ContractError`]: our bug, found by the first start.
pub async fn router(app: Arc<App>) -> Result<Router, ContractError> {
    let keys = KeyServiceServer::new(Keys(Arc::clone(&app)))
        .max_decoding_message_size(CONTROL_BODY_BYTES_MAX)
        .max_encoding_message_size(LEDGER_MESSAGE_BYTES_MAX);
    let ledger = LedgerServiceServer::new(Ledger(Arc::clone(&app)))
        .max_decoding_message_size(CONTROL_BODY_BYTES_MAX)
        .max_encoding_message_size(LEDGER_MESSAGE_BYTES_MAX);
    let (reporter, health) = tonic_health::server::health_reporter();
    if app.custody.is_some() {
        reporter.set_serving::<KeyServiceServer<Keys>>().await;
    } else {
        reporter.set_not_serving::<KeyServiceServer<Keys>>().await;
    }
    if app.ledger.is_some() {
        reporter.set_serving::<LedgerServiceServer<Ledger>>().await;
    } else {
        reporter
            .set_not_serving::<LedgerServiceServer<Ledger>>()
            .await;
    }
    let reflected = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(PUBLIC_DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let reflection = reflected().build_v1()?;
    // What most clients of today ask.
    let reflection_alpha = reflected().build_v1alpha()?;

    let signed = Router::new()
        .route(&path_of(&keys), any_service(keys))
        .route(&path_of(&ledger), any_service(ledger))
        .route_layer(from_fn_with_state(Arc::clone(&app), check_body))
        .route_layer(from_fn_with_state(
            Arc::clone(&app),
            authentication::require,
        ));
    let health = health.max_decoding_message_size(PUBLIC_MESSAGE_BYTES_MAX);
    let reflection = reflection.max_decoding_message_size(PUBLIC_MESSAGE_BYTES_MAX);
    let reflection_alpha = reflection_alpha.max_decoding_message_size(PUBLIC_MESSAGE_BYTES_MAX);
    Ok(Router::new()
        .route(&path_of(&health), any_service(health))
        .route(&path_of(&reflection), any_service(reflection))
        .route(&path_of(&reflection_alpha), any_service(reflection_alpha))
        .merge(signed)
        .fallback(|| async {
            http::answer::Failure::new(Code::NotImplemented, "there is no such service")
        })
        .layer(from_fn(answer::take_failures))
        .layer(from_fn_with_state(
            http::Observed {
                app,
                write: answer::write,
            },
            http::observe,
        )))
}

/// Where a service's calls go.
fn path_of<S: NamedService>(_: &S) -> String {
    format!("/{}/{{method}}", S::NAME)
}

/// Reads the body within the byte budget, checks it against the signature, and passes it on whole.
async fn check_body(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    request: Request,
    next: Next,
) -> Response {
    match collected(&app, &caller, request).await {
        Ok((request, guard)) => {
            let response = next.run(request).await;
            drop(guard);
            response
        }
        Err(failure) => failure.into_response(),
    }
}

async fn collected(
    app: &App,
    caller: &Caller,
    request: Request,
) -> Answer<(Request, crate::budget::BudgetGuard)> {
    let (parts, body) = request.into_parts();
    let mut head = Request::new(());
    *head.headers_mut() = parts.headers.clone();
    let asked = head.map(|()| body);
    let (bytes, guard) = buckets::control_body(app, caller, asked)
        .await?
        .into_parts();
    Ok((Request::from_parts(parts, Body::from(bytes)), guard))
}
