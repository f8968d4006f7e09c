//! How long it takes to make keys and to open ciphertexts, end to end through a worker and 3 of 5 custodians that share one
//! process and one machine with the ledger and the client: `cargo bench -p custody_testing`. Every part computes on the same cores, so
//! a figure here is the sum of all of them. A machine that does other things as well makes all of it slower.

#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use custody_testing::{Deployment, LONG, OWNER};
use tokio::task::JoinSet;

fn main() {
    if std::env::args().any(|arg| arg == "--test") {
        return;
    }
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(measure());
}

async fn measure() {
    let mut deployment = Deployment::start().await;
    let workers = deployment.workers.clone();
    let mut create = Vec::new();
    for number in 0..20 {
        let key = deployment.begin(&format!("key-{number}")).await;
        let question = deployment.question(key, 1).await;
        let begun = Instant::now();
        let dealt = workers.peers()[0]
            .deal_version(question, LONG)
            .await
            .unwrap();
        create.push(begun.elapsed());
        deployment.activate(&dealt).await;
    }
    report(
        "make a version (worker, 5 custodians, another worker)",
        &mut create,
    );
    let key = deployment.key("bench").await;
    for (count, rounds) in [(1, 300), (64, 30)] {
        let mut times = Vec::new();
        for _ in 0..rounds {
            let opening = deployment.opening(OWNER, key, count).await;
            let begun = Instant::now();
            let opened = workers.peers()[0]
                .decrypt(opening.ask.clone(), LONG)
                .await
                .unwrap();
            times.push(begun.elapsed());
            opening.open(&opened).unwrap();
        }
        report(&format!("decrypt {count}, one after the other"), &mut times);
    }
    for (count, total) in [(1, 600), (64, 60)] {
        let mut openings = Vec::new();
        for _ in 0..total {
            openings.push(deployment.opening(OWNER, key, count).await.ask);
        }
        let begun = Instant::now();
        let mut calls = JoinSet::new();
        let mut openings = openings.into_iter();
        let mut times = Vec::new();
        loop {
            while calls.len() < 16
                && let Some(ask) = openings.next()
            {
                let worker = workers.peers()[0].clone();
                calls.spawn(async move {
                    let begun = Instant::now();
                    worker.decrypt(ask, LONG).await.unwrap();
                    begun.elapsed()
                });
            }
            let Some(done) = calls.join_next().await else {
                break;
            };
            times.push(done.unwrap());
        }
        let seconds = begun.elapsed().as_secs_f64();
        let operations = u32::try_from(total * count).unwrap();
        println!(
            "decrypt {count}, 16 at a time: {:.0} ciphertexts a second",
            f64::from(operations) / seconds
        );
        report(&format!("decrypt {count}, 16 at a time"), &mut times);
    }
}

fn report(what: &str, times: &mut [Duration]) {
    times.sort_unstable();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!(
        "{what}: p50 {:?}, p99 {:?} of {}",
        at(50),
        at(99),
        times.len()
    );
}
