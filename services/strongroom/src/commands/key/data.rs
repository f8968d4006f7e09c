//! `key datakey` and `key rewrap`.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use client::KeyAddress;
use crypto::kem::Encapsulator;
use crypto::wrap::{Wrap, WrapTo};
use crypto::{Dek, Secret};
use data_encoding::BASE64;
use domain::KeyId;
use sealed::Envelope;
use serde_json::json;

use crate::commands::decrypt::{Opener, named_wraps};
use crate::commands::{Context, block_on};
use crate::envelopes::{self, Sealed, Target};
use crate::failure::{Exit, Failure, Outcome};
use crate::identity::rng;
use crate::store::{Store, explain};
use crate::tally::Tally;

/// Envelopes that are open at once.
const BATCH: usize = 64;

pub(super) fn datakey(
    context: &Context,
    key: &KeyAddress,
    pairs: &[String],
    without_plaintext: bool,
) -> Outcome {
    let bound = envelopes::context(pairs)?;
    let to = block_on(async {
        let store = Store::open(context, None).await?;
        let keys = store.keys().await?;
        let id = keys.resolve(key).await.map_err(explain)?;
        keys.encapsulator(&id, &bound).await.map_err(explain)
    })?;
    let of = to.key();
    let data_key: Secret<32> = Secret::random(&mut rng());
    let holders: [&dyn WrapTo; 1] = [&*to];
    let sealed = Envelope::seal(
        &mut rng(),
        &of.deployment,
        bound,
        &holders,
        data_key.expose(),
    );
    let sealed = sealed.map_err(|error| envelopes::explain(&error, "the data key"))?;
    let envelope = BASE64.encode(&sealed.to_file());
    let plain = zeroize::Zeroizing::new(BASE64.encode(data_key.expose()));
    let shown = (!without_plaintext).then_some(plain.as_str());
    let report = json!({
        "key": of.key,
        "version": of.version,
        "context": sealed.context(),
        "data_key": shown,
        "envelope": envelope,
    });
    context.output.result(&report, || {
        let mut text = format!("key       {}\nversion   {}", of.key, of.version);
        if let Some(plain) = shown {
            text.push_str(&format!("\ndata key  {plain}"));
        }
        text.push_str(&format!("\nenvelope  {envelope}"));
        text
    });
    Ok(())
}

pub(super) fn rewrap(context: &Context, files: &[PathBuf], to: Option<&KeyAddress>) -> Outcome {
    let mut opener = Opener::new(context, None);
    let mut tally = Tally::default();
    for paths in files.chunks(BATCH) {
        let mut opened = Vec::new();
        for path in paths {
            let sealed = Sealed::open(path.as_os_str()).and_then(|sealed| {
                if named_wraps(&sealed.envelope).is_empty() {
                    return Err(Failure::usage("it is wrapped to no named key"));
                }
                Ok(sealed)
            });
            match sealed {
                Ok(sealed) => opened.push((path, sealed)),
                Err(failure) => tally.failure(&context.output, path.display(), failure),
            }
        }
        let heads: Vec<&Envelope> = opened.iter().map(|(_, sealed)| &sealed.envelope).collect();
        let wanted = match targets(context, &heads, to) {
            Ok(wanted) => wanted,
            Err(failure) => {
                for (path, _) in &opened {
                    tally.failure(&context.output, path.display(), failure.clone());
                }
                continue;
            }
        };
        let deks = opener.deks(&heads);
        for ((path, sealed), dek) in opened.into_iter().zip(deks) {
            match dek.and_then(|dek| replace(path, sealed, &dek, &wanted)) {
                Ok((wrapped, bytes)) => {
                    tally.success(bytes);
                    let report =
                        json!({ "envelope": path.display().to_string(), "versions": wrapped });
                    context.output.result(&report, || {
                        let to: Vec<String> = wrapped
                            .iter()
                            .map(|(key, version)| format!("{key} version {version}"))
                            .collect();
                        format!("{}  now under {}", path.display(), to.join(", "))
                    });
                }
                Err(failure) => tally.failure(&context.output, path.display(), failure),
            }
        }
    }
    tally.finish("envelopes")
}

/// What each named key of the envelopes is wrapped to anew.
struct Targets {
    /// In the place of every named key.
    all: Option<Arc<Encapsulator>>,
    each: BTreeMap<KeyId, Arc<Encapsulator>>,
}

fn targets(context: &Context, heads: &[&Envelope], to: Option<&KeyAddress>) -> Outcome<Targets> {
    block_on(async {
        let store = Store::open(context, None).await?;
        let keys = store.keys().await?;
        let mut targets = Targets {
            all: None,
            each: BTreeMap::new(),
        };
        if let Some(to) = to {
            let id = keys.resolve(to).await.map_err(explain)?;
            for head in heads {
                let to = keys.encapsulator(&id, head.context()).await;
                targets.all = Some(to.map_err(explain)?);
            }
            return Ok(targets);
        }
        for head in heads {
            for wrap in named_wraps(head) {
                let to = keys.encapsulator(&wrap.key, head.context()).await;
                targets.each.insert(wrap.key, to.map_err(explain)?);
            }
        }
        Ok(targets)
    })
}

/// Writes the envelope with new wraps in the place of those to named keys; everything else stays.
fn replace(
    path: &std::path::Path,
    mut sealed: Sealed,
    dek: &Dek,
    targets: &Targets,
) -> Outcome<(BTreeMap<KeyId, u32>, u64)> {
    let name = sealed.name.clone();
    let failed = |error: sealed::envelope::EnvelopeError| envelopes::explain(&error, &name);
    let mut wrapped = BTreeMap::new();
    let mut wraps = Vec::new();
    for wrap in sealed.envelope.wraps() {
        let Wrap::NamedKey(named) = wrap else {
            wraps.push(wrap.clone());
            continue;
        };
        let to = targets
            .all
            .as_ref()
            .or_else(|| targets.each.get(&named.key))
            .ok_or_else(|| Failure::new(Exit::Failure, "internal", "a key was not looked up"))?;
        let of = to.key();
        if of.deployment != *sealed.envelope.deployment() {
            return Err(Failure::usage(format!(
                "the envelope is of deployment {}, the key of {}",
                sealed.envelope.deployment(),
                of.deployment
            )));
        }
        if wrapped.insert(of.key, of.version.get()).is_none() {
            let made = sealed
                .envelope
                .wrap_to(&mut rng(), dek, &[&**to as &dyn WrapTo]);
            wraps.extend(made.map_err(failed)?);
        }
    }
    let head = sealed.envelope.clone().with_wraps(wraps).map_err(failed)?;
    let mut target = Target::open(path.as_os_str(), sealed.armored, true)?;
    target.write(&head.to_file())?;
    while let Some(piece) = sealed.next()? {
        target.write(&piece)?;
    }
    let bytes = target.finish()?;
    Ok((wrapped, bytes))
}
