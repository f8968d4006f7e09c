//! Relays, reflections, replays, swapped roles, wrong programs: each attempt, and the reason it fails for.

use std::sync::Arc;

use attestation::{Measurement, Role, Verifiers};
use attested::{Admit, Endpoint, Local, Trust};
use domain::DeploymentId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::attacker::Attacker;
use crate::support::{
    CUSTODIAN, DEPLOYMENT, Source, WORKER, World, code, enclaves, everyone, join,
};

/// A worker with that source against a true custodian; what the two sides say.
async fn worker_with(source: Source) -> (String, String) {
    let world = World::new();
    let worker = world.with_source(Role::Worker, source);
    let (a, b) = join(&worker, Role::Custodian, &world.custodian(), &enclaves()).await;
    (code(a), code(b))
}

/// The same as the accepting side: its lie is found out before the other proves anything.
async fn custodian_with(source: Source) -> (String, String) {
    let world = World::new();
    let custodian = world.with_source(Role::Custodian, source);
    let (a, b) = join(&world.worker(), Role::Custodian, &custodian, &enclaves()).await;
    (code(a), code(b))
}

#[tokio::test]
async fn each_flaw_in_evidence_is_refused_for_its_own_reason() {
    let good = || Source::of(WORKER);
    let table = [
        (good(), "accepted"),
        (
            Source {
                measurement: Measurement([9; 32]),
                ..good()
            },
            "measurement-not-allowed",
        ),
        // A custodian's program does not make a worker.
        (
            Source {
                measurement: CUSTODIAN,
                ..good()
            },
            "measurement-not-allowed",
        ),
        (
            Source {
                debug: true,
                ..good()
            },
            "debug-enclave",
        ),
        (Source { root: 8, ..good() }, "evidence-signature"),
        (
            Source {
                deployment: DeploymentId([9; 32]),
                ..good()
            },
            "evidence-signature",
        ),
        (
            Source {
                lifetime_ms: 0,
                ..good()
            },
            "evidence-expired",
        ),
        (
            Source {
                lifetime_ms: 3_600_001,
                ..good()
            },
            "evidence-too-long",
        ),
        // Swapped role: honest evidence of a custodian from one who acts as a worker.
        (
            Source {
                role: Some(Role::Custodian),
                measurement: CUSTODIAN,
                ..good()
            },
            "wrong-role",
        ),
    ];
    for (source, expect) in table {
        let (worker, custodian) = worker_with(source).await;
        assert_eq!(custodian, expect);
        let told = if expect == "accepted" {
            "accepted".to_owned()
        } else {
            format!("peer: {expect}")
        };
        assert_eq!(worker, told);
    }
}

#[tokio::test]
async fn the_accepting_side_is_held_to_the_same() {
    let good = || Source::of(CUSTODIAN);
    let table = [
        (good(), "accepted"),
        (
            Source {
                measurement: Measurement([9; 32]),
                ..good()
            },
            "measurement-not-allowed",
        ),
        (
            Source {
                debug: true,
                ..good()
            },
            "debug-enclave",
        ),
        (Source { root: 8, ..good() }, "evidence-signature"),
        (
            Source {
                role: Some(Role::Worker),
                ..good()
            },
            "wrong-role",
        ),
    ];
    for (source, expect) in table {
        let (worker, custodian) = custodian_with(source).await;
        assert_eq!(worker, expect);
        let told = if expect == "accepted" {
            "accepted".to_owned()
        } else {
            format!("peer: {expect}")
        };
        assert_eq!(custodian, told);
    }
}

/// Evidence from an earlier session of the same two processes, presented again in the next.
#[tokio::test]
async fn replayed_evidence_is_refused() {
    let world = World::new();
    let source = Arc::new(Source::of(WORKER));
    let worker = world.endpoint(Local::Enclave {
        role: Role::Worker,
        source: source.clone(),
    });
    let custodian = world.custodian();
    let (a, b) = join(&worker, Role::Custodian, &custodian, &enclaves()).await;
    assert!(a.is_ok() && b.is_ok());
    let first = source.made.lock().unwrap().pop().unwrap();
    let replaying = Source {
        replay: Some(first),
        ..Source::of(WORKER)
    };
    let replaying = world.with_source(Role::Worker, replaying);
    let (_, b) = join(&replaying, Role::Custodian, &custodian, &enclaves()).await;
    assert_eq!(code(b), "wrong-session");
}

/// The middleman ends one TLS session with each side and hands everything inside from one to the other.
#[tokio::test]
async fn a_middleman_cannot_relay_evidence() {
    let world = World::new();
    let (worker, custodian) = (world.worker(), world.custodian());
    // Keys of the middleman's own: the TLS layer asks nobody who they are.
    let (to_worker, to_custodian) = (Attacker::new(), Attacker::new());
    let (left, middle_left) = tokio::io::duplex(1 << 16);
    let (middle_right, right) = tokio::io::duplex(1 << 16);
    let relay = async {
        let (from_worker, from_custodian) = tokio::join!(
            to_worker.accept(middle_left),
            to_custodian.connect(middle_right),
        );
        let (mut from_worker, mut from_custodian) = (from_worker.unwrap(), from_custodian.unwrap());
        let _ = tokio::io::copy_bidirectional(&mut from_worker, &mut from_custodian).await;
    };
    let admit = enclaves();
    let sides = async {
        let (a, b) = tokio::join!(
            worker.connect(left, Role::Custodian),
            custodian.accept(right, &admit)
        );
        (code(a), code(b))
    };
    let ((a, b), ()) = tokio::join!(sides, relay);
    // The worker sees true evidence of a true custodian, for another session.
    assert_eq!(a, "wrong-session");
    assert_eq!(b, "peer: wrong-session");
}

/// A middleman who passes the bytes on untouched is only a network: that works.
#[tokio::test]
async fn a_network_in_between_changes_nothing() {
    let world = World::new();
    let (worker, custodian) = (world.worker(), world.custodian());
    let (left, mut middle_left) = tokio::io::duplex(1 << 16);
    let (mut middle_right, right) = tokio::io::duplex(1 << 16);
    let network = tokio::spawn(async move {
        let _ = tokio::io::copy_bidirectional(&mut middle_left, &mut middle_right).await;
    });
    let admit = enclaves();
    let (a, b) = tokio::join!(
        worker.connect(left, Role::Custodian),
        custodian.accept(right, &admit)
    );
    assert!(a.is_ok() && b.is_ok());
    network.abort();
}

/// Its own hello and evidence of its own program come back to the one who connects.
#[tokio::test]
async fn own_evidence_reflected_is_refused() {
    let world = World::new();
    let custodian = world.custodian();
    let mirror = Attacker::new();
    let (left, right) = tokio::io::duplex(1 << 16);
    let reflect = async {
        let mut tls = mirror.accept(right).await.unwrap();
        let hello = message(&mut tls).await;
        send(&mut tls, &hello).await;
        // Its own evidence for this session is not made before it has judged ours; so honest evidence of its program
        // for any other session has to do.
        let evidence = Source::of(CUSTODIAN);
        let report_data = attestation::ReportData([0; 64]);
        let evidence = attestation::EvidenceSource::evidence(
            &evidence,
            Role::Custodian,
            &report_data,
            domain::TimestampMs(crate::support::START),
        );
        send(&mut tls, &evidence.unwrap().encode().unwrap()).await;
        let _ = tls.read_u8().await;
    };
    let (a, ()) = tokio::join!(custodian.connect(left, Role::Custodian), reflect);
    assert_eq!(code(a), "wrong-session");
}

/// The mirror again, from the accepting side, where the victim's own evidence for this very session is at hand.
#[tokio::test]
async fn evidence_of_the_same_session_cannot_be_sent_back() {
    let world = World::new();
    let custodian = world.custodian();
    let mirror = Attacker::new();
    let (left, right) = tokio::io::duplex(1 << 16);
    let reflect = async {
        let mut tls = mirror.connect(left).await.unwrap();
        // Acts as a custodian too, so that role and measurement fit.
        let mut hello = vec![1, Role::Custodian.code()];
        hello.extend([5; 32]);
        send(&mut tls, &hello).await;
        let _hello = message(&mut tls).await;
        let evidence = message(&mut tls).await;
        send(&mut tls, &[0]).await;
        send(&mut tls, &evidence).await;
        message(&mut tls).await
    };
    let admit = enclaves();
    let (b, verdict) = tokio::join!(custodian.accept(right, &admit), reflect);
    assert_eq!(code(b), "wrong-session");
    assert_eq!(verdict, [&[1], b"wrong-session".as_slice()].concat());
}

/// A process that reaches itself notices.
#[tokio::test]
async fn a_process_does_not_talk_to_itself() {
    let world = World::new();
    let custodian = world.custodian();
    let (a, b) = join(&custodian, Role::Custodian, &custodian, &enclaves()).await;
    assert_eq!(
        (code(a).as_str(), code(b).as_str()),
        ("connection", "own-key")
    );
}

#[tokio::test]
async fn roles_are_what_the_caller_and_the_port_want() {
    let world = World::new();
    let (worker, custodian, client) = (world.worker(), world.custodian(), world.client());
    // Wanted a custodian, met a worker.
    let (a, b) = join(&client, Role::Custodian, &worker, &everyone()).await;
    assert_eq!(
        (code(a).as_str(), code(b).as_str()),
        ("role-not-admitted", "peer: role-not-admitted")
    );
    // The port admits custodians only.
    let only = Admit::roles(&[Role::Custodian]);
    let (a, b) = join(&worker, Role::Custodian, &custodian, &only).await;
    assert_eq!(
        (code(a).as_str(), code(b).as_str()),
        ("peer: role-not-admitted", "role-not-admitted")
    );
    // No evidence, on a port that admits clients, and on one that does not.
    let (a, b) = join(&client, Role::Custodian, &custodian, &everyone()).await;
    let (a, b) = (a.unwrap(), b.unwrap());
    assert_eq!(b.peer().role, Role::Client);
    assert!(b.peer().appraisal.is_none());
    assert_eq!(&a.peer().key, custodian.public_key());
    assert_eq!(&b.peer().key, client.public_key());
    let (a, b) = join(&client, Role::Custodian, &custodian, &enclaves()).await;
    assert_eq!(
        (code(a).as_str(), code(b).as_str()),
        ("peer: role-not-admitted", "role-not-admitted")
    );
}

/// Says that it is a worker and proves nothing; says that it is a client and proves something.
#[tokio::test]
async fn a_role_goes_with_its_proof() {
    for (role, evidence, expect) in [
        (Role::Worker, Vec::new(), "no-evidence"),
        (Role::Client, vec![1], "protocol"),
        (Role::Worker, vec![1], "malformed-evidence"),
    ] {
        let world = World::new();
        let custodian = world.custodian();
        let liar = Attacker::new();
        let (left, right) = tokio::io::duplex(1 << 16);
        let lie = async {
            let mut tls = liar.connect(left).await.unwrap();
            let mut hello = vec![1, role.code()];
            hello.extend([5; 32]);
            send(&mut tls, &hello).await;
            message(&mut tls).await;
            message(&mut tls).await;
            send(&mut tls, &[0]).await;
            send(&mut tls, &evidence).await;
            message(&mut tls).await
        };
        let admit = everyone();
        let (b, verdict) = tokio::join!(custodian.accept(right, &admit), lie);
        assert_eq!(code(b), expect);
        assert_eq!(verdict, [&[1], expect.as_bytes()].concat());
    }
}

/// A process of a production deployment has no verifier for software evidence: both refuse, and say so.
#[tokio::test]
async fn a_production_genesis_refuses_software_evidence() {
    let world = World::new();
    let production = |local| {
        let trust = Trust {
            verifiers: Verifiers::new(),
            ..world.trust()
        };
        Endpoint::new(local, trust, world.limits).unwrap()
    };
    let (a, b) = join(
        &production(Local::Client),
        Role::Custodian,
        &world.custodian(),
        &everyone(),
    )
    .await;
    assert_eq!(
        (code(a).as_str(), code(b).as_str()),
        ("unsupported-platform", "peer: unsupported-platform")
    );
    let source = Arc::new(Source::of(CUSTODIAN));
    let custodian = production(Local::Enclave {
        role: Role::Custodian,
        source,
    });
    let (a, b) = join(&world.worker(), Role::Custodian, &custodian, &enclaves()).await;
    assert_eq!(
        (code(a).as_str(), code(b).as_str()),
        ("peer: unsupported-platform", "unsupported-platform")
    );
}

#[tokio::test]
async fn another_deployments_processes_get_no_session() {
    let world = World::new();
    let trust = Trust {
        deployment: DeploymentId([9; 32]),
        ..world.trust()
    };
    assert_ne!(trust.deployment, DEPLOYMENT);
    let source = Arc::new(Source::of(WORKER));
    let stranger = Local::Enclave {
        role: Role::Worker,
        source,
    };
    let stranger = Endpoint::new(stranger, trust, world.limits).unwrap();
    let (a, b) = join(&stranger, Role::Custodian, &world.custodian(), &enclaves()).await;
    // The verifier is the same here; the report data is not.
    assert_eq!(
        (code(a).as_str(), code(b).as_str()),
        ("wrong-session", "peer: wrong-session")
    );
}

/// Garbage after the handshake, of every kind, gives an error and nothing else.
#[tokio::test]
async fn garbage_is_refused() {
    for (garbage, expect) in [
        (vec![0, 0, 0, 34, 2], "protocol"),
        (vec![0xff; 64], "message-too-long"),
        (vec![0, 0, 0, 35], "message-too-long"),
        (vec![0, 0, 0, 0], "protocol"),
        (vec![0, 0, 0, 2, 1, 9], "protocol"),
        (vec![0, 0, 0, 3, 1, 1, 1], "protocol"),
        (vec![0, 0], "protocol"),
    ] {
        let world = World::new();
        let custodian = world.custodian();
        let liar = Attacker::new();
        let (left, right) = tokio::io::duplex(1 << 16);
        let lie = async {
            let mut tls = liar.connect(left).await.unwrap();
            tls.write_all(&garbage).await.unwrap();
            tls.shutdown().await.unwrap();
            let _ = tls.read_to_end(&mut Vec::new()).await;
        };
        let admit = everyone();
        let accept = async { code(custodian.accept(right, &admit).await) };
        let (b, ()) = tokio::join!(accept, lie);
        assert_eq!(b, expect, "{garbage:?}");
    }
}

async fn send<S: tokio::io::AsyncWrite + Unpin>(stream: &mut S, body: &[u8]) {
    let length = u32::try_from(body.len()).unwrap();
    stream.write_u32(length).await.unwrap();
    stream.write_all(body).await.unwrap();
    stream.flush().await.unwrap();
}

async fn message<S: tokio::io::AsyncRead + Unpin>(stream: &mut S) -> Vec<u8> {
    let length = stream.read_u32().await.unwrap();
    let mut body = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut body).await.unwrap();
    body
}
