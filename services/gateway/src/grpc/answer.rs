//! How failures become gRPC statuses, with the same stable codes as over REST.

use axum::extract::Request;
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use std::error::Error as _;
use std::sync::Arc;
use tonic::metadata::MetadataValue;
use tonic::{Code as Grpc, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use wire::grpc::{PROBLEM, REJECTION};
use wire::problem::{Code, Problem};

use crate::http::answer::Failure;

/// Whose reasons an `ErrorInfo` gives.
pub const DOMAIN: &str = "strongroom";

/// A failure on its way through generated code; [`take_failures`] takes it out again.
pub(super) fn refused(failure: Failure) -> Status {
    let mut status = Status::new(code(failure.0.code), "");
    status.set_source(Arc::new(*failure.0));
    status
}

/// Makes failures of what services and generated code refused, as handlers of REST return them.
pub(super) async fn take_failures(request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    // Generated code writes some refusals by hand, without the type.
    let status = match response.extensions().get::<Status>() {
        Some(status) => Some(status.clone()),
        None => Status::from_header_map(response.headers()),
    };
    let Some(status) = status else {
        return response;
    };
    let problem = status
        .source()
        .and_then(|source| source.downcast_ref::<Problem>());
    match (problem, status.code()) {
        (_, Grpc::Ok) => response,
        (Some(problem), _) => Failure::from(problem.clone()).into_response(),
        // By generated code, before a service was asked.
        (None, Grpc::Unimplemented) => {
            Failure::new(Code::MethodNotAllowed, "this service has no such method").into_response()
        }
        (None, Grpc::OutOfRange | Grpc::ResourceExhausted) => {
            Failure::new(Code::BodyTooLarge, status.message()).into_response()
        }
        (None, _) => Failure::new(Code::BadRequest, status.message()).into_response(),
    }
}

/// A problem as the answer of a call: status, message, and its stable code three times: `strongroom-problem` for everybody,
/// `google.rpc.ErrorInfo` with everything else for clients that read details, and a ledger's rejection as validators say it.
pub(super) fn write(problem: &Problem) -> Response {
    let mut info =
        std::collections::HashMap::from([("request_id".to_owned(), problem.request_id.clone())]);
    info.extend(problem.extra.iter().map(|(name, value)| {
        let text = value
            .as_str()
            .map_or_else(|| value.to_string(), str::to_owned);
        (name.clone(), text)
    }));
    let details = ErrorDetails::with_error_info(problem.code.as_str(), DOMAIN, info);
    let mut status =
        Status::with_error_details(code(problem.code), problem.detail.clone(), details);
    let metadata = status.metadata_mut();
    metadata.insert(PROBLEM, MetadataValue::from_static(problem.code.as_str()));
    let rejection = problem
        .extra
        .get("rejection")
        .and_then(|code| code.as_str());
    if let Some(Ok(value)) = rejection.map(str::parse) {
        metadata.insert(REJECTION, value);
    }
    status.into_http::<axum::body::Body>()
}

/// The canonical status of a problem's code.
const fn code(code: Code) -> Grpc {
    match code {
        Code::BadRequest | Code::MalformedRecord | Code::BadName | Code::ChunkCidMismatch => {
            Grpc::InvalidArgument
        }
        Code::BadRange | Code::BodyTooLarge => Grpc::OutOfRange,
        Code::NotFound => Grpc::NotFound,
        Code::BucketExists => Grpc::AlreadyExists,
        Code::Unauthenticated | Code::SignatureInvalid | Code::SignatureExpired => {
            Grpc::Unauthenticated
        }
        Code::Forbidden | Code::CustodyRefused => Grpc::PermissionDenied,
        Code::BucketNotEmpty
        | Code::StaleBucketKey
        | Code::ChunkMissing
        | Code::UploadCompleted
        | Code::LedgerRejected => Grpc::FailedPrecondition,
        Code::BucketChanged | Code::Conflict | Code::RequestReplayed => Grpc::Aborted,
        Code::TooManyRequests | Code::StorageFull => Grpc::ResourceExhausted,
        Code::Timeout => Grpc::DeadlineExceeded,
        Code::NotEnoughNodes
        | Code::NotEnoughShards
        | Code::NotEnoughCustodians
        | Code::Unavailable => Grpc::Unavailable,
        Code::Internal => Grpc::Internal,
        Code::NotImplemented | Code::MethodNotAllowed => Grpc::Unimplemented,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_keeps_its_code_its_sentence_and_its_extras() {
        let problem = Problem::new(Code::LedgerRejected, "somebody spent this nonce: ä")
            .with("rejection", "nonce")
            .with_request_id("r-1");
        let response = write(&problem);
        let status = Status::from_header_map(response.headers()).unwrap();
        assert_eq!(status.code(), Grpc::FailedPrecondition);
        assert_eq!(status.message(), problem.detail);
        assert_eq!(status.metadata().get(PROBLEM).unwrap(), "ledger_rejected");
        assert_eq!(status.metadata().get(REJECTION).unwrap(), "nonce");
        let info = status.get_details_error_info().unwrap();
        assert_eq!(
            (info.reason.as_str(), info.domain.as_str()),
            ("ledger_rejected", DOMAIN)
        );
        assert_eq!(info.metadata["request_id"], "r-1");
        assert_eq!(info.metadata["rejection"], "nonce");
    }

    #[test]
    fn no_failure_looks_like_success_and_what_may_be_tried_again_says_so() {
        for &problem in Code::ALL {
            let status = code(problem);
            assert_ne!(status, Grpc::Ok, "{problem}");
            let again = matches!(
                status,
                Grpc::Unavailable | Grpc::ResourceExhausted | Grpc::DeadlineExceeded
            );
            assert_eq!(
                again,
                problem.retryable() || problem == Code::StorageFull,
                "{problem}"
            );
        }
    }
}
