//! Who is calling: a request signature of the principal, or a bearer token that the principal signed.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use domain::{Cid, Permission, Principal};
use objects::metadata::{Mutation, RequestNonce};
use wire::http_signature::{self, RequestView, VerifiedRequest};
use wire::problem::Code;
use wire::token::Claims;

use super::Answer;
use super::answer::Failure;
use super::flow::Flows;
use crate::app::App;
use crate::records::Bucket;

/// The authenticated caller of a request.
#[derive(Clone, Debug)]
pub struct Caller {
    /// Who.
    pub principal: Principal,
    /// The responses of the caller's connection.
    pub flows: Arc<Flows>,
    proof: Proof,
}

#[derive(Clone, Debug)]
enum Proof {
    Signature(Box<VerifiedRequest>),
    Token(Box<Claims>),
}

/// Lets only authenticated requests through.
pub async fn require(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    match authenticate(&app, &request) {
        Ok(caller) => {
            request.extensions_mut().insert(caller);
            next.run(request).await
        }
        Err(failure) => failure.into_response(),
    }
}

fn authenticate(app: &App, request: &Request) -> Answer<Caller> {
    let headers = request.headers();
    let now = app.now();
    let flows = request
        .extensions()
        .get::<Arc<Flows>>()
        .cloned()
        .ok_or_else(|| Failure::internal("a request without a connection"))?;
    if http_signature::is_signed(headers) {
        let view = RequestView {
            method: request.method(),
            uri: request.uri(),
            headers,
        };
        let verified = http_signature::verify(view, &app.config.deployment, now)?;
        return Ok(Caller {
            principal: verified.principal,
            flows,
            proof: Proof::Signature(Box::new(verified)),
        });
    }
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.strip_prefix("Bearer "));
    let Some(token) = token else {
        return Err(Failure::new(
            Code::Unauthenticated,
            "sign the request (RFC 9421) or send `Authorization: Bearer` with a token from `strongroom token`",
        ));
    };
    let claims = wire::token::verify(token.trim(), &app.config.deployment, now)
        .map_err(|error| Failure::new(error.code(), error.to_string()))?;
    Ok(Caller {
        principal: claims.principal,
        flows,
        proof: Proof::Token(Box::new(claims)),
    })
}

impl Caller {
    /// Checks a right in a bucket. Without READ the bucket does not exist for the caller.
    pub fn allow(&self, bucket: &Bucket, permission: Permission) -> Answer<()> {
        let rights = bucket.permissions_of(&self.principal);
        let scope = |permission| match &self.proof {
            Proof::Signature(_) => true,
            Proof::Token(claims) => claims.allow(&bucket.row.name, permission),
        };
        if !rights.allow(Permission::Read) || !scope(Permission::Read) {
            return Err(Failure::not_found("bucket"));
        }
        if !rights.allow(permission) || !scope(permission) {
            return Err(Failure::new(
                Code::Forbidden,
                format!("you may not do this in the bucket: {permission:?} is needed"),
            ));
        }
        Ok(())
    }

    /// Only the deployment's administrator.
    pub fn administrator(&self, app: &App) -> Answer<()> {
        let scope = match &self.proof {
            Proof::Signature(_) => true,
            Proof::Token(claims) => claims.allow_everywhere(Permission::Admin),
        };
        if self.principal == app.config.administrator && scope {
            return Ok(());
        }
        Err(Failure::new(
            Code::Forbidden,
            "only the deployment's administrator may do this",
        ))
    }

    /// Checks a control body against what was signed. A token covers no body: sealed records in it are signed
    /// themselves.
    pub fn check_body(&self, body: &[u8]) -> Answer<()> {
        match &self.proof {
            Proof::Signature(verified) => Ok(verified.check_body(body)?),
            Proof::Token(_) => Ok(()),
        }
    }

    /// Checks that the signature covers this chunk CID.
    pub fn check_chunk_cid(&self, cid: &Cid) -> Answer<()> {
        match &self.proof {
            Proof::Signature(verified) if verified.chunk_cid.as_ref() != Some(cid) => {
                Err(Failure::new(
                    Code::SignatureInvalid,
                    "the signature must cover the strongroom-chunk-cid header",
                ))
            }
            _ => Ok(()),
        }
    }

    /// The mutation that this request asks for, with its nonce.
    #[must_use]
    pub fn mutation(&self, app: &App) -> Mutation {
        let nonce = match &self.proof {
            Proof::Signature(verified) => Some(RequestNonce {
                principal: verified.principal,
                nonce: verified.nonce.to_vec(),
                expires: verified.expires,
            }),
            Proof::Token(_) => None,
        };
        Mutation {
            now: app.now(),
            nonce,
        }
    }
}
