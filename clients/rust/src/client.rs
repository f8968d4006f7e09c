//! The handle that a program holds, and the control calls that need nothing but an answer.

use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use crypto::kem::{Encapsulator, KemCiphertext};
use crypto::{EncryptionContext, Secret};
use domain::{
    BucketId, BucketKeyId, BucketName, DeploymentId, KeyId, KeyVersion, ObjectKey, Principal,
    UploadId,
};
use futures_util::Stream;
use moka::sync::Cache;
use tokio::sync::{Mutex, OnceCell, OwnedSemaphorePermit, Semaphore};
use wire::rest::custody::CustodyInfo;
use wire::rest::ledger::LedgerStatus;
use wire::rest::{
    AdminSpace, AdminStatus, DeploymentInfo, ListAnswer, NodeList, ObjectInfo, ObjectStat,
    UploadInfo, UploadList, query_value,
};
use wire::token::{Claims, Scope};

use crate::bucket::Bucket;
use crate::buffers::Buffers;
use crate::config::{ClientConfig, DeploymentPin, Endpoint};
use crate::error::{Error, Result};
use crate::key::{KnownKey, WriterKeys};
use crate::keys::{Keys, Opening};
use crate::named_keys::{Later, NamedKeys};
use crate::pace::Pace;
use crate::random;
use crate::state::{self, State};
use crate::transport::{Transport, now};

/// How long a bucket's record is used without asking again.
const BUCKET_TTL: Duration = Duration::from_secs(60);
/// How long an unwrapped bucket key stays in memory.
const KEY_TTL: Duration = Duration::from_secs(300);
/// Buckets and bucket keys in memory.
const CACHED_MAX: u64 = 10_000;
/// One unit of the byte budget.
const BUDGET_UNIT: usize = 1_024;

/// A connection to one deployment as one principal. Cheap to clone; all clones share connections, caches and budget.
#[derive(Clone)]
pub struct Client {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) config: ClientConfig,
    pub(crate) transport: Transport,
    pub(crate) state: State,
    pub(crate) buckets: Cache<BucketName, Arc<Bucket>>,
    pub(crate) keys: Cache<(BucketId, BucketKeyId), Arc<KnownKey>>,
    /// Buckets of which at least one key is in `keys`: then the record need not come with each object.
    pub(crate) buckets_with_keys: Cache<BucketId, ()>,
    pub(crate) writer_keys: Mutex<WriterKeys>,
    /// Who opens wraps to named keys: the deployment's custodians, unless something else was set before the first use.
    pub(crate) named_keys: OnceLock<Arc<dyn NamedKeys>>,
    me: Weak<Self>,
    pub(crate) buffers: Buffers,
    pub(crate) pace: Pace,
    pub(crate) ledger: OnceCell<Arc<crate::ledger::View>>,
    pub(crate) key_cache: crate::keys::KeyCache,
    budget: Arc<Semaphore>,
    budget_units: u32,
    deployment: DeploymentInfo,
}

/// What to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListOptions {
    /// Keys start with this.
    pub prefix: String,
    /// Keys that contain this after the prefix are rolled up into common prefixes.
    pub delimiter: Option<String>,
    /// Only keys and common prefixes that sort after this.
    pub after: Option<String>,
    /// 1 to 1,000; the gateway's default otherwise.
    pub limit: Option<usize>,
}

impl Client {
    /// Checks configuration, gateway and deployment, and opens the state folder.
    ///
    /// # Errors
    /// [`Error::Config`], [`Error::Unreachable`], [`Error::OtherDeployment`], [`Error::State`].
    pub async fn connect(config: ClientConfig) -> Result<Self> {
        let endpoint = Endpoint::parse(&config.endpoint)?;
        let endpoint_text = endpoint.to_string();
        let pinned = match config.deployment {
            DeploymentPin::Id(id) => Some(id),
            DeploymentPin::FirstUse => state::endpoint_pin(&config.state_dir, &endpoint_text)?,
        };
        let unknown = DeploymentId([0; 32]);
        let transport = Transport::new(&config, endpoint, unknown)?;
        let deployment = transport.deployment_info(&config).await?;
        match pinned {
            Some(expected) if expected != deployment.deployment_id => {
                return Err(Error::OtherDeployment {
                    endpoint: endpoint_text,
                    expected,
                    found: deployment.deployment_id,
                });
            }
            Some(_) => {}
            None => {
                state::pin_endpoint(&config.state_dir, &endpoint_text, &deployment.deployment_id)?;
            }
        }
        let me = config.identity.principal();
        let state = State::open(&config.state_dir, &deployment.deployment_id, &me)?;
        let units = (config.budget_bytes / BUDGET_UNIT).max(10 << 10);
        let budget_units = u32::try_from(units).unwrap_or(u32::MAX);
        let inner = Inner {
            transport: transport.with_deployment(deployment.deployment_id),
            state,
            buckets: Cache::builder()
                .max_capacity(CACHED_MAX)
                .time_to_live(BUCKET_TTL)
                .build(),
            keys: Cache::builder()
                .max_capacity(CACHED_MAX)
                .time_to_live(KEY_TTL)
                .build(),
            buckets_with_keys: Cache::builder()
                .max_capacity(CACHED_MAX)
                .time_to_live(KEY_TTL)
                .build(),
            writer_keys: Mutex::default(),
            named_keys: OnceLock::new(),
            me: Weak::new(),
            buffers: Buffers::new(config.chunks_in_flight.max(1) * 2),
            pace: Pace::new(config.bandwidth_limit),
            ledger: OnceCell::new(),
            key_cache: crate::keys::KeyCache::default(),
            budget: Arc::new(Semaphore::new(units)),
            budget_units,
            deployment,
            config,
        };
        Ok(Self {
            inner: Arc::new_cyclic(|me| Inner {
                me: me.clone(),
                ..inner
            }),
        })
    }

    /// Has buckets on named keys written and read through `keys` instead of the deployment's custodians. Only before the first
    /// use of one, and only the first call counts.
    pub fn use_named_keys(&self, keys: Arc<dyn NamedKeys>) {
        let _ = self.inner.named_keys.set(keys);
    }

    /// What answered at [`Client::connect`].
    #[must_use]
    pub fn deployment(&self) -> &DeploymentInfo {
        &self.inner.deployment
    }

    /// The deployment's id, checked against the pin.
    #[must_use]
    pub fn deployment_id(&self) -> &DeploymentId {
        self.inner.transport.deployment()
    }

    /// Who acts.
    #[must_use]
    pub fn principal(&self) -> Principal {
        self.inner.config.identity.principal()
    }

    /// One page of a listing, in the order of the keys' UTF-8 bytes. Listings are not signed: what counts is checked
    /// when an object is read.
    ///
    /// # Errors
    /// When the bucket is not there or the gateway fails.
    pub async fn list_page(
        &self,
        bucket: &BucketName,
        options: &ListOptions,
    ) -> Result<ListAnswer> {
        self.inner
            .list(bucket, options)
            .await
            .map_err(|error| no_bucket(error, bucket))
    }

    /// All objects that start with `prefix`, page by page.
    pub fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
    ) -> impl Stream<Item = Result<ObjectInfo>> + Send + use<> {
        use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
        let client = self.clone();
        let bucket = bucket.clone();
        let start = Some(ListOptions {
            prefix: prefix.to_owned(),
            ..ListOptions::default()
        });
        stream::try_unfold(start, move |options| {
            let (client, bucket) = (client.clone(), bucket.clone());
            async move {
                let Some(options) = options else {
                    return Ok::<_, Error>(None);
                };
                let page = client.list_page(&bucket, &options).await?;
                let next = page.next.map(|after| ListOptions {
                    after: Some(after),
                    ..options
                });
                Ok(Some((page.objects, next)))
            }
        })
        .map_ok(|objects| stream::iter(objects).map(Ok))
        .try_flatten()
    }

    /// An object in detail, with where it lies.
    ///
    /// # Errors
    /// [`Error::NoObject`], or what the gateway says.
    pub async fn stat(&self, bucket: &BucketName, key: &ObjectKey) -> Result<ObjectStat> {
        let target = format!(
            "/v1/buckets/{bucket}/stat?key={}",
            query_value(key.as_str())
        );
        self.inner
            .get_json("looking at an object", target)
            .await
            .map_err(|error| no_object(error, bucket, key))
    }

    /// Uploads in progress, oldest first.
    ///
    /// # Errors
    /// When the bucket is not there or the gateway fails.
    pub async fn uploads(&self, bucket: &BucketName) -> Result<Vec<UploadInfo>> {
        let list: UploadList = self
            .inner
            .get_json("listing uploads", format!("/v1/buckets/{bucket}/uploads"))
            .await
            .map_err(|error| no_bucket(error, bucket))?;
        Ok(list.uploads)
    }

    /// Ends an upload without an object; its chunks are removed.
    ///
    /// # Errors
    /// When it is not there, completed, or the gateway fails.
    pub async fn abort_upload(&self, upload: &UploadId) -> Result<()> {
        self.inner.abort_upload(upload).await
    }

    /// The storage nodes. For the deployment's administrator.
    ///
    /// # Errors
    /// When this principal is not the administrator, or the gateway fails.
    pub async fn admin_nodes(&self) -> Result<NodeList> {
        self.inner
            .get_json("listing nodes", "/v1/admin/nodes".to_owned())
            .await
    }

    /// The deployment's state. For the deployment's administrator.
    ///
    /// # Errors
    /// When this principal is not the administrator, or the gateway fails.
    pub async fn admin_status(&self) -> Result<AdminStatus> {
        self.inner
            .get_json("asking for the status", "/v1/admin/status".to_owned())
            .await
    }

    /// Space in use. For the deployment's administrator.
    ///
    /// # Errors
    /// When this principal is not the administrator, or the gateway fails.
    pub async fn admin_space(&self) -> Result<AdminSpace> {
        self.inner
            .get_json("asking for the space in use", "/v1/admin/space".to_owned())
            .await
    }

    /// Custodians and workers as the gateway sees them. Not proved. `None` where the deployment has none.
    ///
    /// # Errors
    /// When the gateway fails.
    pub async fn custody_info(&self) -> Result<Option<CustodyInfo>> {
        let asked = self
            .inner
            .get_json("asking for the custodians", "/v1/custody".to_owned())
            .await;
        none_where_absent(asked)
    }

    /// What the ledger's validator says of itself. Not proved. `None` where the deployment has no ledger.
    ///
    /// # Errors
    /// When the gateway fails, or the validator does not answer.
    pub async fn ledger_status(&self) -> Result<Option<LedgerStatus>> {
        let asked = self
            .inner
            .get_json(
                "asking for the ledger's status",
                "/v1/ledger/status".to_owned(),
            )
            .await;
        none_where_absent(asked)
    }

    /// A bearer token of this principal for curl and the like: at most one hour, at most what `scopes` say.
    ///
    /// # Errors
    /// [`Error::Config`] for a lifetime over one hour or too many scopes.
    pub fn token(&self, scopes: Vec<Scope>, lifetime: Duration) -> Result<String> {
        let mut nonce = [0; 16];
        random::fill(&mut nonce)?;
        let lifetime_ms = u64::try_from(lifetime.as_millis()).unwrap_or(u64::MAX);
        let deployment = *self.deployment_id();
        let claims = Claims::new(
            self.principal(),
            deployment,
            scopes,
            now()?,
            lifetime_ms,
            nonce,
        );
        claims
            .encode(&self.inner.config.identity)
            .map_err(|error| Error::Config(error.to_string()))
    }
}

impl Inner {
    /// Waits until so many bytes of chunks may be held in memory.
    pub(crate) async fn reserve(&self, bytes: usize) -> Result<OwnedSemaphorePermit> {
        let units = u32::try_from(bytes.div_ceil(BUDGET_UNIT)).unwrap_or(u32::MAX);
        Arc::clone(&self.budget)
            .acquire_many_owned(units.min(self.budget_units))
            .await
            .map_err(|_| Error::Internal("the byte budget is closed".to_owned()))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("endpoint", &self.inner.transport.endpoint().to_string())
            .field("principal", &self.principal())
            .finish_non_exhaustive()
    }
}

/// What a gateway does not serve is not there.
fn none_where_absent<T>(asked: Result<T>) -> Result<Option<T>> {
    use wire::problem::Code;
    match asked {
        Ok(answer) => Ok(Some(answer)),
        Err(error) if matches!(error.code(), Some(Code::NotImplemented | Code::NotFound)) => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

/// Gives the gateway's "not found" the name that was asked for.
pub(crate) fn no_bucket(error: Error, bucket: &BucketName) -> Error {
    match error.code() {
        Some(wire::problem::Code::NotFound) => Error::NoBucket(bucket.clone()),
        _ => error,
    }
}

/// Gives the gateway's "not found" the name that was asked for.
pub(crate) fn no_object(error: Error, bucket: &BucketName, key: &ObjectKey) -> Error {
    match error.code() {
        Some(wire::problem::Code::NotFound) => Error::NoObject {
            bucket: bucket.clone(),
            key: key.clone(),
        },
        _ => error,
    }
}

impl Inner {
    /// Who opens wraps to named keys.
    pub(crate) fn named_keys(&self) -> &Arc<dyn NamedKeys> {
        let custodians = || -> Arc<dyn NamedKeys> { Arc::new(Custodians(self.me.clone())) };
        self.named_keys.get_or_init(custodians)
    }
}

/// The deployment's custodians, for whom this client asks as itself.
struct Custodians(Weak<Inner>);

impl Custodians {
    async fn keys(&self) -> Result<Keys> {
        let inner = self.0.upgrade();
        let inner = inner.ok_or_else(|| Error::Internal("the client has ended".to_owned()))?;
        Client { inner }.keys().await
    }
}

impl NamedKeys for Custodians {
    fn encapsulator(&self, key: KeyId) -> Later<'_, Arc<Encapsulator>> {
        Box::pin(async move {
            // A bucket key's wrap is about bucket and writer, and has no context that a person chose.
            let context = EncryptionContext::default();
            self.keys().await?.encapsulator(&key, &context).await
        })
    }

    fn open<'a>(
        &'a self,
        key: KeyId,
        version: KeyVersion,
        ciphertext: &'a KemCiphertext,
        context: &'a EncryptionContext,
    ) -> Later<'a, Secret<32>> {
        Box::pin(async move {
            let opening = Opening {
                key,
                version,
                ciphertext: ciphertext.clone(),
                context: context.clone(),
            };
            let mut opened = self.keys().await?.open_many(&[opening]).await;
            opened
                .pop()
                .unwrap_or_else(|| Err(Error::Internal("no answer for a ciphertext".to_owned())))
        })
    }
}
