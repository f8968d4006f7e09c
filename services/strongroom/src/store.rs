//! The client library as the commands use it: operands in, failures with a status and advice out.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use client::{
    Bucket, BucketChange, ByteRange, Client, ClientConfig, Condition, DeploymentPin, ErrorKind,
    GetOptions, ListOptions, Progress,
};
use domain::{BucketName, KeyId, Profile, VersionId};
use futures_util::TryStreamExt as _;
use tokio::io::{AsyncRead, AsyncWrite};
use wire::problem::Code;
use wire::rest::custody::CustodyInfo;
use wire::rest::ledger::LedgerStatus;
use wire::rest::{
    AdminSpace, AdminStatus, DeploymentInfo, ListAnswer, NodeList, ObjectStat, PutAnswer,
};
use wire::token::Scope;

use crate::address::Remote;
use crate::commands::Context;
use crate::failure::{Exit, Failure, Outcome};
use crate::identity;
use crate::output::Output;
use crate::progress::Bar;
use crate::settings::Settings;

pub use client::Stored;

/// How to store.
#[derive(Clone, Copy, Debug, Default)]
pub struct PutOptions {
    /// Return only when everything is fully placed.
    pub wait_placed: bool,
    /// Fail when the object exists.
    pub no_overwrite: bool,
}

/// What was fetched.
#[derive(Clone, Copy, Debug)]
pub struct Fetched {
    /// The version.
    pub version: VersionId,
    /// Bytes of plaintext that it has, or that were asked for.
    pub size_bytes: u64,
    /// Bytes that an earlier, interrupted run had fetched.
    pub resumed_bytes: u64,
    /// The writer's time, milliseconds since 1970.
    pub modified_ms: u64,
}

/// A connection as the identity of the configuration folder.
#[derive(Clone)]
pub struct Store {
    client: Client,
    output: Option<Output>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").finish_non_exhaustive()
    }
}

impl Store {
    /// Opens the identity and connects.
    ///
    /// # Errors
    /// No identity, a wrong passphrase, nobody there, or another deployment than the pinned one.
    pub async fn open(context: &Context, bandwidth_limit: Option<u64>) -> Outcome<Self> {
        let settings = &context.settings;
        let identity = identity::open(settings)?;
        let store = Self::connect(settings, Arc::new(identity), bandwidth_limit).await?;
        Ok(Self {
            output: Some(context.output),
            ..store
        })
    }

    /// Connects as an identity that is open already.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub async fn connect(
        settings: &Settings,
        identity: Arc<crypto::Identity>,
        bandwidth_limit: Option<u64>,
    ) -> Outcome<Self> {
        let pin = match &settings.deployment.value {
            Some(text) => {
                DeploymentPin::Id(text.parse().map_err(|error: domain::IdParseError| {
                    Failure::usage(format!("--deployment {text}: {error}"))
                })?)
            }
            None => DeploymentPin::FirstUse,
        };
        let mut config = ClientConfig::new(
            &settings.endpoint.value,
            identity,
            pin,
            settings.state_dir(),
        );
        config.genesis_dir = Some(settings.genesis_dir());
        config.bandwidth_limit = settings.bandwidth_limit(bandwidth_limit);
        // A person waits: an absent gateway is said soon, a short restart is bridged.
        config.retry_for = Duration::from_secs(10);
        Ok(Self {
            client: Client::connect(config).await.map_err(explain)?,
            output: None,
        })
    }

    /// What answered.
    pub fn deployment(&self) -> &DeploymentInfo {
        self.client.deployment()
    }

    /// The ledger, by the pinned genesis.
    pub async fn ledger(&self) -> Outcome<client::Ledger> {
        let ledger = self.client.ledger().await.map_err(explain)?;
        self.say_when_pinned(&ledger);
        Ok(ledger)
    }

    /// Custodians and workers as the gateway sees them; `None`: there are none.
    pub async fn custody_info(&self) -> Outcome<Option<CustodyInfo>> {
        self.client.custody_info().await.map_err(explain)
    }

    /// What the validator says of itself; `None`: there is no ledger.
    pub async fn ledger_status(&self) -> Outcome<Option<LedgerStatus>> {
        self.client.ledger_status().await.map_err(explain)
    }

    /// Named keys, by the deployment's ledger.
    pub async fn keys(&self) -> Outcome<client::Keys> {
        let keys = self.client.keys().await.map_err(explain)?;
        self.say_when_pinned(keys.ledger());
        Ok(keys)
    }

    fn say_when_pinned(&self, ledger: &client::Ledger) {
        if let Some(output) = &self.output
            && ledger.pinned_now()
        {
            output.warn(format!(
                "this ledger is seen for the first time: its genesis {} is pinned from here on. Compare it with what `strongroom ledger status` says at the operator's, by another way than this gateway",
                ledger.chain()
            ));
        }
    }

    /// Who acts.
    pub fn principal(&self) -> domain::Principal {
        self.client.principal()
    }

    /// All buckets of this identity.
    pub async fn buckets(&self) -> Outcome<Vec<Bucket>> {
        self.client.buckets().try_collect().await.map_err(explain)
    }

    /// One bucket.
    pub async fn bucket(&self, name: &BucketName) -> Outcome<Arc<Bucket>> {
        self.client.bucket(name).await.map_err(explain)
    }

    /// Makes a bucket.
    pub async fn make_bucket(
        &self,
        name: &BucketName,
        profile: Profile,
        key: Option<KeyId>,
    ) -> Outcome<Arc<Bucket>> {
        self.client
            .make_bucket(name, profile, key)
            .await
            .map_err(explain)
    }

    /// Changes a bucket of this identity's; `None` when it says so already.
    pub async fn change_bucket(
        &self,
        name: &BucketName,
        change: BucketChange,
    ) -> Outcome<Option<Arc<Bucket>>> {
        self.client
            .change_bucket(name, change)
            .await
            .map_err(explain)
    }

    /// Removes an empty bucket.
    pub async fn remove_bucket(&self, name: &BucketName) -> Outcome {
        self.client.remove_bucket(name).await.map_err(explain)
    }

    /// A page of a listing.
    pub async fn list(
        &self,
        bucket: &BucketName,
        prefix: &str,
        delimiter: Option<&str>,
        after: Option<&str>,
    ) -> Outcome<ListAnswer> {
        let options = ListOptions {
            prefix: prefix.to_owned(),
            delimiter: delimiter.map(str::to_owned),
            after: after.map(str::to_owned),
            limit: None,
        };
        self.client
            .list_page(bucket, &options)
            .await
            .map_err(explain)
    }

    /// What is known of an object.
    pub async fn stat(&self, address: &Remote) -> Outcome<ObjectStat> {
        self.client
            .stat(&address.bucket, &address.object()?)
            .await
            .map_err(explain)
    }

    /// Stores a file; an interrupted put of the same file goes on.
    pub async fn put_file(
        &self,
        path: &Path,
        to: &Remote,
        options: PutOptions,
        bar: &Bar,
    ) -> Outcome<Stored> {
        let (key, told) = (to.object()?, put_options(options, bar));
        let stored = self.client.put_file(&to.bucket, &key, path, &told).await;
        stored.map_err(|error| explain_write(error, to, options.no_overwrite))
    }

    /// Stores a stream to its end.
    pub async fn put_stream(
        &self,
        mut source: impl AsyncRead + Unpin + Send,
        to: &Remote,
        options: PutOptions,
        bar: &Bar,
    ) -> Outcome<Stored> {
        let (key, told) = (to.object()?, put_options(options, bar));
        let stored = self
            .client
            .put_reader(&to.bucket, &key, &mut source, None, &told)
            .await;
        stored.map_err(|error| explain_write(error, to, options.no_overwrite))
    }

    /// Stores bytes in memory.
    pub async fn put_bytes(&self, bytes: &[u8], to: &Remote) -> Outcome<Stored> {
        let options = client::PutOptions::default();
        self.client
            .put_bytes(&to.bucket, &to.object()?, bytes, &options)
            .await
            .map_err(explain)
    }

    /// Fetches into a file, which appears whole or not at all; an interrupted get of the same version goes on.
    pub async fn get_file(&self, from: &Remote, path: &Path, bar: &Bar) -> Outcome<Fetched> {
        let key = from.object()?;
        let fetched = self
            .client
            .get_file(&from.bucket, &key, path, false, progress(bar));
        let fetched = fetched.await.map_err(explain)?;
        Ok(Fetched {
            version: fetched.head.version,
            size_bytes: fetched.head.size_bytes,
            resumed_bytes: fetched.resumed_bytes,
            modified_ms: fetched.head.modified_ms,
        })
    }

    /// Writes an object, or a part of it, to `sink`.
    pub async fn get_stream(
        &self,
        from: &Remote,
        range: ByteRange,
        mut sink: impl AsyncWrite + Unpin + Send,
        bar: &Bar,
    ) -> Outcome<Fetched> {
        let options = GetOptions {
            range,
            verify_full: false,
            progress: progress(bar),
        };
        let got = self
            .client
            .get(&from.bucket, &from.object()?, &options, &mut sink)
            .await;
        let head = match got {
            Ok(head) => head,
            // `| head` closed the pipe: nothing is wrong with the object.
            Err(client::Error::Io { source, .. })
                if source.kind() == std::io::ErrorKind::BrokenPipe =>
            {
                crate::output::stdout_failed(&source)
            }
            Err(error) => return Err(explain(error)),
        };
        Ok(Fetched {
            version: head.version,
            size_bytes: head.size_bytes,
            resumed_bytes: 0,
            modified_ms: head.modified_ms,
        })
    }

    /// Reads everything and checks it; with `full`, every shard that is read as well.
    pub async fn verify(
        &self,
        from: &Remote,
        full: bool,
        bar: &Bar,
    ) -> Outcome<client::VerifyReport> {
        self.client
            .verify(&from.bucket, &from.object()?, full, progress(bar))
            .await
            .map_err(explain)
    }

    /// Deletes an object.
    pub async fn delete(&self, address: &Remote) -> Outcome {
        self.client
            .delete(&address.bucket, &address.object()?, None)
            .await
            .map(drop)
            .map_err(explain)
    }

    /// Copies an object without its bytes.
    pub async fn copy(&self, from: &Remote, to: &Remote, no_overwrite: bool) -> Outcome<PutAnswer> {
        let options = copy_options(no_overwrite);
        let (source, target) = (from.object()?, to.object()?);
        self.client
            .copy((&from.bucket, &source), (&to.bucket, &target), &options)
            .await
            .map_err(|error| explain_write(error, to, no_overwrite))
    }

    /// Moves an object.
    pub async fn rename(
        &self,
        from: &Remote,
        to: &Remote,
        no_overwrite: bool,
    ) -> Outcome<PutAnswer> {
        let options = copy_options(no_overwrite);
        let (source, target) = (from.object()?, to.object()?);
        self.client
            .rename((&from.bucket, &source), (&to.bucket, &target), &options)
            .await
            .map_err(|error| explain_write(error, to, no_overwrite))
    }

    /// The storage nodes.
    pub async fn admin_nodes(&self) -> Outcome<NodeList> {
        self.client.admin_nodes().await.map_err(explain)
    }

    /// The deployment's state.
    pub async fn admin_status(&self) -> Outcome<AdminStatus> {
        self.client.admin_status().await.map_err(explain)
    }

    /// Space in use.
    pub async fn admin_space(&self) -> Outcome<AdminSpace> {
        self.client.admin_space().await.map_err(explain)
    }

    /// A bearer token.
    pub fn token(&self, scopes: Vec<Scope>, lifetime: Duration) -> Outcome<String> {
        self.client.token(scopes, lifetime).map_err(explain)
    }
}

fn put_options(options: PutOptions, bar: &Bar) -> client::PutOptions {
    client::PutOptions {
        condition: if options.no_overwrite {
            Condition::IfAbsent
        } else {
            Condition::Always
        },
        wait_placed: options.wait_placed,
        metadata: None,
        progress: progress(bar),
    }
}

fn progress(bar: &Bar) -> Option<Progress> {
    let bar = bar.clone();
    Some(Arc::new(move |bytes| bar.add(bytes)))
}

/// A failure of the library as a sentence with a status. The library's sentences say what to do already.
pub fn explain(error: client::Error) -> Failure {
    let exit = match error.kind() {
        ErrorKind::Usage => Exit::Usage,
        ErrorKind::NotFound => Exit::NotFound,
        ErrorKind::Denied => Exit::Refused,
        ErrorKind::Conflict => Exit::Conflict,
        ErrorKind::Unavailable => Exit::Unavailable,
        ErrorKind::Integrity => Exit::Integrity,
        ErrorKind::Local | ErrorKind::Internal => Exit::Failure,
    };
    let code = error
        .code()
        .map_or_else(|| code_of(error.kind()), |code| code.as_str().to_owned());
    let advice = match error.code() {
        Some(Code::BucketNotEmpty) => {
            Some("delete what is in it first: strongroom rm -r sr://BUCKET")
        }
        Some(Code::BucketExists) => {
            Some("choose another name: names are shared by everybody in a deployment")
        }
        Some(Code::StaleBucketKey) => Some(
            "somebody lost a right in the bucket while this was written: run the same command again",
        ),
        Some(Code::SignatureExpired) => Some("set this machine's clock"),
        Some(Code::CustodyRefused) => match error.custody_reason() {
            Some("not-granted") => {
                Some("ask the key's owner for a grant: strongroom key grant KEY PRINCIPAL")
            }
            Some("below-minimum" | "key-state") => {
                Some("`strongroom key show KEY` says which versions are open")
            }
            _ => None,
        },
        Some(Code::NotEnoughCustodians) => Some(
            "enough custodians and a worker must be running and reach the ledger: see `strongroom admin status`",
        ),
        Some(Code::NotEnoughNodes | Code::NotEnoughShards) => {
            Some("see `strongroom admin nodes` for the nodes that are down")
        }
        _ => None,
    };
    let failure = Failure::new(exit, code, error.to_string());
    match (advice, &error) {
        (Some(advice), _) => failure.advise(advice),
        (None, client::Error::Io { source, .. }) => {
            let by_kind = Failure::file("use", Path::new(""), source);
            Failure {
                exit: by_kind.exit,
                code: by_kind.code,
                ..failure
            }
        }
        (None, _) => failure,
    }
}

/// A write that was to find its key free says so when it is not.
fn explain_write(error: client::Error, to: &Remote, no_overwrite: bool) -> Failure {
    match error {
        client::Error::Conflict {
            present: Some(version),
        } if no_overwrite => Failure::new(
            Exit::Conflict,
            "exists",
            format!("{to} exists already, as version {version}; it was left as it is"),
        )
        .advise("leave --no-overwrite out to replace it"),
        other => explain(other),
    }
}

fn code_of(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::Usage => "usage",
        ErrorKind::NotFound => "not_found",
        ErrorKind::Denied => "refused",
        ErrorKind::Conflict => "conflict",
        ErrorKind::Unavailable => "unavailable",
        ErrorKind::Integrity => "integrity",
        ErrorKind::Local => "file",
        ErrorKind::Internal => "internal",
    }
    .to_owned()
}

fn copy_options(no_overwrite: bool) -> client::CopyOptions {
    client::CopyOptions {
        condition: if no_overwrite {
            Condition::IfAbsent
        } else {
            Condition::Always
        },
    }
}
