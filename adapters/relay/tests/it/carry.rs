//! What the relay carries, its bounds, and that it starts again.

use std::time::Duration;

use bytes::Bytes;
use domain::Height;
use ledger::port::{Freshness, ReadError, SubmitError};
use ledger::records::Account;
use ledger::{LightClient, Outcome, Record as _, StateKey, StatePrefix};
use relay::Limits;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use crate::support::{Lie, Rig};
use crate::world::{People, World, anchor, genesis, signed};

#[tokio::test(flavor = "multi_thread")]
async fn questions_and_answers_come_through_whole() {
    let rig = Rig::new();
    let client = rig.client();
    let mut people = People::default();
    let chain = rig.ledger.with_world(|world| world.chain);
    let mut light = LightClient::new(&genesis(true));

    let bytes = signed(people.get(1), &chain, 0, anchor(1));
    let receipt = client.submit(bytes.into()).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Applied);
    let last = client.finality(Some(receipt.height)).await.unwrap();
    light
        .advance(&last.header, &last.certificate, None)
        .unwrap();
    let answers = client.freshness([3; 32]).await.unwrap();
    assert_eq!(light.freshen(&[3; 32], &answers).unwrap(), receipt.height);

    let who = people.principal(1);
    let keys: Vec<Bytes> = [
        StateKey::Account(who),
        StateKey::Account(people.principal(2)),
    ]
    .iter()
    .map(|key| key.encode().into())
    .collect();
    let at = Freshness::AtLeast(receipt.height);
    let answer = client.read(keys.clone(), at).await.unwrap();
    answer.verify(&mut light, &keys).unwrap();
    let account = Account::decode(answer.values[0].value.as_deref().unwrap()).unwrap();
    assert_eq!(account.nonce, 1);
    assert_eq!(answer.values[1].value, None);

    let (all, more) = client
        .list(StatePrefix::Enrolments, None, 10)
        .await
        .unwrap();
    assert_eq!((all.len(), more), (2, false));
    let (one, more) = client.list(StatePrefix::Enrolments, None, 1).await.unwrap();
    assert_eq!((one.len(), more), (1, true));
    let after = Some(one[0].0.clone());
    let (rest, _) = client
        .list(StatePrefix::Enrolments, after, 10)
        .await
        .unwrap();
    assert_eq!(rest, all[1..]);

    // What is refused keeps its kind.
    let again = signed(people.get(2), &chain, 5, anchor(1));
    match client.submit(again.into()).await {
        Err(SubmitError::Rejected(rejection)) => assert_eq!(rejection.code(), "nonce-too-high"),
        other => panic!("{other:?}"),
    }
    let beyond = Height(1_000);
    assert!(matches!(
        client.read(keys, Freshness::AtLeast(beyond)).await,
        Err(ReadError::NotReached { wanted, .. }) if wanted == beyond
    ));
    assert!(matches!(
        client.finality(Some(beyond)).await,
        Err(ReadError::Pruned(height)) if height == beyond
    ));
    let many = vec![Bytes::from_static(b"k"); 65];
    for bad in [many, Vec::new(), vec![Bytes::from(vec![0; 257])]] {
        let refused = client.read(bad, Freshness::Local).await;
        assert!(
            matches!(refused, Err(ReadError::Malformed(_))),
            "{refused:?}"
        );
    }
    assert!(matches!(
        client.submit(vec![0; 300_000].into()).await,
        Err(SubmitError::Unavailable(_))
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn many_questions_at_once_each_get_their_own_answer() {
    let rig = Rig::new();
    let client = rig.client();
    let asked = (0..200_u8).map(|number| {
        let client = client.clone();
        async move {
            let nonce = [number; 32];
            let answers = client.freshness(nonce).await.unwrap();
            assert_eq!(answers[0].nonce, nonce);
        }
    });
    futures_util::future::join_all(asked).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_that_comes_back_is_found_again() {
    let mut rig = Rig::new();
    let client = rig.client();
    client.finality(None).await.unwrap();
    rig.kill().await;
    assert!(matches!(
        client.finality(None).await,
        Err(ReadError::Unavailable(_))
    ));
    rig.listen(Limits::default());
    client.finality(None).await.unwrap();
}

async fn is_closed(stream: &mut UnixStream) -> bool {
    let mut byte = [0];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut byte)).await;
    matches!(read, Ok(Ok(0) | Err(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_ends_its_connection_and_no_other() {
    let rig = Rig::new();
    let client = rig.client();
    client.finality(None).await.unwrap();
    let frames: [&[u8]; 3] = [
        // Longer than any question.
        &[0xff, 0xff, 0xff, 0xff, 1, 2],
        &[0, 3, 0, 1],
        // No message.
        &[0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff],
    ];
    for garbage in frames {
        let mut stream = UnixStream::connect(rig.path()).await.unwrap();
        stream.write_all(garbage).await.unwrap();
        assert!(is_closed(&mut stream).await, "{garbage:?}");
    }
    client.finality(None).await.unwrap();
    // A question that asks nothing is answered as malformed.
    let mut stream = UnixStream::connect(rig.path()).await.unwrap();
    stream.write_all(&[0, 0, 0, 2, 8, 5]).await.unwrap();
    let mut head = [0; 6];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[4..], [8, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_questions_and_waits_are_bounded() {
    let limits = Limits {
        connections_max: 2,
        open_max: 2,
        open_total_max: 2,
        answer: Duration::from_millis(300),
        idle: Duration::from_millis(700),
        ..Limits::default()
    };
    let rig = Rig::with(World::ready(), true, limits);
    let mut first = UnixStream::connect(rig.path()).await.unwrap();
    let mut second = UnixStream::connect(rig.path()).await.unwrap();
    // A third waits until one of them has been silent for too long.
    let client = rig.client();
    let started = std::time::Instant::now();
    client.finality(None).await.unwrap();
    assert!(started.elapsed() > Duration::from_millis(400));
    assert!(is_closed(&mut first).await && is_closed(&mut second).await);
    // A ledger that does not answer is given up, and the connection goes on.
    rig.ledger.lie(Lie::Silence);
    match client.finality(None).await {
        Err(ReadError::Unavailable(why)) => assert!(why.contains("too long"), "{why}"),
        other => panic!("{other:?}"),
    }
    rig.ledger.lie(Lie::None);
    client.finality(None).await.unwrap();
}
