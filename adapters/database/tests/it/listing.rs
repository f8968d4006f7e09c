//! Listing: order, folding, pages, and pages while others write.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use database::Database;
use domain::BucketId;
use objects::metadata::{ListPage, ListQuery, Metadata, MetadataError};

use crate::backend::Fixture;
use crate::make::{self, bucket, mutation, put, small, tombstone};

crate::both_databases!(
    keys_are_listed_in_byte_order,
    keys_fold_into_common_prefixes,
    deleted_keys_and_other_buckets_are_not_listed,
    a_folder_of_many_keys_is_one_step,
    pages_neither_skip_nor_repeat_while_others_write,
);

fn query(prefix: &str, delimiter: Option<&str>, after: Option<&str>, limit: usize) -> ListQuery {
    ListQuery {
        prefix: prefix.to_owned(),
        delimiter: delimiter.map(str::to_owned),
        after: after.map(str::to_owned),
        limit,
    }
}

fn names(page: &ListPage) -> Vec<&str> {
    page.objects
        .iter()
        .map(|object| object.key.as_str())
        .collect()
}

async fn keys_are_listed_in_byte_order(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let keys = [
        "b",
        "a",
        "B",
        "ä",
        "a/b",
        "a0",
        "\u{10ffff}",
        "\u{1}",
        "日本",
    ];
    for (n, key) in (0..).zip(keys) {
        put(db, id, key, n).await;
    }
    let mut sorted = keys;
    sorted.sort_unstable();
    let page = db.list(id, query("", None, None, 100)).await.unwrap();
    assert_eq!(names(&page), sorted);
    assert_eq!(page.next, None);
    // The same in pages of every size.
    for limit in 1..=keys.len() {
        let mut seen = Vec::new();
        let mut after = None;
        loop {
            let page = db
                .list(id, query("", None, after.as_deref(), limit))
                .await
                .unwrap();
            assert!(page.objects.len() <= limit);
            seen.extend(names(&page).into_iter().map(str::to_owned));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, sorted);
    }
    let one = &db
        .list(id, query("b", None, None, 5))
        .await
        .unwrap()
        .objects[0];
    let put = small(id, "b", 0).version;
    assert_eq!(
        (one.version, one.manifest, one.plain_bytes),
        (put.version, put.manifest, put.plain_bytes)
    );
    assert_eq!(
        (one.modified, one.writer, one.fully_placed),
        (put.modified, put.writer, true)
    );
}

async fn keys_fold_into_common_prefixes(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let keys = [
        "a",
        "a/1",
        "a/2",
        "a//3",
        "a/b/c",
        "b/",
        "c",
        "c/\u{10ffff}",
        "c\u{10ffff}/x",
        "d",
    ];
    for (n, key) in (0..).zip(keys) {
        put(db, id, key, n).await;
    }
    let check = async |prefix: &str, after: Option<&str>, objects: &[&str], prefixes: &[&str]| {
        let page = db
            .list(id, query(prefix, Some("/"), after, 100))
            .await
            .unwrap();
        assert_eq!(names(&page), objects, "{prefix} {after:?}");
        assert_eq!(page.prefixes, prefixes, "{prefix} {after:?}");
    };
    let all = ["a/", "b/", "c/", "c\u{10ffff}/"];
    check("", None, &["a", "c", "d"], &all).await;
    check("a/", None, &["a/1", "a/2"], &["a//", "a/b/"]).await;
    check("a", None, &["a"], &["a/"]).await;
    check("", Some("a"), &["c", "d"], &all).await;
    check("", Some("a/"), &["c", "d"], &all[1..]).await;
    check("", Some("a/2"), &["c", "d"], &all[1..]).await;
    check("a/", Some("a/1"), &["a/2"], &["a/b/"]).await;
    check("", Some("zzz"), &[], &[]).await;
    check("nothing", None, &[], &[]).await;
    check("c/", None, &["c/\u{10ffff}"], &[]).await;
    let longer = db.list(id, query("", Some("//"), None, 9)).await.unwrap();
    assert_eq!(longer.prefixes, ["a//"]);
}

async fn deleted_keys_and_other_buckets_are_not_listed(fixture: &Fixture) {
    let db = &fixture.db;
    let (one, two) = (bucket(db, 1).await, bucket(db, 2).await);
    put(db, one, "a", 1).await;
    put(db, one, "b", 2).await;
    put(db, two, "c", 3).await;
    db.put_tombstone(tombstone(one, "a", 4), mutation())
        .await
        .unwrap();
    let page = db.list(one, query("", None, None, 1)).await.unwrap();
    assert_eq!(names(&page), ["b"]);
    assert_eq!(page.next, None);
    let nowhere = db.list(make::bucket_id(9), query("", None, None, 1)).await;
    assert_eq!(nowhere.unwrap(), ListPage::default());
}

async fn a_folder_of_many_keys_is_one_step(fixture: &Fixture) {
    let db = &fixture.db;
    let id = bucket(db, 1).await;
    let mut tasks = Vec::new();
    for n in 0..600 {
        let db = db.clone();
        tasks.push(tokio::spawn(async move {
            put(&db, id, &format!("{}/{n:04}", n % 3), n).await;
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let page = db.list(id, query("", Some("/"), None, 2)).await.unwrap();
    assert_eq!(page.prefixes, ["0/", "1/"]);
    assert_eq!(page.next.as_deref(), Some("1/"));
    let rest = db
        .list(id, query("", Some("/"), page.next.as_deref(), 2))
        .await
        .unwrap();
    assert_eq!((rest.prefixes, rest.next), (vec!["2/".to_owned()], None));
}

/// Walks all pages; keys and common prefixes in the order they came.
async fn walk(db: &Database, id: BucketId, delimiter: Option<&str>, limit: usize) -> Vec<String> {
    let mut seen = Vec::new();
    let mut after: Option<String> = None;
    loop {
        let page = db
            .list(id, query("", delimiter, after.as_deref(), limit))
            .await
            .unwrap();
        let mut both: Vec<String> = names(&page).into_iter().map(str::to_owned).collect();
        both.extend(page.prefixes);
        both.sort_unstable();
        assert!(both.len() <= limit);
        seen.extend(both);
        after = page.next;
        if after.is_none() {
            return seen;
        }
    }
}

async fn pages_neither_skip_nor_repeat_while_others_write(fixture: &Fixture) {
    const WALKS: usize = 12;
    let id = bucket(&fixture.db, 1).await;
    let gateways = [fixture.db.clone(), fixture.other_gateway().await];
    // Stable keys, in folders and beside them; the others come and go all over the same ranges.
    let stable: Vec<String> = (0..120)
        .map(|n| match n % 3 {
            0 => format!("s{n:03}"),
            _ => format!("s{:03}/{n}", n % 20),
        })
        .collect();
    for (n, key) in (0..).zip(&stable) {
        put(&fixture.db, id, key, n).await;
    }
    let folded: BTreeSet<String> = stable
        .iter()
        .map(|key| match key.split_once('/') {
            Some((head, _)) => format!("{head}/"),
            None => key.clone(),
        })
        .collect();
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let mut writers = Vec::new();
    for worker in 0..4_u32 {
        let db = gateways[usize::try_from(worker).unwrap() % 2].clone();
        let stop = std::sync::Arc::clone(&stop);
        writers.push(tokio::spawn(async move {
            let mut n = 10_000 * (worker + 1);
            while !stop.load(Ordering::Relaxed) {
                let key = match n % 3 {
                    0 => format!("s{:03}x", (n * 7) % 120),
                    1 => format!("s{:03}/x{}", (n * 11) % 20, n % 5),
                    _ => format!("t{:03}/{n}", (n * 5) % 30),
                };
                db.put_small(small(id, &key, n), mutation()).await.unwrap();
                n += 1;
                if n % 2 == 0 {
                    match db.put_tombstone(tombstone(id, &key, n), mutation()).await {
                        // Another writer may have deleted the same key.
                        Ok(_) | Err(MetadataError::NotFound(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                    n += 1;
                }
            }
        }));
    }
    for round in 0..WALKS {
        let limit = [1, 2, 7, 50][round % 4].max(if round < 4 { 7 } else { 2 });
        for delimiter in [None, Some("/")] {
            let seen = walk(&fixture.db, id, delimiter, limit).await;
            let distinct: BTreeSet<&String> = seen.iter().collect();
            assert_eq!(distinct.len(), seen.len(), "repeated: {seen:?}");
            assert!(seen.is_sorted(), "{seen:?}");
            let wanted: Vec<&String> = match delimiter {
                None => stable.iter().collect(),
                Some(_) => folded.iter().collect(),
            };
            for key in wanted {
                assert!(distinct.contains(key), "skipped {key}: {seen:?}");
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.await.unwrap();
    }
}
