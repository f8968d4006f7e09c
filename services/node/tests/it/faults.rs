//! A store that fails: writes are refused with the reason, reads go on, the node stays up.

use std::time::Duration;

use domain::Cid;
use transport::{PeerError, Refusal, Role, ShardState, WriteState};

use crate::memory::Fault;
use crate::support::{Kind, Running, content, over_both, put, read, soon};
use crate::wire_level::{Connection, text};

over_both!(
    a_store_that_takes_no_writes_still_serves_reads,
    damaged_copies_are_admitted_and_counted,
    a_panic_in_the_store_is_an_error_and_no_more,
);

async fn a_store_that_takes_no_writes_still_serves_reads(kind: Kind) {
    let (running, store) = Running::faulty(kind, |_| {}).await;
    let gateway = running.gateway();
    let body = content(1, 10_000);
    put(&gateway, &body).await.unwrap();
    for (state, reason, detail) in [
        (WriteState::Full, None, "no room"),
        (WriteState::ReadOnly, Some(Refusal::ReadOnly), "mounted so"),
        (
            WriteState::Poisoned,
            Some(Refusal::Poisoned),
            "a sync failed",
        ),
    ] {
        store.set(Fault::Writes(state));
        let expected = match reason {
            None => PeerError::Full {
                detail: detail.to_owned(),
            },
            Some(reason) => PeerError::Refused {
                reason,
                detail: detail.to_owned(),
            },
        };
        assert_eq!(
            put(&gateway, &content(2, 10_000)).await,
            Err(expected.clone()),
            "{state:?}"
        );
        assert_eq!(
            gateway.delete(Cid::of_raw(&body), soon()).await,
            Err(expected),
            "{state:?}"
        );
        assert_eq!(read(&gateway, &body).await.unwrap(), body, "{state:?}");
        let stats = gateway.stats(soon()).await.unwrap();
        assert_eq!(
            (stats.write_state, stats.write_state_detail.as_str()),
            (state, "as the test wants")
        );
    }
    store.set(Fault::None);
    put(&gateway, &content(2, 10_000)).await.unwrap();
}

async fn damaged_copies_are_admitted_and_counted(kind: Kind) {
    let (running, store) = Running::faulty(kind, |_| {}).await;
    let gateway = running.gateway();
    let body = content(1, 10_000);
    put(&gateway, &body).await.unwrap();
    store.set(Fault::Damaged);
    let outcome = read(&gateway, &body).await;
    assert!(
        matches!(
            outcome,
            Err(PeerError::Refused {
                reason: Refusal::Corrupt,
                ..
            })
        ),
        "{outcome:?}"
    );
    assert_eq!(
        gateway.verify(Cid::of_raw(&body), soon()).await,
        Ok(ShardState::Corrupt)
    );
    let stats = gateway.stats(soon()).await.unwrap();
    assert_eq!((stats.corrupt_count, stats.damaged_count), (2, 1));
    // Listed until it is replaced or deleted.
    let cid = Cid::of_raw(&body);
    assert_eq!(gateway.damaged(None, 10, soon()).await, Ok(vec![cid]));
    assert_eq!(gateway.damaged(Some(cid), 10, soon()).await, Ok(Vec::new()));
    for limit in [0, 10_001] {
        let outcome = gateway.damaged(None, limit, soon()).await;
        assert!(
            matches!(outcome, Err(PeerError::Refused { .. })),
            "{outcome:?}"
        );
    }
    let from_node = running
        .client(Role::Node { slot: 1 })
        .damaged(None, 10, soon())
        .await;
    assert!(
        matches!(from_node, Err(PeerError::Refused { .. })),
        "{from_node:?}"
    );
    store.set(Fault::None);
    put(&gateway, &body).await.unwrap();
    assert_eq!(gateway.damaged(None, 10, soon()).await, Ok(Vec::new()));
    assert_eq!(gateway.stats(soon()).await.unwrap().damaged_count, 0);
}

async fn a_panic_in_the_store_is_an_error_and_no_more(kind: Kind) {
    let (running, store) = Running::faulty(kind, |_| {}).await;
    let gateway = running.gateway();
    let body = content(1, 10_000);
    put(&gateway, &body).await.unwrap();
    store.set(Fault::Panic);
    let outcome = read(&gateway, &body).await;
    assert!(
        matches!(
            outcome,
            Err(PeerError::Refused {
                reason: Refusal::Internal,
                ..
            })
        ),
        "{outcome:?}"
    );
    store.set(Fault::None);
    assert_eq!(read(&gateway, &body).await.unwrap(), body);
}

#[tokio::test]
async fn the_health_page_says_what_is_wrong() {
    let (running, store) = Running::faulty(Kind::Unix, |_| {}).await;
    let connection = Connection::open(&running, Role::Gateway).await;
    let healthy = text(connection.get("/health").await).await;
    assert!(
        healthy.contains("\"status\":\"ok\"") && healthy.contains("\"writes\":\"open\""),
        "{healthy}"
    );
    store.set(Fault::Writes(WriteState::Poisoned));
    let ill = text(connection.get("/health").await).await;
    assert!(
        ill.contains("\"status\":\"degraded\"") && ill.contains("\"writes\":\"poisoned\""),
        "{ill}"
    );
    let metrics = text(connection.get("/metrics").await).await;
    assert!(
        metrics.contains("\nstrongroom_node_writable 0\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn the_scrub_finds_what_nobody_reads() {
    let (running, store) = Running::faulty(Kind::Unix, |config| {
        config.scrub_period = Duration::from_millis(20);
    })
    .await;
    let gateway = running.gateway();
    put(&gateway, &content(1, 10_000)).await.unwrap();
    store.set(Fault::Damaged);
    for _ in 0..200 {
        if gateway.stats(soon()).await.unwrap().damaged_count > 0 {
            let damaged = gateway.damaged(None, 10, soon()).await.unwrap();
            assert_eq!(damaged, [Cid::of_raw(&content(1, 10_000))]);
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the scrub found nothing");
}
