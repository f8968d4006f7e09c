//! What a 4 KiB object costs its client and its gateway, one thread, no network: `cargo bench -p sealed --bench small`.
//!
//! Microseconds per operation, the best of seven rounds; what is compared is interleaved.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crypto::wrap::{BucketKey, WrapTo};
use crypto::{Identity, Secret};
use domain::{DeploymentId, Profile, TimestampMs};
use getrandom::{SysRng, rand_core::UnwrapErr};
use sealed::bucket::Bucket;
use sealed::small::{SmallHead, SmallRecord};
use sealed::{BucketKeyRecord, SignedEntry};

const ROUNDS: usize = 7;
const TIMES: u32 = 500;

struct Line<'a> {
    name: &'static str,
    best: Duration,
    run: Box<dyn FnMut() + 'a>,
}

fn main() {
    let mut rng = UnwrapErr(SysRng);
    let deployment = DeploymentId([1; 32]);
    let alice = Identity::from_seed(Secret::take(&mut [7; 32]));
    let name = "photos".parse().expect("a bucket name");
    let time = TimestampMs(1_800_000_000_000);
    let bucket = Bucket::create(
        &mut rng,
        &deployment,
        alice.principal(),
        name,
        Profile::SMALL,
        time,
    );
    let bucket = bucket
        .sign(&alice, &deployment)
        .verify(&deployment)
        .expect("genuine");
    let key = BucketKey::random(&mut rng, deployment, bucket.id);
    let receiver = alice.receiver_key(&deployment);
    let holders: [&dyn WrapTo; 1] = [&receiver];
    let key_record =
        BucketKeyRecord::create(&mut rng, &alice, &deployment, &key, time, 0, &holders)
            .expect("made");
    let head = SmallHead {
        bucket: bucket.id,
        name: "notes/2027.txt".parse().expect("a key"),
        writer_set: 1,
        time,
        predecessor: None,
    };
    let plain = vec![42; 4_096];
    let seal = || {
        let mut rng = UnwrapErr(SysRng);
        SmallRecord::seal(
            &mut rng,
            &deployment,
            &alice,
            &key,
            head.clone(),
            &plain,
            None,
        )
        .expect("small")
    };
    let record = seal();
    let bytes = record.encode();
    let entry = record.version().entry().encode();

    let mut lines = vec![
        line("client: seal and encode", || {
            black_box(seal().encode());
        }),
        line("client: decode, check and open", || {
            let record = SmallRecord::decode(&bytes).expect("genuine");
            black_box(record.open(&bucket, &head.name, &key).expect("genuine"));
        }),
        line("gateway: decode, check, verify the entry", || {
            let record = SmallRecord::decode(&bytes).expect("genuine");
            record.version().entry().verify(&bucket).expect("genuine");
        }),
        line("entry: decode and verify", || {
            let entry = SignedEntry::decode(&entry).expect("genuine");
            entry.verify(&bucket).expect("genuine");
        }),
        line("bucket key: unwrap by identity", || {
            black_box(key_record.unwrap_key(&deployment, &alice).expect("mine"));
        }),
    ];
    for _ in 0..ROUNDS {
        for line in &mut lines {
            let start = Instant::now();
            for _ in 0..TIMES {
                (line.run)();
            }
            line.best = line.best.min(start.elapsed() / TIMES);
        }
    }
    println!(
        "{:<42} {:>12}",
        "one thread, a record of 4 KiB, best of 7", "us each"
    );
    for line in &lines {
        println!("{:<42} {:>12.1}", line.name, line.best.as_secs_f64() * 1e6);
    }
}

fn line<'a>(name: &'static str, run: impl FnMut() + 'a) -> Line<'a> {
    Line {
        name,
        best: Duration::MAX,
        run: Box::new(run),
    }
}
