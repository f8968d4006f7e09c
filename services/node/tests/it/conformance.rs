//! What a node does for a gateway, with the shipped store, the same over both listeners.

use bytes::Bytes;
use domain::limits::SHARD_BYTES_MAX;
use domain::{Cid, ShardTag};
use futures_util::StreamExt as _;
use transport::{
    ListFilter, NodeClient, PeerError, Refusal, ShardState, ShardSummary, Stored, WriteState,
};

use crate::support::{Kind, Running, content, over_both, put, put_as, read, soon};

over_both!(
    shards_come_back_as_they_went_in,
    ranges_are_exact,
    the_proof_travels_in_the_same_answer,
    a_shard_is_put_once,
    bytes_that_are_not_the_cids_are_refused,
    deleted_shards_can_be_restored,
    has_answers_in_order,
    lists_are_ordered_paged_and_filtered,
    stats_tell_what_is_there,
    many_at_once_do_not_mix,
);

async fn shards_come_back_as_they_went_in(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    for length in [1, 4_095, 65_536, 419_431, 1 << 20, SHARD_BYTES_MAX] {
        let body = content(length as u64, length);
        assert_eq!(
            put(&gateway, &body).await,
            Ok(Stored { already: false }),
            "{length}"
        );
        assert_eq!(read(&gateway, &body).await.unwrap(), body, "{length}");
        assert_eq!(
            gateway.verify(Cid::of_raw(&body), soon()).await,
            Ok(ShardState::Intact)
        );
    }
    let absent = Cid::of_raw(b"absent");
    assert_eq!(
        gateway.get(absent, None, false, soon()).await,
        Err(PeerError::NotFound)
    );
    assert_eq!(
        gateway.verify(absent, soon()).await,
        Ok(ShardState::Missing)
    );
}

async fn ranges_are_exact(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let body = content(1, 200_000);
    let cid = Cid::of_raw(&body);
    // In pieces: how a body is cut on its way does not matter.
    let pieces = vec![body.slice(..1), body.slice(1..70_000), body.slice(70_000..)];
    gateway
        .put(cid, ShardTag::Chunk, Bytes::new(), pieces, soon())
        .await
        .unwrap();
    for range in [0..1, 0..200_000, 65_536..131_072, 199_999..200_000] {
        let read = gateway
            .get(cid, Some(range.clone()), false, soon())
            .await
            .unwrap();
        let (start, end) = (range.start as usize, range.end as usize);
        assert_eq!(read.body.concat(), body.slice(start..end), "{range:?}");
        assert_eq!(read.total_bytes, 200_000);
    }
    for range in [200_000..200_001, 199_999..200_001, 0..4_000_000] {
        let outcome = gateway.get(cid, Some(range.clone()), false, soon()).await;
        assert!(
            matches!(
                outcome,
                Err(PeerError::Refused {
                    reason: Refusal::BadRange,
                    ..
                })
            ),
            "{range:?}: {outcome:?}"
        );
    }
}

async fn the_proof_travels_in_the_same_answer(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let (body, proof) = (content(1, 100_000), content(2, 2_048));
    put_as(&gateway, &body, ShardTag::Chunk, proof.clone())
        .await
        .unwrap();
    let cid = Cid::of_raw(&body);
    let whole = gateway.get(cid, None, true, soon()).await.unwrap();
    assert_eq!(
        (whole.proof.as_ref(), Bytes::from(whole.body.concat())),
        (Some(&proof), body.clone())
    );
    let part = gateway.get(cid, Some(10..20), true, soon()).await.unwrap();
    assert_eq!(
        (part.proof, Bytes::from(part.body.concat())),
        (Some(proof), body.slice(10..20))
    );
    assert_eq!(
        gateway.get(cid, None, false, soon()).await.unwrap().proof,
        None
    );

    let bare = content(3, 1_000);
    put(&gateway, &bare).await.unwrap();
    assert_eq!(
        gateway
            .get(Cid::of_raw(&bare), None, true, soon())
            .await
            .unwrap()
            .proof,
        None
    );
}

async fn a_shard_is_put_once(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let body = content(1, 5_000);
    assert_eq!(put(&gateway, &body).await, Ok(Stored { already: false }));
    assert_eq!(put(&gateway, &body).await, Ok(Stored { already: true }));
    assert_eq!(gateway.stats(soon()).await.unwrap().shard_count, 1);
}

async fn bytes_that_are_not_the_cids_are_refused(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let cid = Cid::of_raw(b"these");
    let outcome = gateway
        .put(
            cid,
            ShardTag::Chunk,
            Bytes::new(),
            vec![Bytes::from_static(b"those")],
            soon(),
        )
        .await;
    assert!(
        matches!(
            outcome,
            Err(PeerError::Refused {
                reason: Refusal::CidMismatch,
                ..
            })
        ),
        "{outcome:?}"
    );
    assert_eq!(
        gateway.get(cid, None, false, soon()).await,
        Err(PeerError::NotFound)
    );
}

async fn deleted_shards_can_be_restored(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let body = content(1, 5_000);
    let cid = Cid::of_raw(&body);
    put(&gateway, &body).await.unwrap();
    assert_eq!(gateway.delete(cid, soon()).await, Ok(true));
    assert_eq!(gateway.delete(cid, soon()).await, Ok(false));
    assert_eq!(read(&gateway, &body).await, Err(PeerError::NotFound));
    assert_eq!(gateway.stats(soon()).await.unwrap().trash_count, 1);
    assert_eq!(gateway.restore(cid, soon()).await, Ok(true));
    assert_eq!(read(&gateway, &body).await.unwrap(), body);
    // Nothing to do is done.
    assert_eq!(gateway.restore(cid, soon()).await, Ok(true));
    assert_eq!(
        gateway.restore(Cid::of_raw(b"never there"), soon()).await,
        Ok(false)
    );
}

async fn has_answers_in_order(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let (here, gone) = (content(1, 100), content(2, 100));
    put(&gateway, &here).await.unwrap();
    put(&gateway, &gone).await.unwrap();
    gateway.delete(Cid::of_raw(&gone), soon()).await.unwrap();
    let [a, b, c] = [
        Cid::of_raw(b"never"),
        Cid::of_raw(&here),
        Cid::of_raw(&gone),
    ];
    assert_eq!(
        gateway.has(vec![a, b, c, b], soon()).await,
        Ok(vec![false, true, false, true])
    );
    assert_eq!(gateway.has(Vec::new(), soon()).await, Ok(Vec::new()));
    // More than one message holds.
    let many = [vec![a; 10_000], vec![b; 5]].concat();
    let found = gateway.has(many, soon()).await.unwrap();
    assert_eq!(
        (found.len(), found.iter().filter(|has| **has).count()),
        (10_005, 5)
    );
}

async fn lists_are_ordered_paged_and_filtered(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let mut expected = Vec::new();
    for n in 0_u32..30 {
        let tag = match n % 3 {
            0 => ShardTag::Chunk,
            1 => ShardTag::Small {
                epoch: u64::from(n),
            },
            _ => ShardTag::Recovery {
                epoch: u64::from(n),
            },
        };
        let body = content(u64::from(n), 100 + n as usize);
        put_as(&gateway, &body, tag, Bytes::new()).await.unwrap();
        expected.push(ShardSummary {
            cid: Cid::of_raw(&body),
            tag,
            total_bytes: 100 + n,
        });
    }
    expected.sort_by_key(|shard| shard.cid);
    let all = ListFilter::default();
    assert_eq!(page(&gateway, all, 7).await, expected);
    let small = ListFilter {
        kind: Some(1),
        epoch_below: None,
    };
    let wanted = |keep: &dyn Fn(ShardTag) -> bool| {
        expected
            .iter()
            .copied()
            .filter(|shard| keep(shard.tag))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        page(&gateway, small, 4).await,
        wanted(&|tag| matches!(tag, ShardTag::Small { .. }))
    );
    let old = ListFilter {
        kind: Some(2),
        epoch_below: Some(10),
    };
    assert_eq!(
        page(&gateway, old, 2).await,
        wanted(&|tag| matches!(tag, ShardTag::Recovery { epoch } if epoch < 10))
    );
    let any_old = ListFilter {
        kind: None,
        epoch_below: Some(10),
    };
    assert_eq!(
        page(&gateway, any_old, 3).await,
        wanted(&|tag| tag.to_parts().1 < 10)
    );
    for limit in [0, 10_001] {
        let outcome = gateway.list(None, all, limit, soon()).await;
        assert!(
            matches!(
                outcome,
                Err(PeerError::Refused {
                    reason: Refusal::Malformed,
                    ..
                })
            ),
            "{outcome:?}"
        );
    }
}

async fn page(gateway: &NodeClient, filter: ListFilter, limit: u32) -> Vec<ShardSummary> {
    let mut found: Vec<ShardSummary> = Vec::new();
    loop {
        let after = found.last().map(|shard| shard.cid);
        let page = gateway.list(after, filter, limit, soon()).await.unwrap();
        let last = page.len() < limit as usize;
        found.extend(page);
        if last {
            return found;
        }
    }
}

async fn stats_tell_what_is_there(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let empty = gateway.stats(soon()).await.unwrap();
    assert_eq!((empty.shard_count, empty.live_bytes), (0, 0));
    put(&gateway, &content(1, 300_000)).await.unwrap();
    let stats = gateway.stats(soon()).await.unwrap();
    assert_eq!(
        (stats.shard_count, stats.trash_count, stats.corrupt_count),
        (1, 0, 0)
    );
    assert!(stats.live_bytes >= 300_000 && stats.used_bytes >= stats.live_bytes);
    assert!(stats.total_bytes > stats.used_bytes && stats.disk_free_bytes > 0);
    assert_eq!(
        (stats.write_state, stats.write_state_detail.as_str()),
        (WriteState::Open, "")
    );
    assert_eq!(stats.version, env!("CARGO_PKG_VERSION"));
    let slot = transport::Role::Node {
        slot: crate::support::SLOT,
    };
    let own = node.deployment.issue(slot, "node/identity");
    let own =
        transport::Credentials::load(own, node.deployment.id, node.deployment.clock()).unwrap();
    assert_eq!(stats.node_id, own.own().node_id());
}

async fn many_at_once_do_not_mix(kind: Kind) {
    let node = Running::start(kind).await;
    let gateway = node.gateway();
    let done: Vec<bool> = futures_util::stream::iter(0_u64..96)
        .map(|n| {
            let gateway = gateway.clone();
            async move {
                let length = 1 + usize::try_from(n * 7_919 % 600_000).unwrap();
                let body = content(n, length);
                put(&gateway, &body).await.unwrap();
                let start = length / 3;
                let range = u32::try_from(start).unwrap()..u32::try_from(length).unwrap();
                let part = gateway
                    .get(Cid::of_raw(&body), Some(range), false, soon())
                    .await
                    .unwrap();
                part.body.concat() == body.slice(start..)
                    && read(&gateway, &body).await.unwrap() == body
            }
        })
        .buffer_unordered(32)
        .collect()
        .await;
    assert_eq!(done, [true; 96]);
}
