//! The relay between enclaves and the ledger, which is believed nothing, and the ledger's answers as clients check them.

use std::io::{Read, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use domain::{Height, MerkleRoot, TimestampMs};
use ledger::header::{sign_freshness, sign_header};
use ledger::port::Freshness;
use ledger::{Certificate, Header, LightClient, Record as _, State, StateKey};
use prost::Message as _;
use relay::v1;
use relay::v1::reply::Outcome;
use relay::{Options, RelayClient, View};

use crate::chain::genesis;
use crate::custody::message;
use crate::{Target, fixed};

pub const RELAY_MESSAGE: Target = Target {
    name: "relay_message",
    run: relay_message,
    seeds: || {
        let mut seeds: Vec<Vec<u8>> = replies()
            .iter()
            .map(prost::Message::encode_to_vec)
            .collect();
        let what = v1::ask::What::Read(v1::Read {
            keys: vec![StateKey::Genesis.encode().into()],
            at_least: 3,
        });
        seeds.push(
            v1::Ask {
                id: 1,
                what: Some(what),
            }
            .encode_to_vec(),
        );
        seeds
    },
};

pub const RELAY_FRAMES: Target = Target {
    name: "relay_frames",
    run: relay_frames,
    seeds: || {
        let mut frames = Vec::new();
        for reply in replies() {
            let bytes = reply.encode_to_vec();
            let len = u32::try_from(bytes.len()).expect("a short reply");
            frames.extend(len.to_be_bytes());
            frames.extend(bytes);
        }
        vec![frames]
    },
};

pub const LEDGER_ANSWER: Target = Target {
    name: "ledger_answer",
    run: ledger_answer,
    seeds: || vec![values().encode_to_vec()],
};

const NONCE: [u8; 32] = [4; 32];

/// What is asked for: a value that is there, and one that is not.
fn keys() -> [Vec<u8>; 2] {
    let absent = StateKey::KeyStatus(domain::KeyId([7; 32]));
    [StateKey::Genesis.encode(), absent.encode()]
}

fn header() -> Header {
    Header {
        genesis: genesis().hash(),
        height: Height(3),
        time: TimestampMs(1_700_000_003_000),
        previous: domain::HeaderHash([1; 32]),
        state_root: STATE.root(),
        transactions_root: MerkleRoot([2; 32]),
        receipts_root: MerkleRoot([3; 32]),
        next_validators: genesis().validators.hash(&fixed::deployment()),
    }
}

static STATE: LazyLock<State> = LazyLock::new(|| State::genesis(genesis()));

fn last() -> v1::Final {
    let signature = sign_header(&fixed::identity(), &fixed::deployment(), &header());
    let certificate = Certificate {
        signatures: vec![signature],
    };
    v1::Final {
        header: header().encode().into(),
        certificate: certificate.encode().into(),
    }
}

fn values() -> v1::Values {
    let value = |key: Vec<u8>| {
        let (value, proof) = STATE.prove(&key);
        v1::Value {
            value: value.map(|value| value.to_vec().into()),
            proof: proof.encode().into(),
        }
    };
    v1::Values {
        values: keys().map(value).to_vec(),
        last: Some(last()),
    }
}

/// One good reply of each kind, numbered as a client numbers its questions.
fn replies() -> Vec<v1::Reply> {
    let fresh = sign_freshness(&fixed::identity(), &fixed::deployment(), &header(), NONCE);
    let outcomes = [
        Outcome::Fresh(v1::FreshAnswers {
            answers: vec![fresh.encode().into()],
        }),
        Outcome::Final(last()),
        Outcome::Values(values()),
        Outcome::Failure(v1::Failure {
            code: "not-reached".to_owned(),
            detail: "height 9".to_owned(),
            wanted: 9,
            height: 3,
            rejection: String::new(),
        }),
    ];
    let numbered = (1..).zip(outcomes);
    numbered
        .map(|(id, outcome)| v1::Reply {
            id,
            outcome: Some(outcome),
        })
        .collect()
}

fn relay_message(input: &[u8]) -> bool {
    message::<v1::Ask>(input).is_some_and(|ask| ask.what.is_some())
        | message::<v1::Reply>(input).is_some_and(|reply| reply.outcome.is_some())
}

/// Values as a client takes them: the pinned genesis alone decides, and what is taken is what the ledger holds.
fn ledger_answer(input: &[u8]) -> bool {
    let Some(answer) = message::<v1::Values>(input).and_then(relay::values_of) else {
        return false;
    };
    let mut client = LightClient::new(&genesis());
    if answer.verify(&mut client, &keys()).is_err() {
        return false;
    }
    assert_eq!(answer.last.header, header(), "nobody signed that");
    for (key, shown) in keys().iter().zip(&answer.values) {
        assert_eq!(shown.value.as_deref(), STATE.get(key).map(|value| &**value));
    }
    true
}

/// Reads so many frames.
fn take(stream: &mut UnixStream, frames: usize) -> std::io::Result<()> {
    for _ in 0..frames {
        let mut len = [0; 4];
        stream.read_exact(&mut len)?;
        let len = u64::from(u32::from_be_bytes(len));
        std::io::copy(&mut Read::by_ref(stream).take(len), &mut std::io::sink())?;
    }
    Ok(())
}

/// Whatever a relay writes: clients get errors or parsed answers, and a view believes nothing that is not signed for its own nonce.
fn relay_frames(input: &[u8]) -> bool {
    static DIR: LazyLock<tempfile::TempDir> =
        LazyLock::new(|| tempfile::tempdir().expect("a scratch folder"));
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let path = DIR.path().join(number.to_string());
    let listener = UnixListener::bind(&path).expect("a socket");
    let bytes = input.to_vec();
    // Two connections: the client's, which asks three things at once, and the view's, which asks one. Each is written the same
    // and then closed.
    let host = std::thread::spawn(move || {
        for questions in [3, 1] {
            let Ok((mut stream, _)) = listener.accept() else {
                return;
            };
            if take(&mut stream, questions).is_err() {
                continue;
            }
            // Whoever asks may be gone before all of it is written.
            let _ = stream.write_all(&bytes);
        }
    });
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    let good = runtime.block_on(async {
        let client = RelayClient::new(&path);
        let keys = keys().map(Into::into).to_vec();
        let (fresh, last, values) = tokio::join!(
            client.freshness(NONCE),
            client.finality(None),
            client.read(keys, Freshness::Local),
        );
        let options = Options {
            tick: Duration::from_millis(200),
            every: Duration::from_secs(60),
            retry: Duration::from_secs(60),
            ..Options::default()
        };
        let view = View::start(RelayClient::new(&path), Arc::new(genesis()), options).await;
        assert!(!view.is_fresh(), "fresh by an answer to another nonce");
        assert_eq!(
            view.newest(),
            None,
            "a header before anybody said what is final"
        );
        fresh.is_ok() && last.is_ok() && values.is_ok()
    });
    // A client that never connected leaves the host waiting: come and go in its place.
    for _ in 0..2 {
        drop(UnixStream::connect(&path));
    }
    host.join().expect("the host ends");
    std::fs::remove_file(&path).expect("the socket");
    good
}
