//! Many clients at once, on keys of their own and on the same ones.

use std::collections::BTreeMap;
use std::sync::Arc;

use client::{Client, Error, ErrorKind, PutOptions};
use domain::BucketName;

use crate::harness::{Platform, bytes};
use crate::support::{bucket, connect, held, identity, key, runtime};

const CLIENTS: u64 = 32;
const ACTIONS: u64 = 12;
const SHARED_KEYS: u64 = 4;

/// A content that says which it is, so that a mixture of two would show.
fn content(seed: u64) -> Vec<u8> {
    // Small ones, ones of one chunk, and a few of two.
    let size = match seed % 8 {
        0..=3 => 100 + usize::try_from(seed % 9_000).unwrap(),
        4..=6 => 262_081 + usize::try_from(seed % 300_000).unwrap(),
        _ => 4_300_000,
    };
    let mut content = bytes(size, seed);
    content.splice(..8, seed.to_le_bytes());
    content
}

#[track_caller]
fn is_whole(found: &[u8]) {
    let seed = u64::from_le_bytes(*found.first_chunk::<8>().unwrap());
    assert!(found == content(seed), "a content that nobody wrote");
}

/// One client: on its own key it reads its own writes; on a shared one it reads what somebody wrote, whole.
async fn act(client: Client, files: BucketName, who: u64) -> Option<u64> {
    let mut mine = None;
    for n in 0..ACTIONS {
        let seed = who * 1_000 + n;
        // Every client does another mix, the same in every run.
        let choice = (seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) % 6;
        let own = key(&format!("own/{who}"));
        let shared = key(&format!("shared/{}", seed % SHARED_KEYS));
        let options = PutOptions::default();
        match choice {
            0 | 1 => {
                client
                    .put_bytes(&files, &own, &content(seed), &options)
                    .await
                    .unwrap();
                mine = Some(seed);
            }
            2 => match (
                client.get_bytes(&files, &own, client::ByteRange::All).await,
                mine,
            ) {
                (Ok((_, found)), Some(seed)) => {
                    assert!(found == content(seed), "client {who}: not its last write")
                }
                (Err(Error::NoObject { .. }), None) => {}
                (found, mine) => panic!(
                    "client {who}: {:?} where {mine:?} is",
                    found.map(|(head, _)| head)
                ),
            },
            3 if mine.is_some() => {
                client.delete(&files, &own, None).await.unwrap();
                mine = None;
            }
            3 | 4 => drop(
                client
                    .put_bytes(&files, &shared, &content(seed), &options)
                    .await
                    .unwrap(),
            ),
            _ => match client
                .get_bytes(&files, &shared, client::ByteRange::All)
                .await
            {
                Ok((_, found)) => is_whole(&found),
                // Overtaken by other writers more often than the client begins again: said, never half of one and half of
                // another.
                Err(Error::NoObject { .. } | Error::Replaced) => {}
                Err(error) => panic!("client {who}: {error}"),
            },
        }
    }
    mine
}

#[test]
fn thirty_two_clients_at_once_see_whole_objects_and_their_own_writes() {
    let platform = Platform::start();
    platform.ok(&["mb", "sr://files"]);
    let me = Arc::new(identity(&platform));
    runtime().block_on(async {
        let mut running = tokio::task::JoinSet::new();
        for who in 0..CLIENTS {
            // Half share a state folder, as the runs of one user do.
            let state = if who % 2 == 0 {
                "state".to_owned()
            } else {
                format!("state-{who}")
            };
            let client = connect(&platform, &me, &state).await;
            running.spawn(async move { (who, act(client, bucket("files"), who).await) });
        }
        let mut own = BTreeMap::new();
        while let Some(ended) = running.join_next().await {
            let (who, mine) = ended.unwrap();
            own.insert(who, mine);
        }
        let client = connect(&platform, &me, "state").await;
        let files = bucket("files");
        for (who, mine) in &own {
            let found = client
                .get_bytes(&files, &key(&format!("own/{who}")), client::ByteRange::All)
                .await;
            match (found, mine) {
                (Ok((_, found)), Some(seed)) => {
                    assert!(found == content(*seed), "client {who}: not its last write")
                }
                (Err(error), None) => assert_eq!(error.kind(), ErrorKind::NotFound),
                (found, mine) => panic!(
                    "client {who}: {:?} where {mine:?} is",
                    found.map(|(head, _)| head)
                ),
            }
        }
        let listed = platform.json(&["ls", "-r", "sr://files/own/"]).len();
        assert_eq!(listed, own.values().flatten().count());
    });
    // Every version that was replaced gives its space back; what is left is exactly what is listed.
    let listed = u64::try_from(platform.json(&["ls", "-r", "sr://files"]).len()).unwrap();
    platform.wait_until_placed();
    platform.ok(&["verify", "-r", "sr://files"]);
    let held = held(&platform);
    assert_eq!((held.objects, held.uploads), (listed, 0), "{held:?}");
}
