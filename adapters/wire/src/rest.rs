//! Bodies and answers of REST v1, the names of its headers, and its bounds.
//!
//! Control answers are JSON, generated into the OpenAPI document from these very types; sealed records travel as
//! `application/cbor` (deterministic dag-cbor) and are opaque here. Ids are in the text form of `domain` in JSON and
//! byte strings in CBOR. Sizes are in bytes, times in milliseconds since 1970-01-01T00:00:00Z.

use std::borrow::Cow;

use domain::limits::{CONTROL_BODY_BYTES_MAX, RECORD_BYTES_MAX, SMALL_PLAIN_BYTES_MAX};
use domain::{
    BucketId, BucketKeyId, BucketName, Cid, NodeId, ObjectKey, Principal, Profile, UploadId,
    VersionId,
};
use serde::{Deserialize, Serialize};
use serde_bytes::ByteBuf;
use utoipa::ToSchema;

pub mod custody;
pub mod ledger;

/// Header with the CID of a chunk's ciphertext: on chunk bodies and on every chunk answer.
pub const CHUNK_CID_HEADER: &str = "strongroom-chunk-cid";
/// Header with the base64 of a chunk's proof (the blocks' chaining values), on 206 answers.
pub const CHUNK_PROOF_HEADER: &str = "strongroom-chunk-proof";
/// Header with the request's id, on every answer.
pub const REQUEST_ID_HEADER: &str = "x-request-id";
/// Media type of sealed records and of the CBOR bodies below.
pub const CBOR: &str = "application/cbor";
/// Media type of chunks.
pub const OCTET_STREAM: &str = "application/octet-stream";
/// Milliseconds that a gateway's and a client's clock may differ.
pub const CLOCK_SKEW_MS_MAX: u64 = 60_000;
/// Version of this API.
pub const API_VERSION: &str = "v1";

/// Bytes of an encoded [`ObjectAnswer`], at most: four records and the ciphertext of a small object.
pub const OBJECT_ANSWER_BYTES_MAX: usize =
    3 * RECORD_BYTES_MAX + SMALL_PLAIN_BYTES_MAX + (64 << 10);
/// Bytes of an encoded [`CompleteBody`] or [`CopyBody`], at most.
pub const BODY_BYTES_MAX: usize = CONTROL_BODY_BYTES_MAX;
/// Bytes of a JSON answer that a client reads, at most: a listing of 1,000 keys of 1,024 bytes, each escaped.
pub const JSON_ANSWER_BYTES_MAX: usize = 16 << 20;

/// `GET /v1/deployment`: what answers here. Not signed: compare the id with the pinned one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeploymentInfo {
    /// 64 hexadecimal digits, drawn by `strongroom init`.
    #[schema(value_type = String)]
    pub deployment_id: domain::DeploymentId,
    /// `v1`.
    pub api_version: String,
    /// Version of the gateway's program.
    pub software_version: String,
    /// The gateway's clock.
    pub time_ms: u64,
    /// `development` until production deployments exist.
    pub mode: String,
    /// How the ledger agrees: `solo: the operator is the ledger`, or `none`.
    pub ledger: String,
    /// What enclaves prove themselves with: `software`, `hardware`, or `none`.
    pub attestation: String,
    /// Coding profiles that the deployment's nodes allow, `K+M`.
    #[schema(value_type = Vec<String>)]
    pub profiles: Vec<Profile>,
    /// Sentences that every status output repeats.
    pub warnings: Vec<String>,
}

/// A bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketInfo {
    /// 3 to 63 of `a-z 0-9 . -`.
    #[schema(value_type = String)]
    pub name: BucketName,
    /// 64 hexadecimal digits; clients pin name -> id at first use.
    #[schema(value_type = String)]
    pub id: BucketId,
    /// Who signed the record.
    #[schema(value_type = String)]
    pub owner: Principal,
    /// Coding of its chunks, `K+M`.
    #[schema(value_type = String)]
    pub profile: Profile,
    /// When the gateway registered it.
    pub created_ms: u64,
    /// The owner-signed bucket record, base64url without padding.
    #[serde(with = "base64url")]
    #[schema(value_type = String)]
    pub record: Vec<u8>,
}

/// `GET /v1/buckets`: a page, in name order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BucketList {
    /// Buckets that the caller may read.
    pub buckets: Vec<BucketInfo>,
    /// Pass as `after` for the next page; null at the end.
    #[schema(value_type = Option<String>)]
    pub next: Option<BucketName>,
}

/// An object in a listing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectInfo {
    /// The key.
    #[schema(value_type = String)]
    pub key: ObjectKey,
    /// Its current version.
    #[schema(value_type = String)]
    pub version: VersionId,
    /// CID of its content manifest.
    #[schema(value_type = String)]
    pub cid: Cid,
    /// Bytes of plaintext.
    pub size_bytes: u64,
    /// The entry's time.
    pub modified_ms: u64,
    /// Who wrote it.
    #[schema(value_type = String)]
    pub writer: Principal,
    /// False while shards are on their way to their nodes.
    pub fully_placed: bool,
}

/// `GET /v1/buckets/{name}/objects`: a page, in the order of the keys' UTF-8 bytes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ListAnswer {
    /// Objects that are not rolled up.
    pub objects: Vec<ObjectInfo>,
    /// Common prefixes up to and with the delimiter.
    pub prefixes: Vec<String>,
    /// Pass as `after` for the next page; null at the end.
    pub next: Option<String>,
}

/// The answer to a put, complete, copy or delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PutAnswer {
    /// The version that is now current.
    #[schema(value_type = String)]
    pub version: VersionId,
    /// Orders versions within the deployment.
    pub sequence: i64,
    /// The version that was current before.
    #[schema(value_type = Option<String>)]
    pub replaced: Option<VersionId>,
    /// Whether every shard is on its node: the object then survives the loss of m nodes.
    pub fully_placed: bool,
    /// Durable shards, over all chunks.
    pub durable_shards: u64,
    /// Shards, over all chunks.
    pub total_shards: u64,
}

/// `GET /v1/buckets/{name}/stat`: an object in detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectStat {
    /// As in a listing.
    #[serde(flatten)]
    pub object: ObjectInfo,
    /// How its bytes are held.
    pub kind: ObjectKind,
    /// Coding of its chunks, `K+M` (small objects: `1+4`).
    #[schema(value_type = String)]
    pub profile: Profile,
    /// Chunks.
    pub chunks: u32,
    /// Shards that are not on their node yet.
    pub pending_shards: u64,
    /// Live shards of its most endangered chunk.
    pub live_shards_min: u32,
    /// Bytes on the nodes, all shards.
    pub stored_bytes: u64,
    /// Which bucket key wraps its DEK.
    #[schema(value_type = String)]
    pub bucket_key_id: BucketKeyId,
    /// What opens it: the wraps of that bucket key and of the version itself: `identity PRINCIPAL`, `passphrase`,
    /// `named-key ID version N`, `link-key`, `customer-key`.
    pub wraps: Vec<String>,
    /// Nodes that hold its shards.
    pub nodes: Vec<ObjectNode>,
}

/// How the bytes of an object are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ObjectKind {
    /// One self-contained record in five copies (at most 256 KiB of plaintext).
    Small,
    /// Erasure-coded chunks.
    Chunked,
}

/// A node that holds shards of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ObjectNode {
    /// Its number in the deployment.
    pub slot: u16,
    /// Its identity.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// Its failure domain.
    pub zone: String,
    /// Whether it answers.
    pub state: NodeState,
    /// Shards of this object on it.
    pub shards: u64,
}

/// What the gateway knows of a node's liveness.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum NodeState {
    /// Takes reads and writes.
    Online,
    /// Missed probes: reads only.
    Warning,
    /// Does not answer.
    Offline,
}

/// Body of `POST /v1/buckets/{name}/uploads`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUpload {
    /// Where the object goes.
    #[schema(value_type = String)]
    pub key: ObjectKey,
    /// Bytes of plaintext, when known beforehand.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub size_bytes: Option<u64>,
}

/// An upload in progress.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadInfo {
    /// Its id.
    #[schema(value_type = String)]
    pub upload: UploadId,
    /// Where the object goes.
    #[schema(value_type = String)]
    pub key: ObjectKey,
    /// When it was started.
    pub created_ms: u64,
    /// Coding of its chunks, `K+M`.
    #[schema(value_type = String)]
    pub profile: Profile,
}

/// `GET /v1/buckets/{name}/uploads`: oldest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadList {
    /// Uploads in progress.
    pub uploads: Vec<UploadInfo>,
}

/// The answer to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ChunkAnswer {
    /// Shards that are durable; at least the write quorum.
    pub durable_shards: u32,
    /// Shards.
    pub total_shards: u32,
}

/// `GET /v1/uploads/{id}`: a page of its slots, ordered by n.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadStatus {
    /// Its id.
    #[schema(value_type = String)]
    pub upload: UploadId,
    /// The version it became, once completed.
    #[schema(value_type = Option<String>)]
    pub completed: Option<VersionId>,
    /// Chunks that arrived.
    pub slots: Vec<UploadSlot>,
    /// Pass as `from` for the next page; null at the end.
    pub next: Option<u32>,
}

/// A chunk of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UploadSlot {
    /// Its index in the object.
    pub n: u32,
    /// CID of its ciphertext; several may exist for one n, the manifest selects.
    #[schema(value_type = String)]
    pub cid: Cid,
    /// Bytes of ciphertext.
    pub size_bytes: u64,
    /// Whether the write quorum holds it.
    pub acknowledged: bool,
}

/// `GET /v1/admin/nodes`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeList {
    /// By slot.
    pub nodes: Vec<NodeInfo>,
}

/// A storage node as the gateway sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeInfo {
    /// Its number in the deployment.
    pub slot: u16,
    /// Its identity.
    #[schema(value_type = String)]
    pub id: NodeId,
    /// Its failure domain.
    pub zone: String,
    /// `unix:PATH` or `tls:HOST:PORT`.
    pub address: String,
    /// Whether it answers.
    pub state: NodeState,
    /// When it last answered; null if never since the gateway started.
    pub last_seen_ms: Option<u64>,
    /// Duration of its last probe.
    pub probe_us: Option<u64>,
    /// Shards on it, as it says.
    pub shards: Option<u64>,
    /// Bytes of them.
    pub used_bytes: Option<u64>,
    /// Bytes it can still take.
    pub free_bytes: Option<u64>,
    /// Whether it takes writes; it refuses when its disk is full or failed.
    pub writable: Option<bool>,
    /// Why not, in words.
    pub reason: Option<String>,
    /// The node's process id, on the same machine.
    pub pid: Option<u32>,
}

/// `GET /v1/admin/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminStatus {
    /// As anybody sees it.
    pub deployment: DeploymentInfo,
    /// Milliseconds since the gateway started.
    pub uptime_ms: u64,
    /// The gateway's epoch: 1 at its first start.
    pub epoch: u64,
    /// Nodes that are registered.
    pub nodes: u32,
    /// Nodes that take writes.
    pub nodes_online: u32,
    /// Whether chunks of the default profile can be written now.
    pub writable: bool,
    /// Current versions with shards that are not on their node yet; 0 means that everything is fully placed.
    pub unplaced_versions: u64,
    /// Shards that are not on their node yet.
    pub pending_shards: u64,
    /// Uploads in progress.
    pub uploads: u64,
    /// Chunks whose shards wait to be deleted.
    pub deletions: u64,
}

/// `GET /v1/admin/space`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdminSpace {
    /// Buckets.
    pub buckets: u64,
    /// Current objects.
    pub objects: u64,
    /// Bytes of plaintext in them.
    pub plain_bytes: u64,
    /// Chunks and small records that metadata refers to.
    pub chunks: u64,
    /// Bytes of their shards, all copies.
    pub shard_bytes: u64,
    /// Uploads in progress.
    pub uploads: u64,
    /// Shards that are not on their node yet.
    pub pending_shards: u64,
    /// Chunks whose shards wait to be deleted.
    pub deletions: u64,
    /// Bytes of sealed recovery records.
    pub recovery_bytes: u64,
    /// Copies of recovery records that are not on their node yet.
    pub pending_copies: u64,
    /// Bytes that the nodes say they use; null when none answers.
    pub node_used_bytes: Option<u64>,
    /// Bytes that the nodes can still take; null when none answers.
    pub node_free_bytes: Option<u64>,
}

/// `GET /v1/buckets/{name}/object` and `GET /v1/versions/{version}`: everything a reader needs to start, in one answer.
///
/// Borrows its byte fields: encoding copies them once, decoding not at all.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectAnswer<'a> {
    /// The version record: entry, bucket-key id, wrapped DEK, wraps.
    #[serde(borrow, with = "serde_bytes")]
    pub version_record: Cow<'a, [u8]>,
    /// The manifest's root (for small objects the whole manifest).
    #[serde(borrow, with = "serde_bytes")]
    pub manifest: Cow<'a, [u8]>,
    /// The ciphertext of a small object; null for chunked ones.
    #[serde(borrow, with = "serde_bytes")]
    pub chunk: Option<Cow<'a, [u8]>>,
    /// The bucket key's record, when it was asked for.
    #[serde(borrow, with = "serde_bytes")]
    pub bucket_key: Option<Cow<'a, [u8]>>,
    /// Whether every shard is on its node.
    pub fully_placed: bool,
}

/// Body of `POST /v1/uploads/{id}/complete`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CompleteBody {
    /// The version record.
    #[serde(with = "serde_bytes")]
    pub version_record: Vec<u8>,
    /// The manifest's root.
    #[serde(with = "serde_bytes")]
    pub manifest: Vec<u8>,
    /// The manifest's pages, when they are not within the root, in order.
    pub pages: Vec<ByteBuf>,
}

/// Body of `POST /v1/buckets/{name}/copies`; `{name}` is the target's bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CopyBody {
    /// The version whose content is copied.
    pub source: VersionId,
    /// The new version's record, over the same manifest.
    #[serde(with = "serde_bytes")]
    pub version_record: Vec<u8>,
    /// For a move: the signed tombstone of the source's key, carried out in the same transaction.
    #[serde(with = "serde_bytes")]
    pub tombstone: Option<Vec<u8>>,
}

/// Why a CBOR body was not read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// Over the bound.
    #[error("a body of {size} bytes; at most {max} are read")]
    TooLarge {
        /// Its size.
        size: usize,
        /// The bound.
        max: usize,
    },
    /// Not deterministic dag-cbor of the expected shape.
    #[error("not a {what}: {reason}")]
    Malformed {
        /// What was expected.
        what: &'static str,
        /// The decoder's words.
        reason: String,
    },
}

macro_rules! cbor_body {
    ($name:ident $(<$life:lifetime>)?, $input:lifetime, $max:expr, $what:literal) => {
        impl<$input> $name $(<$life>)? {
            /// The deterministic dag-cbor form.
            #[must_use]
            pub fn encode(&self) -> Vec<u8> {
                encode(self)
            }

            /// Reads the dag-cbor form.
            ///
            /// # Errors
            /// [`BodyError`] when it is over the bound or malformed.
            pub fn decode(bytes: &$input [u8]) -> Result<Self, BodyError> {
                decode(bytes, $max, $what)
            }
        }
    };
}

cbor_body!(ObjectAnswer<'a>, 'a, OBJECT_ANSWER_BYTES_MAX, "object answer");
cbor_body!(CompleteBody, 'a, BODY_BYTES_MAX, "complete body");
cbor_body!(CopyBody, 'a, BODY_BYTES_MAX, "copy body");

fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    // Byte strings, booleans and ids into memory: nothing that can fail.
    serde_ipld_dagcbor::to_vec(value).unwrap_or_default()
}

fn decode<'de, T: Deserialize<'de>>(
    bytes: &'de [u8],
    max: usize,
    what: &'static str,
) -> Result<T, BodyError> {
    if bytes.len() > max {
        return Err(BodyError::TooLarge {
            size: bytes.len(),
            max,
        });
    }
    serde_ipld_dagcbor::from_slice(bytes).map_err(|error| BodyError::Malformed {
        what,
        reason: error.to_string(),
    })
}

/// Percent-encodes a query value: everything but RFC 3986's unreserved characters, so that form decoders, which read
/// `+` as a space, and URI parsers agree.
#[must_use]
pub fn query_value(text: &str) -> percent_encoding::PercentEncode<'_> {
    const ENCODED: &percent_encoding::AsciiSet = &percent_encoding::NON_ALPHANUMERIC
        .remove(b'-')
        .remove(b'.')
        .remove(b'_')
        .remove(b'~');
    percent_encoding::utf8_percent_encode(text, ENCODED)
}

/// The value of [`CHUNK_PROOF_HEADER`].
#[must_use]
pub fn encode_chunk_proof(proof: &[u8]) -> String {
    data_encoding::BASE64.encode(proof)
}

/// Reads the value of [`CHUNK_PROOF_HEADER`]; `None` when it is not base64 or longer than any proof.
#[must_use]
pub fn decode_chunk_proof(value: &str) -> Option<Vec<u8>> {
    // 64 chaining values of 32 bytes.
    const TEXT_MAX: usize = 2_732;
    if value.len() > TEXT_MAX {
        return None;
    }
    data_encoding::BASE64.decode(value.as_bytes()).ok()
}

/// Bytes that are base64url text without padding in JSON.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(transparent)]
#[schema(value_type = String)]
pub struct Base64Url(#[serde(with = "base64url")] pub Vec<u8>);

impl<T: Into<Vec<u8>>> From<T> for Base64Url {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

/// Bytes as base64url text without padding.
pub mod base64url {
    use data_encoding::BASE64URL_NOPAD;
    use serde::{Deserialize as _, Deserializer, Serializer};

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64URL_NOPAD.encode(bytes))
    }

    /// For `#[serde(with)]`.
    ///
    /// # Errors
    /// When the text is not base64url without padding.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(deserializer)?;
        BASE64URL_NOPAD
            .decode(text.as_bytes())
            .map_err(|_| serde::de::Error::custom("expected base64url without padding"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn answer() -> ObjectAnswer<'static> {
        ObjectAnswer {
            version_record: vec![1; 300].into(),
            manifest: vec![2; 200].into(),
            chunk: Some(vec![3; 4_112].into()),
            bucket_key: None,
            fully_placed: true,
        }
    }

    #[test]
    fn cbor_bodies_round_trip() {
        let answer = answer();
        assert_eq!(ObjectAnswer::decode(&answer.encode()), Ok(answer.clone()));
        let complete = CompleteBody {
            version_record: vec![1; 10],
            manifest: vec![2; 20],
            pages: vec![ByteBuf::from(vec![3; 30]), ByteBuf::new()],
        };
        assert_eq!(CompleteBody::decode(&complete.encode()), Ok(complete));
        for tombstone in [None, Some(vec![9; 9])] {
            let copy = CopyBody {
                source: VersionId([7; 16]),
                version_record: vec![1; 10],
                tombstone,
            };
            assert_eq!(CopyBody::decode(&copy.encode()), Ok(copy));
        }
    }

    #[test]
    fn decoding_an_object_answer_borrows_its_chunk() {
        let bytes = answer().encode();
        let decoded = ObjectAnswer::decode(&bytes).unwrap();
        assert!(matches!(decoded.chunk, Some(Cow::Borrowed(_))));
        assert!(matches!(decoded.manifest, Cow::Borrowed(_)));
    }

    #[test]
    fn truncated_extended_and_oversized_bodies_are_refused() {
        let bytes = answer().encode();
        for cut in 0..bytes.len() {
            assert!(ObjectAnswer::decode(&bytes[..cut]).is_err(), "{cut}");
        }
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(ObjectAnswer::decode(&longer).is_err());
        let huge = vec![0; OBJECT_ANSWER_BYTES_MAX + 1];
        assert!(matches!(
            ObjectAnswer::decode(&huge),
            Err(BodyError::TooLarge { .. })
        ));
        // A byte string that claims 2^63 bytes must not allocate them.
        let mut liar = vec![0xa1, 0x66];
        liar.extend(b"source");
        liar.extend([0x5b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]);
        assert!(matches!(
            CopyBody::decode(&liar),
            Err(BodyError::Malformed { .. })
        ));
    }

    #[test]
    fn stats_are_flat_json_with_text_ids() {
        let stat = ObjectStat {
            object: ObjectInfo {
                key: "a/b".parse().unwrap(),
                version: VersionId([1; 16]),
                cid: Cid::of(domain::Codec::DagCbor, b"m"),
                size_bytes: 5,
                modified_ms: 6,
                writer: Principal([2; 32]),
                fully_placed: false,
            },
            kind: ObjectKind::Small,
            profile: Profile::SMALL,
            chunks: 1,
            pending_shards: 2,
            live_shards_min: 3,
            stored_bytes: 25,
            bucket_key_id: BucketKeyId([3; 16]),
            wraps: vec!["identity".to_owned()],
            nodes: vec![],
        };
        let json = serde_json::to_value(&stat).unwrap();
        assert_eq!(json["key"], "a/b");
        assert_eq!(json["kind"], "small");
        assert_eq!(json["profile"], "1+4");
        assert_eq!(json["version"], "01".repeat(16));
        assert_eq!(serde_json::from_value::<ObjectStat>(json).unwrap(), stat);
    }

    #[test]
    fn bucket_records_travel_as_base64url() {
        let info = BucketInfo {
            name: "photos".parse().unwrap(),
            id: BucketId([1; 32]),
            owner: Principal([2; 32]),
            profile: Profile::DATACENTRE,
            created_ms: 1,
            record: vec![0xfb, 0xff],
        };
        let json = serde_json::to_string(&info).unwrap();
        assert!(json.contains("\"-_8\""), "{json}");
        assert_eq!(serde_json::from_str::<BucketInfo>(&json).unwrap(), info);
        assert!(serde_json::from_str::<BucketInfo>(&json.replace("-_8", "+/8=")).is_err());
    }

    #[test]
    fn query_values_keep_only_unreserved_characters() {
        assert_eq!(
            query_value("a b+c/ü~.-_&=%").to_string(),
            "a%20b%2Bc%2F%C3%BC~.-_%26%3D%25"
        );
    }

    #[test]
    fn chunk_proofs_travel_as_bounded_base64() {
        let proof = vec![0xfe; 2_048];
        let value = encode_chunk_proof(&proof);
        assert_eq!(decode_chunk_proof(&value), Some(proof));
        assert_eq!(decode_chunk_proof(&encode_chunk_proof(&[0; 2_080])), None);
        assert_eq!(decode_chunk_proof("a-b_"), None);
        assert_eq!(decode_chunk_proof(""), Some(vec![]));
    }

    proptest! {
        #[test]
        fn decoders_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
            let _ = ObjectAnswer::decode(&bytes);
            let _ = CompleteBody::decode(&bytes);
            let _ = CopyBody::decode(&bytes);
        }

        #[test]
        fn altered_answers_never_panic(at in 0usize..4_700, bit in 0u8..8) {
            let mut bytes = answer().encode();
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << bit;
            }
            let _ = ObjectAnswer::decode(&bytes);
        }
    }
}
