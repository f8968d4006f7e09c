//! A client's side of a request to decrypt.

use crypto::Secret;
use crypto::context::{ContextHash, EncryptionContext};
use crypto::identity::Signature;
use crypto::kem::{Encapsulator, KemCiphertext, KeyRef, PublicKeys, SharedSecrets};
use crypto::ristretto::Element;
use custody::{
    DecryptRequest, KemHashes, Operation, Recipient, RequestHash, SealedPartials, SealedSecrets,
};
use domain::{Height, KeyId, KeyVersion, Principal, ShareIndex, TimestampMs};
use enclave_wire::v1;
use ledger::records::{Committee, VersionEntry, VersionStatement};
use ledger::{Record as _, StateKey};
use sealed::signed::Signed;
use threshold::partial::{Request, combine, verify};
use threshold::{DhPublic, Partial};

use crate::{DEPLOYMENT, Deployment, person, rng};

/// A request, and what its answer must open to.
pub struct Opening {
    /// What a worker is sent.
    pub ask: v1::Decrypt,
    hash: RequestHash,
    recipient: Recipient,
    made: Vec<(KemCiphertext, Secret<32>)>,
    key: KeyRef,
    public: DhPublic,
    committee: Committee,
    context: ContextHash,
}

/// A custodian whose partials do not hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongPartials(pub ShareIndex);

impl Deployment {
    /// A request of a person for `count` fresh ciphertexts under the first version of a key.
    pub async fn opening(&self, who: u8, key: KeyId, count: usize) -> Opening {
        let names = [
            StateKey::KeyCreation(key),
            StateKey::KeyStatus(key),
            StateKey::KeyVersion(key, KeyVersion::FIRST),
            StateKey::Committee(self.committee_id()),
            StateKey::KeyGrant(key, person(who).principal()),
        ];
        let (proof, header) = self.proof(&names).await;
        let entry = VersionEntry::decode(proof.values[2].value.as_ref().unwrap()).unwrap();
        let statement = VersionStatement::decode(&entry.statement).unwrap();
        let key_ref = KeyRef {
            deployment: DEPLOYMENT,
            key,
            version: statement.version,
            public: PublicKeys::from_bytes(&statement.pq, &statement.dh).unwrap(),
        };
        let list = statement
            .commitment_list(&DEPLOYMENT, self.committee.threshold, &entry.commitments)
            .unwrap();
        let public = list.dh_public(key_ref.public.dh).unwrap();
        let context = EncryptionContext::from_user([("purpose", "test")]).unwrap();
        let hash = context.hash(&DEPLOYMENT);
        let encapsulator = Encapsulator::new(key_ref.clone());
        let made: Vec<(KemCiphertext, Secret<32>)> = (0..count)
            .map(|_| encapsulator.encapsulate(&mut rng(), &hash))
            .collect();
        let recipient = Recipient::generate(&mut rng());
        let mut nonce = [0; 16];
        getrandom::fill(&mut nonce).unwrap();
        let hashes = made.iter().map(|(one, _)| one.kem_hash(&DEPLOYMENT, hash));
        let request = DecryptRequest {
            chain: self.genesis.hash(),
            principal: person(who).principal(),
            operation: Operation::Decrypt,
            key,
            version: KeyVersion::FIRST,
            kem_hashes: KemHashes::new(hashes.collect()).unwrap(),
            recipient_dh: recipient.dh(),
            recipient_pq: recipient.pq(),
            min_height: Height(0),
            issued: header.time,
            expires: TimestampMs(header.time.0 + 60_000),
            nonce,
            job: None,
        };
        let ciphertext = |one: &KemCiphertext| v1::Ciphertext {
            dh: one.dh.to_bytes().to_vec().into(),
            pq_hash: one.parts(&DEPLOYMENT, hash).pq.0.to_vec().into(),
            pq: one.pq.as_bytes().to_vec().into(),
            context: context.encode().into(),
        };
        let ask = v1::Decrypt {
            request: Signed::sign(&person(who), &DEPLOYMENT, request.clone())
                .encode()
                .into(),
            ciphertexts: made.iter().map(|(one, _)| ciphertext(one)).collect(),
            proof: Some(proof),
            avoid: Vec::new(),
        };
        Opening {
            ask,
            hash: request.hash(&DEPLOYMENT),
            recipient,
            made,
            key: key_ref,
            public,
            committee: self.committee.clone(),
            context: hash,
        }
    }
}

impl Opening {
    /// Opens an answer as a client does, and checks that the keys come out which were put in. How many custodians took part.
    ///
    /// # Errors
    /// [`WrongPartials`].
    pub fn open(&self, opened: &v1::Opened) -> Result<usize, WrongPartials> {
        let count = self.made.len();
        let mut partials: Vec<Vec<Partial>> = (0..count).map(|_| Vec::new()).collect();
        for sealed in &opened.partials {
            let signed = sealed.signature.as_ref().unwrap();
            let index = ShareIndex::new(u8::try_from(signed.index).unwrap()).unwrap();
            let member = self.committee.member(crate::slot(index.get())).unwrap();
            let answer = SealedPartials {
                sealed: sealed.sealed.to_vec(),
                signature: Signature(signed.signature[..].try_into().unwrap()),
            };
            let sharing = self.public.sharing();
            let theirs = self
                .recipient
                .open_partials(&member.key, sharing, index, &self.hash, count, &answer)
                .map_err(|_| WrongPartials(index))?;
            for (one, all) in theirs.into_iter().zip(&mut partials) {
                all.push(one);
            }
        }
        let worker = Principal(opened.worker[..].try_into().unwrap());
        let secrets = SealedSecrets {
            sealed: opened.sealed_secrets.to_vec(),
            signature: Signature(opened.signature[..].try_into().unwrap()),
        };
        let secrets = self
            .recipient
            .open_secrets(&worker, &DEPLOYMENT, &self.hash, count, &secrets)
            .unwrap();
        for (((ciphertext, expected), partials), pq) in self.made.iter().zip(partials).zip(secrets)
        {
            let u = Element::from_bytes(&ciphertext.dh.u).unwrap();
            let request = Request {
                public: &self.public,
                u: &u,
                request_hash: &self.hash.0,
            };
            let verified = partials
                .into_iter()
                .map(|partial| verify(&request, partial).map_err(|bad| WrongPartials(bad.0)))
                .collect::<Result<Vec<_>, _>>()?;
            let dh = combine(&verified).unwrap();
            let shared = SharedSecrets { pq, dh };
            let derived = self.key.derive_key(ciphertext, &self.context, &shared);
            assert!(
                derived.ct_eq(expected),
                "another key comes out than was put in"
            );
        }
        Ok(opened.partials.len())
    }
}
