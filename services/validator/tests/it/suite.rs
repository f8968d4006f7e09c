//! What every engine and every client of one must do. It knows the port and nothing else; another engine runs it as it is.

use domain::Height;
use ledger::port::{Blocks as _, Freshness, Ledger, ReadError, SubmitError};
use ledger::records::{Account, AnchorHead, AnchorKind};
use ledger::{Chain, LightClient, Outcome, Record as _, StateKey, StatePrefix};

use crate::world::{People, anchor, create, decision, setup_changes, signed};

/// Runs everything on a fresh ledger with the tests' genesis.
pub(crate) async fn conforms<L: Ledger>(ledger: &L) {
    let chain = Chain::from(ledger.genesis());
    let mut people = People::default();
    let mut client = LightClient::new(ledger.genesis());

    // A submitted transaction is final when its receipt is there, and its receipt is the one of its block.
    let mut blocks = ledger.subscribe(Height(0)).await.unwrap();
    let bytes = signed(people.get(1), &chain, 0, anchor(1));
    let receipt = ledger.submit(bytes.clone().into()).await.unwrap();
    assert_eq!(receipt.outcome, Outcome::Applied);
    let last = ledger.finality(Some(receipt.height)).await.unwrap();
    client
        .advance(&last.header, &last.certificate, None)
        .unwrap();
    loop {
        let block = blocks.next().await.unwrap();
        if block.last.header.height == receipt.height {
            assert_eq!(block.last, last);
            let index = usize::try_from(receipt.index).unwrap();
            assert_eq!(block.receipts[index], receipt);
            assert_eq!(block.transactions[index], bytes);
            let encoded: Vec<_> = block.receipts.iter().map(ledger::Record::encode).collect();
            assert_eq!(
                ledger::merkle::list::root(&encoded),
                block.last.header.receipts_root
            );
            break;
        }
    }
    assert_eq!(
        ledger.receipt(receipt.transaction).await.unwrap(),
        Some(receipt.clone())
    );
    // Sent again: the same receipt, applied once.
    assert_eq!(ledger.submit(bytes.into()).await.unwrap(), receipt);

    // Values and absence are proved, at the height that was asked for.
    let who = people.principal(1);
    let keys: Vec<bytes::Bytes> = [
        StateKey::Account(who),
        StateKey::AnchorHead(who, AnchorKind::Audit),
        StateKey::AnchorHead(who, AnchorKind::Batch),
    ]
    .iter()
    .map(|key| key.encode().into())
    .collect();
    let at = Freshness::AtLeast(receipt.height);
    let answer = ledger.read(keys.clone(), at).await.unwrap();
    answer.verify(&mut client, &keys).unwrap();
    let account = Account::decode(answer.values[0].value.as_deref().unwrap()).unwrap();
    let head = AnchorHead::decode(answer.values[1].value.as_deref().unwrap()).unwrap();
    assert_eq!((account.nonce, head.total), (1, 10));
    assert_eq!(answer.values[2].value, None);

    // Rejections keep their code, whatever carries them.
    let mut forged = signed(people.get(2), &chain, 0, anchor(1));
    *forged.last_mut().unwrap() ^= 1;
    for (bytes, code) in [
        (
            signed(people.get(1), &chain, 9, anchor(2)),
            "nonce-too-high",
        ),
        (
            signed(people.get(1), &chain, 1, anchor(7)),
            "out-of-sequence",
        ),
        (forged, "bad-signature"),
        (vec![0xa0], "malformed"),
    ] {
        match ledger.submit(bytes.into()).await {
            Err(SubmitError::Rejected(rejection)) => assert_eq!(rejection.code(), code),
            other => panic!("{code}: {other:?}"),
        }
    }

    // A nonce is answered freshly by a quorum.
    let answers = ledger.freshness([5; 32]).await.unwrap();
    assert!(client.freshen(&[5; 32], &answers).unwrap() >= receipt.height);
    assert!(client.freshen(&[6; 32], &answers).is_err());

    // Whole lives go through it too: governance, a key, its listing.
    let changes = setup_changes(&mut people);
    for (nonce, change) in (0_u64..).zip(changes) {
        let action = decision(&mut people, &chain, nonce + 1, change);
        let bytes = signed(people.get(7), &chain, nonce, action);
        ledger.submit(bytes.into()).await.unwrap();
    }
    let (key, action) = create(&mut people, 1, "payroll");
    let bytes = signed(people.get(1), &chain, 1, action);
    let receipt = ledger.submit(bytes.into()).await.unwrap();
    let listed = ledger
        .list(StatePrefix::KeyNames(who), None, 10)
        .await
        .unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].1.as_ref(), key.as_bytes());
    let after = Some(listed[0].0.clone());
    let rest = ledger.list(StatePrefix::KeyNames(who), after, 10).await;
    assert_eq!(rest.unwrap(), []);

    // Heights that are not there, and questions that are too large.
    let beyond = Height(receipt.height.0 + 1_000_000);
    assert!(matches!(
        ledger.finality(Some(beyond)).await,
        Err(ReadError::NotReached { wanted, .. }) if wanted == beyond
    ));
    let many = vec![bytes::Bytes::from_static(b"x"); 65];
    assert!(matches!(
        ledger.read(many, Freshness::Local).await,
        Err(ReadError::Malformed(_))
    ));

    // Many at once, from many senders: each once, and the subscription has every block in order.
    let mut sent = Vec::new();
    for sender in 100..140_u64 {
        let who = people.get(sender);
        sent.push(
            (0..3)
                .map(|n| signed(who, &chain, n, anchor(n + 1)))
                .collect::<Vec<_>>(),
        );
    }
    let all = sent.into_iter().map(|transactions| async move {
        for bytes in transactions {
            ledger.submit(bytes.into()).await.unwrap();
        }
    });
    futures_util::future::join_all(all).await;
    let newest = ledger.finality(None).await.unwrap().header;
    let mut from_start = ledger.subscribe(Height(1)).await.unwrap();
    let mut applied = 0;
    let mut previous: Option<ledger::Header> = None;
    loop {
        let block = from_start.next().await.unwrap();
        let header = block.last.header;
        if let Some(previous) = previous {
            assert_eq!(header.height.0, previous.height.0 + 1);
            assert_eq!(header.previous, previous.hash(&chain.deployment));
            assert!(header.time >= previous.time);
        }
        applied += block.transactions.len();
        let done = header.height == newest.height;
        previous = Some(header);
        if done {
            break;
        }
    }
    assert_eq!(applied, 1 + 4 + 1 + 120);
}
