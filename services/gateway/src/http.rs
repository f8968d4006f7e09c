//! REST v1 over HTTP/1.1 and HTTP/2: routing, authentication, and one module per group of routes.

pub mod admin;
pub mod answer;
pub mod authentication;
pub mod body;
pub mod buckets;
pub mod custody;
pub mod flow;
pub mod keys;
pub mod ledger;
pub mod objects;
pub mod openapi;
pub mod server;
pub mod uploads;
pub mod versions;

use std::sync::Arc;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post, put};
use tracing::Instrument as _;
use wire::problem::{Code, Problem};

use crate::app::App;

/// Header that carries the request's id in both directions.
static REQUEST_ID: HeaderName = HeaderName::from_static(wire::rest::REQUEST_ID_HEADER);

/// All routes.
pub fn router(app: Arc<App>) -> Router {
    let signed = Router::new()
        .route("/v1/buckets", post(buckets::create).get(buckets::list))
        .route(
            "/v1/buckets/{bucket}",
            get(buckets::show)
                .put(buckets::change)
                .delete(buckets::remove),
        )
        .route(
            "/v1/buckets/{bucket}/keys/{key_id}",
            put(buckets::put_key).get(buckets::get_key),
        )
        .route("/v1/buckets/{bucket}/objects", get(objects::list))
        .route(
            "/v1/buckets/{bucket}/object",
            put(objects::put_small).get(objects::get),
        )
        .route("/v1/buckets/{bucket}/stat", get(objects::stat))
        .route("/v1/buckets/{bucket}/tombstones", post(objects::delete))
        .route("/v1/buckets/{bucket}/copies", post(objects::copy))
        .route(
            "/v1/buckets/{bucket}/uploads",
            post(uploads::create).get(uploads::list),
        )
        .route(
            "/v1/uploads/{upload}",
            get(uploads::show).delete(uploads::abort),
        )
        .route("/v1/uploads/{upload}/chunks/{n}", put(uploads::put_chunk))
        .route("/v1/uploads/{upload}/pages/{page}", put(uploads::put_page))
        .route("/v1/uploads/{upload}/complete", post(uploads::complete))
        .route("/v1/versions/{version}", get(versions::show))
        .route("/v1/versions/{version}/pages/{page}", get(versions::page))
        .route("/v1/versions/{version}/chunks/{n}", get(versions::chunk))
        .route("/v1/ledger/status", get(ledger::status))
        .route("/v1/ledger/genesis", get(ledger::genesis))
        .route("/v1/ledger/transactions", post(ledger::submit))
        .route("/v1/ledger/receipts/{hash}", get(ledger::receipt))
        .route("/v1/ledger/read", post(ledger::read))
        .route("/v1/ledger/list", get(ledger::list))
        .route("/v1/ledger/headers", get(ledger::header))
        .route("/v1/keys/{key}/versions/{version}/deal", post(keys::deal))
        .route("/v1/keys/{key}/decrypt", post(keys::decrypt))
        .route("/v1/custody", get(custody::show))
        .route("/v1/custody/confirm", post(custody::confirm))
        .route("/v1/custody/audit", post(custody::audit))
        .route("/v1/admin/nodes", get(admin::nodes))
        .route("/v1/admin/status", get(admin::status))
        .route("/v1/admin/space", get(admin::space))
        .route_layer(from_fn_with_state(
            Arc::clone(&app),
            authentication::require,
        ));
    Router::new()
        .route("/health", get(admin::health))
        .route("/metrics", get(admin::metrics))
        .route("/v1/deployment", get(admin::deployment))
        .route("/v1/openapi.json", get(openapi::show))
        .merge(signed)
        .fallback(|| async { answer::Failure::new(Code::NotFound, "there is no such route") })
        .method_not_allowed_fallback(|| async {
            answer::Failure::new(Code::MethodNotAllowed, "this route has no such method")
        })
        .layer(from_fn_with_state(
            Observed {
                app: Arc::clone(&app),
                write: |problem| answer::problem_response(problem).into_response(),
            },
            observe,
        ))
        .with_state(app)
}

/// Whose requests are observed, and how their failures are written.
#[derive(Clone)]
pub(crate) struct Observed {
    pub(crate) app: Arc<App>,
    pub(crate) write: fn(&Problem) -> Response,
}

/// Request id, span, metrics, and the id in every failure.
pub(crate) async fn observe(
    State(Observed { app, write }): State<Observed>,
    mut request: Request,
    next: Next,
) -> Response {
    let begun = std::time::Instant::now();
    let id = request
        .headers()
        .get(&REQUEST_ID)
        .and_then(|value| value.to_str().ok())
        .filter(|id| id.len() <= 64 && id.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'))
        .map_or_else(|| app.fresh_request_id(), str::to_owned);
    let method = request.method().clone();
    let endpoint = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "none".to_owned(), |path| path.as_str().to_owned());
    let span = tracing::info_span!("request", request_id = %id, %method, endpoint);
    request.extensions_mut().insert(RequestId(id.clone()));
    let mut response = next.run(request).instrument(span.clone()).await;
    let mut status = response.status();
    // Handlers fail with a problem that knows nothing of the request: it is written here, once.
    if let Some(answer::Failure(problem)) = response.extensions_mut().remove::<answer::Failure>() {
        if problem.code == Code::TooManyRequests {
            app.metrics.rate_limited.inc();
        }
        span.in_scope(|| match problem.code {
            Code::Internal => {
                tracing::error!(code = %problem.code, detail = %problem.detail, "failed")
            }
            _ => tracing::debug!(code = %problem.code, detail = %problem.detail, "refused"),
        });
        // The problem's, also where the protocol has a status of its own.
        status = problem.status_code();
        response = write(&problem.with_request_id(id.clone()));
    }
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(&REQUEST_ID, value);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let labels = [method.as_str(), endpoint.as_str()];
    app.metrics
        .duration
        .with_label_values(&labels)
        .observe(elapsed);
    app.metrics
        .requests
        .with_label_values(&[labels[0], labels[1], status.as_str()])
        .inc();
    response
}

/// The id of the request being served.
#[derive(Clone, Debug)]
pub struct RequestId(pub String);

impl IntoResponse for answer::Failure {
    fn into_response(self) -> Response {
        let mut response = self.0.status_code().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

/// What every handler returns.
pub type Answer<T> = Result<T, answer::Failure>;

impl From<Problem> for answer::Failure {
    fn from(problem: Problem) -> Self {
        Self(Box::new(problem))
    }
}
