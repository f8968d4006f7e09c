//! Opening ciphertexts: t custodians, one seed, forgotten again.

use std::sync::Arc;

use bytes::Bytes;
use crypto::Secret;
use crypto::hybrid::HybridPublic;
use crypto::kem::{PqCiphertext, PqCiphertextHash, PqSecret, PqSeed};
use custody::proof::VerifiedVersion;
use custody::{DecryptRequest, Denial, Reason, RequestHash, SealedSecrets};
use enclave_client::Refusal;
use enclave_wire::proof::borrow;
use enclave_wire::v1;
use ledger::records::Committee;
use sealed::signed::Signed;
use threshold::PqShare;
use threshold::pq::{RebuildError, rebuild};

use crate::counters::Counters;
use crate::refusal::{CHEATED, code, deny};
use crate::state::{Worker, rng};

mod fan_out;

use fan_out::Released;

/// Bytes of an encoded context, at most.
const CONTEXT_BYTES_MAX: usize = 8 << 10;

/// A request that is well-formed and fits what the ledger proves. Whether it is allowed, custodians say.
struct Job {
    request: DecryptRequest,
    hash: RequestHash,
    version: Arc<VerifiedVersion>,
    committee: Committee,
    ciphertexts: Vec<PqCiphertext>,
}

impl Worker {
    /// Opens the ciphertexts of a request as far as a worker can.
    pub(crate) async fn decrypt(&self, ask: v1::Decrypt) -> Result<v1::Opened, Refusal> {
        let _place = self.decrypt_place()?;
        self.expect_fresh()?;
        let job = self.read_job(&ask)?;
        let within = self.settings.decrypt;
        let collected = tokio::time::timeout(within, self.collect(&job, &ask)).await;
        let (released, failures) =
            collected.map_err(|_| deny(Reason::Busy, "custodians took too long"))??;
        drop(ask);
        let count = job.ciphertexts.len();
        let (deployment, hash) = (self.ledger.deployment, job.hash);
        let opening = tokio::task::spawn_blocking(move || {
            let secrets = open(&job, &released)?;
            Ok::<_, Refusal>((job, released, secrets))
        });
        let (job, released, secrets) = opening
            .await
            .map_err(|_| Refusal::new(code::INTERNAL, "opening failed: this is a bug", false))??;
        let about = (&job.request, &hash);
        let sealed = SealedSecrets::seal(&mut rng(), &self.identity, &deployment, about, &secrets)
            .map_err(|error| deny(Reason::Malformed, error))?;
        drop(secrets);
        Counters::add(&self.counters.decrypted, 1);
        Counters::add(&self.counters.ciphertexts, count);
        Ok(v1::Opened {
            partials: released.into_iter().map(Released::into_partials).collect(),
            sealed_secrets: sealed.sealed.into(),
            worker: self.principal().0.to_vec().into(),
            signature: sealed.signature.0.to_vec().into(),
            failures,
        })
    }

    /// Checks what a worker can: the request's form, signature and time, that the post-quantum ciphertexts are the ones that their
    /// hashes say, and what the ledger proves of the version.
    fn read_job(&self, ask: &v1::Decrypt) -> Result<Job, Refusal> {
        let deployment = &self.ledger.deployment;
        let signed = Signed::<DecryptRequest>::decode(&ask.request)
            .map_err(|error| deny(Reason::Malformed, error))?;
        let hash = custody::request::request_hash(deployment, &signed);
        let request: DecryptRequest = (*signed).clone();
        if request.chain != self.ledger.genesis {
            return Err(Refusal::from(Denial::from(Reason::OtherLedger)));
        }
        if request.expires <= self.view.time() {
            return Err(Refusal::from(Denial::from(Reason::Expired)));
        }
        let ciphertexts = self.read_ciphertexts(ask, &request)?;
        HybridPublic::from_bytes(&request.recipient_pq)
            .map_err(|error| deny(Reason::Malformed, error))?;
        let proof = borrow(ask.proof.as_ref());
        let shown = self.shown(&proof)?;
        if shown.header().height < request.min_height {
            return Err(Refusal::from(Denial::from(Reason::ProofStale)));
        }
        signed
            .verify_signature(deployment)
            .map_err(|_| Refusal::from(Denial::from(Reason::Signature)))?;
        let creation = shown.creation_bytes(&request.key).map_err(Refusal::from)?;
        let entry = shown
            .version_bytes(&request.key, request.version)
            .map_err(Refusal::from)?
            .ok_or_else(|| deny(Reason::KeyState, "this version was never active"))?;
        let version = self.version(&request, creation, entry)?;
        let committee = shown
            .committee(&version.entry.committee)
            .map_err(Refusal::from)?;
        let sharing = version.commitments.sharing();
        let now = (
            version.entry.epoch,
            version.entry.committee,
            committee.threshold,
        );
        if now != (sharing.epoch, sharing.committee, sharing.threshold) {
            return Err(Refusal::from(Denial::from(Reason::Epoch)));
        }
        Ok(Job {
            request,
            hash,
            version,
            committee,
            ciphertexts,
        })
    }

    /// A version's public parts, remembered by what the ledger has.
    fn version(
        &self,
        request: &DecryptRequest,
        creation: &[u8],
        entry: &[u8],
    ) -> Result<Arc<VerifiedVersion>, Refusal> {
        let deployment = &self.ledger.deployment;
        let (key, number) = (&request.key, request.version);
        // The two are told apart by their own lengths: both are records.
        let name = [
            key.0.as_slice(),
            &number.get().to_be_bytes(),
            creation,
            entry,
        ]
        .concat();
        self.versions
            .get_or(&name, || {
                let creation = custody::proof::VerifiedCreation::read(deployment, key, creation)?;
                VerifiedVersion::read(deployment, &creation, number, entry)
            })
            .map_err(Refusal::from)
    }

    fn read_ciphertexts(
        &self,
        ask: &v1::Decrypt,
        request: &DecryptRequest,
    ) -> Result<Vec<PqCiphertext>, Refusal> {
        let malformed = |detail: &str| deny(Reason::Malformed, detail);
        if ask.ciphertexts.len() != request.kem_hashes.as_slice().len() {
            return Err(malformed("not one ciphertext for each hash of the request"));
        }
        let read = |ciphertext: &v1::Ciphertext| {
            if ciphertext.context.len() > CONTEXT_BYTES_MAX {
                return Err(malformed("an encryption context of more than 8 KiB"));
            }
            let pq = PqCiphertext::from_bytes(&ciphertext.pq)
                .ok_or_else(|| malformed("an ML-KEM ciphertext has 1,088 bytes"))?;
            if PqCiphertextHash::of(&self.ledger.deployment, &pq).0[..] != ciphertext.pq_hash[..] {
                return Err(Refusal::from(Denial::from(Reason::KemHash)));
            }
            Ok(pq)
        };
        ask.ciphertexts.iter().map(read).collect()
    }
}

/// Rebuilds the seed, opens every ciphertext with it, and wipes it. What does not fit the ledger's public key is never used.
fn open(job: &Job, released: &[Released]) -> Result<Vec<Secret<32>>, Refusal> {
    let expected = &job.version.public.pq;
    let shares: Vec<PqShare> = released.iter().filter_map(Released::share).collect();
    let mut secret: Option<PqSecret> = None;
    let rebuilt = rebuild(
        &job.version.commitments,
        &shares,
        |seed| {
            secret = Secret::from_slice(seed.expose())
                .and_then(|copy| PqSeed::from_secret(copy).open(expected).ok());
            secret.is_some()
        },
        &true,
    );
    drop(shares);
    let rebuilt = rebuilt.map_err(|error| match error {
        RebuildError::TooFew { .. } => Refusal::new(CHEATED, error.to_string(), true),
        RebuildError::Dealer(_) => Refusal::new(CHEATED, error.to_string(), false),
    })?;
    drop(rebuilt);
    let secret =
        secret.ok_or_else(|| Refusal::new(code::INTERNAL, "no seed was rebuilt", false))?;
    Ok(job
        .ciphertexts
        .iter()
        .map(|ciphertext| secret.decapsulate(ciphertext))
        .collect())
}

/// What custodians are sent: everything but the post-quantum ciphertexts.
fn for_custodians(ask: &v1::Decrypt) -> v1::Decrypt {
    let ciphertext = |ciphertext: &v1::Ciphertext| v1::Ciphertext {
        pq: Bytes::new(),
        ..ciphertext.clone()
    };
    v1::Decrypt {
        request: ask.request.clone(),
        ciphertexts: ask.ciphertexts.iter().map(ciphertext).collect(),
        proof: ask.proof.clone(),
        avoid: Vec::new(),
    }
}
