//! Messages as `custody` takes them, and its answers as messages.

use bytes::Bytes;
use crypto::identity::Signature;
use custody::{
    CiphertextBytes, ConfirmQuestion, Confirmation, Denial, Page, Reason, Release, ShareName,
};
use domain::{GenesisHash, KeyId, KeyVersion, Principal};
use enclave_client::Refusal;
use enclave_wire::{secrets, v1};
use ledger::records::Acknowledgement;

use crate::ceremonies::Step;

pub(crate) fn ciphertexts(ciphertexts: &[v1::Ciphertext]) -> Vec<CiphertextBytes<'_>> {
    ciphertexts
        .iter()
        .take(custody::request::CIPHERTEXTS_MAX + 1)
        .map(|one| CiphertextBytes {
            dh: &one.dh,
            pq_hash: &one.pq_hash,
            context: &one.context,
        })
        .collect()
}

pub(crate) fn release(release: Release, me: &Principal) -> v1::Release {
    v1::Release {
        sealed_partials: release.partials.sealed.into(),
        pq_share: secrets::put(&release.pq_share),
        signature: Some(v1::CustodianSignature {
            index: release.index.get().into(),
            principal: Bytes::copy_from_slice(me.as_bytes()),
            signature: Bytes::copy_from_slice(&release.partials.signature.0),
        }),
    }
}

pub(crate) fn name(key: &[u8], version: u32, fencing: u64) -> Result<ShareName, Denial> {
    let malformed = || Denial::new(Reason::Malformed, "key or version");
    Ok(ShareName {
        key: KeyId(key.try_into().map_err(|_| malformed())?),
        version: KeyVersion::new(version).map_err(|_| malformed())?,
        fencing,
    })
}

pub(crate) fn confirm_question(
    chain: GenesisHash,
    confirm: &v1::Confirm,
) -> Result<ConfirmQuestion, Denial> {
    let malformed = |_| Denial::new(Reason::Malformed, "a key and a nonce have 32 bytes");
    Ok(ConfirmQuestion {
        chain,
        key: KeyId(confirm.key.as_ref().try_into().map_err(malformed)?),
        nonce: confirm.nonce.as_ref().try_into().map_err(malformed)?,
    })
}

pub(crate) fn confirmed(confirmation: &Confirmation) -> v1::Confirmed {
    v1::Confirmed {
        height: confirmation.height.0,
        principal: Bytes::copy_from_slice(confirmation.custodian.as_bytes()),
        signature: Bytes::copy_from_slice(&confirmation.signature.0),
    }
}

pub(crate) fn audit_page(page: Page, me: &Principal, signature: &Signature) -> v1::AuditPage {
    let entries = page.entries.into_iter().map(|entry| v1::AuditEntry {
        sequence: entry.sequence,
        hash: Bytes::copy_from_slice(entry.hash.as_bytes()),
        record: entry.record.map(Bytes::from),
    });
    v1::AuditPage {
        entries: entries.collect(),
        head: page.head.sequence,
        head_hash: Bytes::copy_from_slice(page.head.hash.as_bytes()),
        principal: Bytes::copy_from_slice(me.as_bytes()),
        signature: Bytes::copy_from_slice(&signature.0),
        start: page.start.before.sequence,
        start_hash: Bytes::copy_from_slice(page.start.before.hash.as_bytes()),
        start_time_ms: page.start.time.0,
    }
}

pub(crate) fn step(step: Step) -> v1::CeremonyStep {
    v1::CeremonyStep {
        messages: step
            .messages
            .into_iter()
            .map(|(to, message)| v1::CeremonyMessage {
                to: to.into(),
                message: message.into(),
            })
            .collect(),
        finished: step.finished.map(|(attempt, public)| v1::DhKey {
            attempt: attempt.into(),
            group: Bytes::copy_from_slice(public.group().as_bytes()),
            shares: public
                .shares()
                .iter()
                .map(|share| Bytes::copy_from_slice(share.as_bytes()))
                .collect(),
        }),
        failed: step.failed.map(|denial| Refusal::from(denial).into()),
    }
}

pub(crate) fn acknowledgement(acknowledgement: &Acknowledgement) -> v1::Acknowledgement {
    v1::Acknowledgement {
        index: acknowledgement.slot.index.get().into(),
        standby: acknowledgement.slot.standby,
        signature: Bytes::copy_from_slice(&acknowledgement.signature.0),
    }
}
