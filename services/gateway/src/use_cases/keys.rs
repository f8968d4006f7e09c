//! Named keys: signed requests in, sealed answers out. This gateway reads neither.

use crypto::kem::PqCiphertextHash;
use crypto::kem::pq::PqCiphertext;
use custody::{AuditRequest, DealRequest, DecryptRequest};
use domain::{KeyId, KeyVersion, Principal, Slot};
use enclave_client::Peer;
use enclave_wire::v1;
use sealed::signed::Signed;
use wire::problem::Code;
use wire::rest::custody::{
    AcknowledgementInfo, AuditAnswer, AuditBody, AuditEntryInfo, ConfirmAnswer, ConfirmBody,
    ConfirmedInfo, CustodianRefusal, CustodyInfo, DECRYPT_MAX, DealAnswer, DealBody, DecryptAnswer,
    DecryptBody, EnclaveDescription, EnclaveInfo, SealedPartialsInfo,
};

use crate::app::App;
use crate::custody::Custody;
use crate::http::Answer;
use crate::http::answer::Failure;

impl App {
    /// The way to custodians and workers.
    fn custody(&self) -> Answer<&Custody> {
        self.custody.as_ref().ok_or_else(|| {
            Failure::new(
                Code::NotImplemented,
                "this deployment has no custodians: start it without --no-custody",
            )
        })
    }
}

/// A version's number, as callers write it.
///
/// # Errors
/// That there is no such version.
pub fn version(number: u32) -> Answer<KeyVersion> {
    KeyVersion::new(number).map_err(|_| Failure::not_found("version of the key"))
}

/// Has the pending version of a key made by custodians and workers. What comes back goes into an activate-version transaction.
///
/// # Errors
/// [`Failure`].
pub async fn deal(
    app: &App,
    key: KeyId,
    version: KeyVersion,
    DealBody { request }: DealBody,
) -> Answer<DealAnswer> {
    let custody = app.custody()?;
    let asked = Signed::<DealRequest>::decode(&request.0)
        .map_err(|error| Failure::new(Code::MalformedRecord, format!("deal request: {error}")))?;
    if (asked.key, asked.version) != (key, version) {
        return Err(Failure::new(
            Code::BadRequest,
            "the signed request is for another key or version",
        ));
    }
    let proof = custody.proof_for_deal(key, asked.principal).await?;
    let dealt = custody
        .deal(v1::DealVersion {
            key: key.as_bytes().to_vec().into(),
            version: version.get(),
            fencing: asked.fencing,
            request: request.0.into(),
            proof: Some(proof),
        })
        .await?;
    let acknowledgements = dealt.acknowledgements.into_iter().map(|one| {
        Ok(AcknowledgementInfo {
            index: index(one.index)?,
            standby: one.standby,
            signature: one.signature.into(),
        })
    });
    Ok(DealAnswer {
        statement: dealt.statement.into(),
        commitments: dealt.commitments.into(),
        acknowledgements: acknowledgements.collect::<Answer<Vec<_>>>()?,
        activation_worker: principal(&dealt.activation_worker)?,
        activation_signature: dealt.activation_signature.into(),
    })
}

/// Opens 1 to 64 ciphertexts of one version of a key: custodians check the request and the ledger, a worker puts the
/// post-quantum leg together, and what comes back is sealed to the request's recipient.
///
/// # Errors
/// [`Failure`].
pub async fn decrypt(app: &App, key: KeyId, body: DecryptBody) -> Answer<DecryptAnswer> {
    let custody = app.custody()?;
    let asked = Signed::<DecryptRequest>::decode(&body.request.0).map_err(|error| {
        Failure::new(Code::MalformedRecord, format!("decrypt request: {error}"))
    })?;
    if asked.key != key {
        return Err(Failure::new(
            Code::BadRequest,
            "the signed request is for another key",
        ));
    }
    if body.ciphertexts.is_empty() || body.ciphertexts.len() > DECRYPT_MAX {
        return Err(Failure::new(
            Code::BadRequest,
            format!("1 to {DECRYPT_MAX} ciphertexts"),
        ));
    }
    let deployment = &app.config.deployment;
    let ciphertexts = body.ciphertexts.into_iter().map(|one| {
        let pq = PqCiphertext::from_bytes(&one.pq.0).ok_or_else(|| {
            Failure::new(Code::BadRequest, "an ML-KEM-768 ciphertext has 1,088 bytes")
        })?;
        Ok(v1::Ciphertext {
            dh: one.dh.0.into(),
            pq_hash: PqCiphertextHash::of(deployment, &pq).0.to_vec().into(),
            pq: one.pq.0.into(),
            context: one.context.0.into(),
        })
    });
    let ciphertexts = ciphertexts.collect::<Answer<Vec<_>>>()?;
    let proof = custody
        .proof_for_release(key, asked.version, asked.principal, asked.min_height)
        .await?;
    let opened = custody
        .decrypt(v1::Decrypt {
            request: body.request.0.into(),
            ciphertexts,
            proof: Some(proof),
            avoid: Vec::new(),
        })
        .await?;
    let partials = opened.partials.into_iter().map(|one| {
        let by = one
            .signature
            .ok_or_else(|| Failure::internal("partials without their custodian's signature"))?;
        Ok(SealedPartialsInfo {
            index: index(by.index)?,
            custodian: principal(&by.principal)?,
            sealed: one.sealed.into(),
            signature: by.signature.into(),
        })
    });
    let failures = opened.failures.into_iter().map(|one| {
        let why = enclave_client::Refusal::from(one.refusal.unwrap_or_default());
        Ok(custodian_refusal(index(one.index)?, why))
    });
    Ok(DecryptAnswer {
        partials: partials.collect::<Answer<Vec<_>>>()?,
        sealed_secrets: opened.sealed_secrets.into(),
        worker: principal(&opened.worker)?,
        signature: opened.signature.into(),
        failures: failures.collect::<Answer<Vec<_>>>()?,
    })
}

/// Custodians and workers as this gateway sees them: reachable means that there is a session in which the enclave has proved its
/// code against the ledger's policy.
///
/// # Errors
/// [`Failure`].
pub async fn show_custody(app: &App) -> Answer<CustodyInfo> {
    let custody = app.custody()?;
    Ok(CustodyInfo {
        committees: custody.committees().await?,
        custodians: custody
            .custodians()
            .map(|(slot, peer)| info(Some(slot), peer))
            .collect(),
        workers: custody
            .workers()
            .iter()
            .map(|peer| info(None, peer))
            .collect(),
    })
}

/// Tells all custodians of a final header: those that confirm release nothing any more on proofs older than it.
///
/// # Errors
/// [`Failure`].
pub async fn confirm(app: &App, body: ConfirmBody) -> Answer<ConfirmAnswer> {
    let custody = app.custody()?;
    let question = v1::Confirm {
        header: body.header.0.into(),
        certificate: body.certificate.0.into(),
        key: body.key.as_bytes().to_vec().into(),
        nonce: body.nonce.0.into(),
    };
    let mut answer = ConfirmAnswer {
        confirmed: Vec::new(),
        refused: Vec::new(),
    };
    for (slot, said) in custody.confirm(&question).await {
        match said {
            Ok(confirmed) => answer.confirmed.push(ConfirmedInfo {
                index: slot.index.get(),
                height: confirmed.height,
                custodian: principal(&confirmed.principal)?,
                signature: confirmed.signature.into(),
            }),
            Err(error) => {
                let why = custodian_refusal(slot.index.get(), error.to_refusal());
                answer.refused.push(why);
            }
        }
    }
    Ok(answer)
}

/// A page of a custodian's audit log: in full where the request's principal owns the key or governs, as hashes elsewhere.
///
/// # Errors
/// [`Failure`].
pub async fn audit(app: &App, body: AuditBody) -> Answer<AuditAnswer> {
    let custody = app.custody()?;
    let AuditBody {
        index,
        standby,
        request,
    } = body;
    let asked = Signed::<AuditRequest>::decode(&request.0)
        .map_err(|error| Failure::new(Code::MalformedRecord, format!("audit request: {error}")))?;
    let proof = custody.proof_for_audit(asked.principal, asked.key).await?;
    let page = custody
        .audit(
            (index, standby),
            v1::Audit {
                request: request.0.into(),
                proof: Some(proof),
            },
        )
        .await?;
    let entries = page.entries.into_iter().map(|entry| AuditEntryInfo {
        sequence: entry.sequence,
        hash: entry.hash.into(),
        record: entry.record.map(Into::into),
    });
    Ok(AuditAnswer {
        entries: entries.collect(),
        start: page.start,
        start_hash: page.start_hash.into(),
        start_time_ms: page.start_time_ms,
        head: page.head,
        head_hash: page.head_hash.into(),
        custodian: principal(&page.principal)?,
        signature: page.signature.into(),
    })
}

fn info(slot: Option<Slot>, peer: &Peer) -> EnclaveInfo {
    let state = peer.state();
    EnclaveInfo {
        principal: peer.principal(),
        index: slot.map(|slot| slot.index.get()),
        standby: slot.is_some_and(|slot| slot.standby),
        reachable: state.connected,
        detail: state.reason,
        description: state.description.map(|said| EnclaveDescription {
            role: said.role,
            platform: said.platform,
            measurement: said.measurement.into(),
            software_version: said.version,
            height: said.height,
            time_ms: said.time_ms,
            fresh: said.fresh,
            counters: said.counters.into_iter().collect(),
        }),
    }
}

fn custodian_refusal(index: u8, why: enclave_client::Refusal) -> CustodianRefusal {
    CustodianRefusal {
        index,
        code: why.code,
        detail: why.detail,
        retry: why.retry,
    }
}

fn index(number: u32) -> Answer<u8> {
    u8::try_from(number).map_err(|_| Failure::internal("a share index over 255"))
}

fn principal(bytes: &[u8]) -> Answer<Principal> {
    let bytes = <[u8; 32]>::try_from(bytes);
    bytes
        .map(Principal)
        .map_err(|_| Failure::internal("an enclave's key of another length"))
}
