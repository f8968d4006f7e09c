//! What encapsulating, proving, checking and opening cost, one thread, primitive by primitive.
//!
//! `cargo bench -p crypto --bench kem`. Lines are interleaved: each round measures every line once, and the best round
//! counts. Microseconds are wall time of one thread, which is its CPU time, as nothing here waits.

use std::hint::black_box;
use std::time::{Duration, Instant};

use crypto::kem::{Encapsulator, KeyRef, PqSeed, PublicKeys, SharedSecrets, proof, verify_batch};
use crypto::ristretto::{Element, SecretScalar};
use crypto::wrap::{WrapContext, WrapTo as _};
use crypto::{Dek, EncryptionContext};
use domain::{DeploymentId, EnvelopeId, KeyId, KeyVersion};
use getrandom::{SysRng, rand_core::UnwrapErr};

const ROUNDS: u32 = 9;
const DEPLOYMENT: DeploymentId = DeploymentId([1; 32]);

struct Line<'a> {
    name: &'static str,
    /// Calls in one round.
    calls: u32,
    /// Operations that one call is.
    operations: u32,
    best: Duration,
    run: Box<dyn FnMut() + 'a>,
}

fn main() {
    let rng = || UnwrapErr(SysRng);
    let seed = PqSeed::random(&mut rng());
    let x = SecretScalar::random(&mut rng());
    let public = PublicKeys {
        pq: seed.public(),
        dh: Element::from_point(x.times_base()).expect("not the identity"),
    };
    let key = KeyRef {
        deployment: DEPLOYMENT,
        key: KeyId([2; 32]),
        version: KeyVersion::FIRST,
        public,
    };
    let few = Encapsulator::new(key.clone());
    let many = Encapsulator::precomputed(key.clone());
    let context = EncryptionContext::from_user([("purpose", "bench")])
        .expect("a short context")
        .hash(&DEPLOYMENT);
    let (ciphertext, _) = many.encapsulate(&mut rng(), &context);
    let parts = ciphertext.parts(&DEPLOYMENT, context);
    let batch: Vec<_> = (0..64)
        .map(|_| {
            let (ciphertext, _) = many.encapsulate(&mut rng(), &context);
            ciphertext
                .parts(&DEPLOYMENT, context)
                .with_label(many.target())
        })
        .collect();
    let u = parts.verify(many.target()).expect("just made");
    let secret = seed.open(&key.public.pq).expect("its own key");
    let shared = SharedSecrets::new(secret.decapsulate(&ciphertext.pq), &u);
    let payload = [7; 1_024];
    let envelope = EnvelopeId([3; 16]);
    let wrap_context = WrapContext::Envelope { context, envelope };

    let mut lines = vec![
        line("encapsulate, key prepared for many", 200, 1, || {
            black_box(many.encapsulate(&mut rng(), &context));
        }),
        line("encapsulate, key prepared for few", 200, 1, || {
            black_box(few.encapsulate(&mut rng(), &context));
        }),
        line("encapsulate and seal 1 KiB, for many", 200, 1, || {
            let dek = Dek::random(&mut rng(), DEPLOYMENT);
            black_box(dek.commitment());
            let wrap = many.wrap(&mut rng(), &DEPLOYMENT, &wrap_context, dek.danger_key());
            black_box(wrap.expect("no memory is asked for"));
            black_box(dek.seal_payload(&mut rng(), &envelope, &context, &payload));
        }),
        line("prepare a key for few", 50, 1, || {
            black_box(Encapsulator::new(key.clone()));
        }),
        line("prepare a key for many", 2, 1, || {
            black_box(Encapsulator::precomputed(key.clone()));
        }),
        line("verify a ciphertext proof", 100, 1, || {
            black_box(parts.verify(many.target())).expect("just made");
        }),
        line("verify 64 ciphertext proofs, each", 2, 64, || {
            black_box(verify_batch(&mut rng(), &DEPLOYMENT, &batch));
        }),
        line("kem_hash of a ciphertext", 500, 1, || {
            black_box(ciphertext.kem_hash(&DEPLOYMENT, context));
        }),
        line("seed to key pair, compared", 100, 1, || {
            black_box(seed.open(&key.public.pq)).expect("its own key");
        }),
        line("ML-KEM decapsulate", 200, 1, || {
            black_box(secret.decapsulate(&ciphertext.pq));
        }),
        line("x u (one partial, without its proof)", 100, 1, || {
            black_box(Element::from_point(u.point() * x.danger_scalar()))
                .expect("not the identity");
        }),
        line("K from both secrets", 500, 1, || {
            black_box(key.derive_key(&ciphertext, &context, &shared));
        }),
        line("r G", 200, 1, || {
            black_box(x.times_base());
        }),
        line("r G_bar without its table", 100, 1, || {
            black_box(proof::second_generator() * x.danger_scalar());
        }),
    ];
    for _ in 0..ROUNDS {
        for line in &mut lines {
            let start = Instant::now();
            for _ in 0..line.calls {
                (line.run)();
            }
            line.best = line.best.min(start.elapsed());
        }
    }
    println!("{:<42} {:>9} {:>12}", "one thread, best of 9", "us", "op/s");
    for line in &lines {
        let each = line.best.as_secs_f64() / f64::from(line.calls * line.operations);
        println!("{:<42} {:>9.2} {:>12.0}", line.name, each * 1e6, 1.0 / each);
    }
}

fn line<'a>(name: &'static str, calls: u32, operations: u32, run: impl FnMut() + 'a) -> Line<'a> {
    Line {
        name,
        calls,
        operations,
        best: Duration::MAX,
        run: Box::new(run),
    }
}
