//! What another node may do: read, for repair, and nothing else.

use bytes::Bytes;
use domain::{Cid, ShardTag};
use transport::{ListFilter, PeerError, Refusal, Role, ShardState};

use crate::support::{Kind, Running, content, over_both, put, read, soon};
use crate::wire_level::Connection;

over_both!(a_node_may_read_and_nothing_else);

async fn a_node_may_read_and_nothing_else(kind: Kind) {
    let running = Running::start(kind).await;
    let gateway = running.gateway();
    let body = content(1, 10_000);
    let cid = Cid::of_raw(&body);
    put(&gateway, &body).await.unwrap();

    let node = running.client(Role::Node { slot: 9 });
    assert_eq!(read(&node, &body).await.unwrap(), body);
    assert_eq!(node.has(vec![cid], soon()).await, Ok(vec![true]));
    assert_eq!(node.verify(cid, soon()).await, Ok(ShardState::Intact));

    fn refused<T: std::fmt::Debug>(what: &str, outcome: Result<T, PeerError>) {
        assert!(
            matches!(
                outcome,
                Err(PeerError::Refused {
                    reason: Refusal::NotPermitted,
                    ..
                })
            ),
            "{what}: {outcome:?}"
        );
    }
    let other = content(2, 500_000);
    refused("put", put(&node, &other).await);
    let epoch = ShardTag::Recovery { epoch: 1 };
    refused(
        "put again",
        node.put(cid, epoch, Bytes::new(), vec![body.clone()], soon())
            .await,
    );
    refused("delete", node.delete(cid, soon()).await);
    refused("restore", node.restore(cid, soon()).await);
    refused(
        "list",
        node.list(None, ListFilter::default(), 10, soon()).await,
    );
    refused("stats", node.stats(soon()).await);

    assert_eq!(read(&gateway, &body).await.unwrap(), body);
    assert_eq!(
        gateway.has(vec![Cid::of_raw(&other)], soon()).await,
        Ok(vec![false])
    );
}

#[tokio::test]
async fn a_node_may_not_read_another_nodes_monitoring() {
    let running = Running::start(Kind::Unix).await;
    for (role, status) in [(Role::Gateway, 200), (Role::Node { slot: 9 }, 403)] {
        let connection = Connection::open(&running, role).await;
        for path in ["/health", "/metrics"] {
            assert_eq!(connection.get(path).await.status(), status, "{role} {path}");
        }
    }
}
