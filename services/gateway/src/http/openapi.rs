//! The OpenAPI 3.1 document, made from the handlers and the wire types themselves.

use axum::Json;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::{admin, buckets, custody, keys, ledger, objects, uploads, versions};

/// The document.
#[derive(OpenApi)]
#[openapi(
    info(
        title = "Strongroom REST v1",
        description = "Moves ciphertext: clients encrypt, sign and verify; the gateway stores. Sealed records (`application/cbor`) are those of docs/format.md. Errors are RFC 9457 problem documents with a stable `code`."
    ),
    paths(
        admin::deployment, admin::health, admin::metrics, admin::nodes, admin::status, admin::space,
        buckets::create, buckets::list, buckets::show, buckets::change, buckets::remove, buckets::put_key, buckets::get_key,
        objects::list, objects::put_small, objects::get, objects::stat, objects::delete, objects::copy,
        uploads::create, uploads::list, uploads::show, uploads::abort, uploads::put_chunk, uploads::put_page, uploads::complete,
        versions::show, versions::page, versions::chunk,
        ledger::status, ledger::genesis, ledger::submit, ledger::receipt, ledger::read, ledger::list, ledger::header,
        keys::deal, keys::decrypt, custody::show, custody::confirm, custody::audit,
        show,
    ),
    components(schemas(wire::problem::Problem)),
    security(("signature" = []), ("token" = [])),
    modifiers(&Security),
    tags(
        (name = "deployment", description = "What is served here; for anybody"),
        (name = "buckets", description = "Buckets and bucket keys"),
        (name = "objects", description = "Objects by key"),
        (name = "uploads", description = "Objects over 256 KiB, chunk by chunk"),
        (name = "versions", description = "Reading by version"),
        (name = "ledger", description = "The ledger: what it answers is checked by whoever asked"),
        (name = "keys", description = "Named keys, and those who hold them: requests are signed, answers are sealed to who asked"),
        (name = "admin", description = "For the deployment's administrator")
    )
)]
pub struct Document;

/// A body that is bytes, not JSON: a sealed record or ciphertext.
#[derive(utoipa::ToSchema)]
#[schema(value_type = String, format = Binary)]
pub struct ByteString(#[allow(dead_code, reason = "only its schema is used")] Vec<u8>);

struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let components = document.components.get_or_insert_with(Default::default);
        let signature = ApiKeyValue::with_description(
            "signature",
            "HTTP Message Signature (RFC 9421, ed25519) with Signature-Input; tag is the deployment id",
        );
        components.add_security_scheme(
            "signature",
            SecurityScheme::ApiKey(ApiKey::Header(signature)),
        );
        let token = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("a token from `strongroom token`, at most one hour"))
            .build();
        components.add_security_scheme("token", SecurityScheme::Http(token));
    }
}

/// This document.
#[utoipa::path(get, path = "/v1/openapi.json", tag = "deployment", security(()),
    responses((status = 200, description = "OpenAPI 3.1", content_type = "application/json", body = serde_json::Value)))]
pub async fn show() -> Json<utoipa::openapi::OpenApi> {
    Json(Document::openapi())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_is_in_the_document() {
        let document = serde_json::to_value(Document::openapi()).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let routes = include_str!("../http.rs");
        let mut seen = 0;
        for rest in routes.split(".route(").skip(1) {
            let path = rest.split('"').nth(1).unwrap();
            let call = &rest[..rest.find(";\n").unwrap_or(rest.len()).min(200)];
            let documented = paths
                .get(path)
                .unwrap_or_else(|| panic!("{path} is not documented"));
            for method in ["get", "put", "post", "delete"] {
                let served = call
                    .split("\n        .")
                    .next()
                    .unwrap()
                    .contains(&format!("{method}("));
                assert_eq!(documented.get(method).is_some(), served, "{method} {path}");
            }
            seen += 1;
        }
        assert_eq!(seen, paths.len());
    }
}
