//! Health, metrics, and what the administrator sees.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Extension, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use domain::Profile;
use objects::metadata::Metadata as _;
use serde_json::json;
use wire::rest::{AdminSpace, AdminStatus, DeploymentInfo, NodeInfo, NodeList};

use super::Answer;
use super::answer::Failure;
use super::authentication::Caller;
use crate::app::App;
use crate::peers;

fn deployment_info(app: &App) -> DeploymentInfo {
    let mut warnings = vec![
        "development deployment: keys and nodes are on one machine; it protects nothing from that machine's owner"
            .to_owned(),
    ];
    let (ledger, attestation) = match &app.config.custody {
        None => {
            warnings.push("there is no ledger and there are no custodians here".to_owned());
            ("none", "none")
        }
        Some(custody) => {
            warnings.push("solo ledger: one operator is the ledger".to_owned());
            if custody.genesis.software_root.is_some() {
                warnings.push(
                    "software attestation protects nothing from the machine's owner".to_owned(),
                );
            }
            let attestation = match custody.genesis.software_root {
                Some(_) => "software",
                None => "hardware",
            };
            ("solo: the operator is the ledger", attestation)
        }
    };
    DeploymentInfo {
        deployment_id: app.config.deployment,
        api_version: wire::rest::API_VERSION.to_owned(),
        software_version: env!("CARGO_PKG_VERSION").to_owned(),
        time_ms: app.now().0,
        mode: "development".to_owned(),
        ledger: ledger.to_owned(),
        attestation: attestation.to_owned(),
        profiles: vec![Profile::DATACENTRE, Profile::UNTRUSTED, Profile::SMALL],
        warnings,
    }
}

/// What this deployment is, for anybody.
#[utoipa::path(get, path = "/v1/deployment", tag = "deployment", security(()),
    responses((status = 200, body = DeploymentInfo)))]
pub async fn deployment(State(app): State<Arc<App>>) -> Json<DeploymentInfo> {
    Json(deployment_info(&app))
}

/// Whether this gateway can serve: 200 when metadata answers and at least a read quorum of nodes does.
#[utoipa::path(get, path = "/health", tag = "deployment", security(()), responses(
    (status = 200, description = "serving"), (status = 503, description = "not serving")))]
pub async fn health(State(app): State<Arc<App>>) -> Response {
    let metadata = app.metadata.ping().await.is_ok();
    let nodes = app.peers.iter().count();
    let reachable = app.peers.iter().filter(|peer| peer.reachable()).count();
    let writable = app.peers.writable_count() >= Profile::DATACENTRE.write_quorum();
    let readable = reachable >= Profile::DATACENTRE.data();
    let healthy = metadata && readable;
    let status = if healthy {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = json!({
        "status": if healthy { "ok" } else { "unavailable" },
        "role": "gateway",
        "metadata": metadata,
        "nodes": nodes,
        "nodes_reachable": reachable,
        "reads": readable,
        "writes": metadata && writable,
    });
    (status, Json(body)).into_response()
}

/// Prometheus metrics.
#[utoipa::path(get, path = "/metrics", tag = "deployment", security(()),
    responses((status = 200, description = "Prometheus text format", content_type = "text/plain", body = String)))]
pub async fn metrics(State(app): State<Arc<App>>) -> Answer<Response> {
    if let Ok(space) = app.metadata.space().await {
        app.metrics
            .pending_shards
            .set(i64::try_from(space.pending_shards).unwrap_or(i64::MAX));
        app.metrics
            .pending_deletions
            .set(i64::try_from(space.deletions).unwrap_or(i64::MAX));
    }
    let used = app
        .config
        .budget_bytes
        .saturating_sub(app.budget.free_bytes());
    app.metrics
        .budget_used_bytes
        .set(i64::try_from(used).unwrap_or(i64::MAX));
    let text = app.metrics.render().map_err(Failure::internal)?;
    let mut response = text.into_response();
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; version=0.0.4"),
    );
    Ok(response)
}

/// The storage nodes as this gateway sees them.
#[utoipa::path(get, path = "/v1/admin/nodes", tag = "admin",
    responses((status = 200, body = NodeList), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn nodes(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<NodeList>> {
    caller.administrator(&app)?;
    let nodes = app
        .peers
        .iter()
        .map(|peer| {
            let stats = peer.stats();
            let reachable = peer.reachable();
            NodeInfo {
                slot: peer.slot.0,
                id: peer.id,
                zone: peer.zone.clone(),
                address: peer.address.clone(),
                state: wire_state(peer.state(), reachable),
                last_seen_ms: peer.last_seen_ms(app.now().0),
                probe_us: peer.probe_us(),
                shards: reachable.then_some(stats.shards),
                used_bytes: reachable.then_some(stats.used_bytes),
                free_bytes: reachable.then_some(stats.free_bytes),
                writable: reachable.then(|| stats.read_only.is_none()),
                reason: stats.read_only,
                pid: None,
            }
        })
        .collect();
    Ok(Json(NodeList { nodes }))
}

/// State as status answers give it: a node that does not answer just now is never called online.
pub(super) fn wire_state(state: peers::NodeState, reachable: bool) -> wire::rest::NodeState {
    match state {
        peers::NodeState::Online if reachable => wire::rest::NodeState::Online,
        peers::NodeState::Online | peers::NodeState::Warning => wire::rest::NodeState::Warning,
        peers::NodeState::Offline => wire::rest::NodeState::Offline,
    }
}

/// What the platform is doing.
#[utoipa::path(get, path = "/v1/admin/status", tag = "admin",
    responses((status = 200, body = AdminStatus), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn status(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<AdminStatus>> {
    caller.administrator(&app)?;
    let space = app.metadata.space().await?;
    let online = app.peers.writable_count();
    Ok(Json(AdminStatus {
        deployment: deployment_info(&app),
        uptime_ms: u64::try_from(app.started.elapsed().as_millis()).unwrap_or(u64::MAX),
        epoch: app.epoch,
        nodes: u32::try_from(app.peers.iter().count()).unwrap_or(u32::MAX),
        nodes_online: u32::try_from(online).unwrap_or(u32::MAX),
        writable: online >= Profile::DATACENTRE.write_quorum(),
        unplaced_versions: app.metadata.unplaced_versions().await?,
        pending_shards: space.pending_shards,
        uploads: space.uploads,
        deletions: space.deletions,
    }))
}

/// What the space goes to.
#[utoipa::path(get, path = "/v1/admin/space", tag = "admin",
    responses((status = 200, body = AdminSpace), (status = "default", content_type = "application/problem+json", body = wire::problem::Problem, description = "refused or failed")))]
pub async fn space(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
) -> Answer<Json<AdminSpace>> {
    caller.administrator(&app)?;
    let space = app.metadata.space().await?;
    let answering: Vec<_> = app
        .peers
        .iter()
        .filter(|peer| peer.reachable())
        .map(|peer| peer.stats())
        .collect();
    let sum = |field: fn(&objects::peer::PeerStats) -> u64| {
        (!answering.is_empty()).then(|| answering.iter().map(field).sum())
    };
    Ok(Json(AdminSpace {
        buckets: space.buckets,
        objects: space.objects,
        plain_bytes: space.plain_bytes,
        chunks: space.chunks,
        shard_bytes: space.shard_bytes,
        uploads: space.uploads,
        pending_shards: space.pending_shards,
        deletions: space.deletions,
        recovery_bytes: space.recovery_bytes,
        pending_copies: space.pending_copies,
        node_used_bytes: sum(|stats| stats.used_bytes),
        node_free_bytes: sum(|stats| stats.free_bytes),
    }))
}
