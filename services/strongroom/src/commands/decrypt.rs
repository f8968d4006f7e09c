//! `decrypt`, and how the DEKs of many envelopes are had at once.

use std::ffi::OsStr;

use client::keys::{Keys, Wrapped};
use crypto::wrap::{Passphrase, UnwrapWith, Wrap};
use crypto::{Dek, Identity, NamedKeyWrap};
use domain::Principal;
use sealed::Envelope;
use sealed::envelope::Body;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Context, block_on};
use crate::args::DecryptArgs;
use crate::envelopes::{self, Sealed, Target};
use crate::failure::{Exit, Failure, Outcome};
use crate::identity;
use crate::passphrase;
use crate::store::{Store, explain};
use crate::tally::Tally;
use crate::units;

/// Envelopes that are open at once: as many as custodians are asked about at once.
const BATCH: usize = 64;

/// Runs `decrypt`.
///
/// # Errors
/// When an envelope cannot be opened, or a file cannot be read or written.
pub fn run(context: &Context, args: &DecryptArgs) -> Outcome {
    let wanted = envelopes::context(&args.context)?;
    if args.output.is_some() && args.files.len() > 1 {
        return Err(Failure::usage("-o is for one file, and there are several")
            .advise("leave it out: each loses its .sealed"));
    }
    let passphrase = match &args.passphrase {
        Some(file) => Some(passphrase::of_envelope(file, false)?),
        None => None,
    };
    let mut opener = Opener::new(context, passphrase);
    let mut tally = Tally::default();
    for files in args.files.chunks(BATCH) {
        let mut opened = Vec::new();
        for file in files {
            match open(file, &wanted) {
                Ok(sealed) => opened.push((file, sealed)),
                Err(failure) => tally.failure(&context.output, envelopes::name(file), failure),
            }
        }
        let heads: Vec<&Envelope> = opened.iter().map(|(_, sealed)| &sealed.envelope).collect();
        let deks = opener.deks(&heads);
        for ((file, sealed), dek) in opened.into_iter().zip(deks) {
            let name = sealed.name.clone();
            let done = dek.and_then(|dek| decrypt(context, args, file, sealed, dek));
            match done {
                Ok(bytes) => tally.success(bytes),
                Err(failure) => tally.failure(&context.output, name, failure),
            }
        }
    }
    tally.finish("files")
}

fn open(file: &OsStr, wanted: &crypto::EncryptionContext) -> Outcome<Sealed> {
    let sealed = Sealed::open(file)?;
    for (key, value) in wanted.iter() {
        let got = sealed.envelope.context().get(key);
        if got != Some(value) {
            return Err(Failure::new(
                Exit::Refused,
                "context",
                format!(
                    "{}: its encryption context has {} for {key}, not {value}",
                    sealed.name,
                    got.map_or("nothing".to_owned(), |got| format!(
                        "`{}`",
                        crate::output::printable(got)
                    ))
                ),
            ));
        }
    }
    Ok(sealed)
}

/// Opens one envelope into its target; gives its bytes of plaintext.
fn decrypt(
    context: &Context,
    args: &DecryptArgs,
    file: &OsStr,
    mut sealed: Sealed,
    dek: Dek,
) -> Outcome<u64> {
    let to = envelopes::target(file, args.output.as_deref(), false)?;
    let mut target = Target::open(&to, false, args.force)?;
    let name = sealed.name.clone();
    let failed = |error: sealed::envelope::EnvelopeError| envelopes::explain(&error, &name);
    match sealed.envelope.body() {
        Body::Inline(_) => {
            let plain = sealed.envelope.open(&dek).map_err(failed)?;
            if sealed.next()?.is_some() {
                return Err(envelopes::altered(&name, "bytes after the envelope's end"));
            }
            target.write(&plain)?;
        }
        Body::Stream { .. } => {
            let mut opener = sealed.envelope.open_stream(dek).map_err(failed)?;
            let stream = |error| envelopes::stream_failure(error, &name);
            let mut plain = Zeroizing::new(Vec::new());
            while let Some(piece) = sealed.next()? {
                let mut rest = piece.as_slice();
                while !rest.is_empty() {
                    let taken = opener.push(rest, &mut plain).map_err(stream)?;
                    rest = rest.get(taken..).unwrap_or_default();
                    target.write(&plain)?;
                    plain.clear();
                }
            }
            opener.finish().map_err(stream)?;
        }
    }
    let (to_stdout, written) = (to == "-", target.name().to_owned());
    let bytes = target.finish()?;
    if !to_stdout {
        let report = json!({
            "envelope": name,
            "target": written,
            "size_bytes": bytes,
            "context": sealed.envelope.context(),
        });
        context
            .output
            .result(&report, || format!("{written}  {}", units::size(bytes)));
    }
    Ok(bytes)
}

/// What this user has to open envelopes with. The identity is unlocked, and the platform asked, only when an envelope needs it.
pub struct Opener<'a> {
    context: &'a Context,
    passphrase: Option<Zeroizing<Vec<u8>>>,
    me: Option<Principal>,
    identity: Option<Identity>,
}

impl<'a> Opener<'a> {
    /// With a passphrase that is tried on envelopes that have one.
    pub fn new(context: &'a Context, passphrase: Option<Zeroizing<Vec<u8>>>) -> Self {
        Self {
            context,
            passphrase,
            me: identity::principal(&context.settings).ok(),
            identity: None,
        }
    }

    /// The DEKs of up to 64 envelopes, in order: with the passphrase, with the identity, and for the rest through the custodians, in
    /// one request for each key version.
    pub fn deks(&mut self, envelopes: &[&Envelope]) -> Vec<Outcome<Dek>> {
        let mut out: Vec<Option<Outcome<Dek>>> = Vec::with_capacity(envelopes.len());
        for envelope in envelopes {
            out.push(self.local(envelope));
        }
        let rest: Vec<(usize, &Envelope)> = envelopes
            .iter()
            .enumerate()
            .filter(|(at, _)| out.get(*at).is_some_and(Option::is_none))
            .map(|(at, envelope)| (at, *envelope))
            .collect();
        if !rest.is_empty() {
            let opened = block_on(async {
                let store = Store::open(self.context, None).await?;
                let keys = store.keys().await?;
                let asked: Vec<&Envelope> = rest.iter().map(|(_, envelope)| *envelope).collect();
                Ok(through_custodians(&keys, &asked).await)
            });
            match opened {
                Ok(deks) => {
                    for ((at, _), dek) in rest.iter().zip(deks) {
                        if let Some(slot) = out.get_mut(*at) {
                            *slot = Some(dek);
                        }
                    }
                }
                Err(failure) => {
                    for (at, _) in &rest {
                        if let Some(slot) = out.get_mut(*at) {
                            *slot = Some(Err(failure.clone()));
                        }
                    }
                }
            }
        }
        let missing = || {
            Err(Failure::new(
                Exit::Failure,
                "internal",
                "an envelope without an answer",
            ))
        };
        out.into_iter()
            .map(|slot| slot.unwrap_or_else(missing))
            .collect()
    }

    /// Without asking anybody; `None` when only custodians can say.
    fn local(&mut self, envelope: &Envelope) -> Option<Outcome<Dek>> {
        let (mut named, mut mine, mut locked) = (false, false, false);
        for wrap in envelope.wraps() {
            match wrap {
                Wrap::NamedKey(_) => named = true,
                Wrap::Identity { receiver, .. } => mine |= Some(*receiver) == self.me,
                Wrap::Passphrase { .. } => locked = true,
                Wrap::Other { .. } => {}
            }
        }
        let by = |holder: &dyn UnwrapWith| {
            envelope
                .unwrap_dek(holder)
                .map_err(|error| envelopes::explain(&error, "the envelope"))
        };
        let mut last = None;
        if let (true, Some(bytes)) = (locked, &self.passphrase) {
            match by(&Passphrase { bytes, costs: None }) {
                Ok(dek) => return Some(Ok(dek)),
                Err(failure) => last = Some(failure),
            }
        }
        if mine {
            if self.identity.is_none() {
                match identity::open(&self.context.settings) {
                    Ok(identity) => self.identity = Some(identity),
                    Err(failure) => return Some(Err(failure)),
                }
            }
            if let Some(identity) = &self.identity {
                match by(identity) {
                    Ok(dek) => return Some(Ok(dek)),
                    Err(failure) => last = Some(failure),
                }
            }
        }
        if named {
            return None;
        }
        let nobody = || {
            let failure = Failure::new(
                Exit::Refused,
                "not_for_me",
                "the envelope is for others: neither for this identity nor for a named key",
            );
            if locked {
                failure.advise("a passphrase opens it: give --passphrase")
            } else {
                failure
            }
        };
        Some(Err(last.unwrap_or_else(nobody)))
    }
}

/// The named keys of an envelope, in order.
pub fn named_wraps(envelope: &Envelope) -> Vec<&NamedKeyWrap> {
    envelope
        .wraps()
        .iter()
        .filter_map(|wrap| match wrap {
            Wrap::NamedKey(wrap) => Some(&**wrap),
            Wrap::Identity { .. } | Wrap::Passphrase { .. } | Wrap::Other { .. } => None,
        })
        .collect()
}

/// DEKs through the custodians: the first named key of every envelope in one batch, then the second of those that did not open, and
/// so on.
pub async fn through_custodians(keys: &Keys, envelopes: &[&Envelope]) -> Vec<Outcome<Dek>> {
    let nothing = || {
        Err(Failure::new(
            Exit::Refused,
            "not_for_me",
            "the envelope is for no named key",
        ))
    };
    let mut out: Vec<Outcome<Dek>> = envelopes.iter().map(|_| nothing()).collect();
    let rounds = envelopes
        .iter()
        .map(|envelope| named_wraps(envelope).len())
        .max()
        .unwrap_or(0);
    for round in 0..rounds {
        let contexts: Vec<_> = envelopes
            .iter()
            .map(|envelope| envelope.wrap_context())
            .collect();
        let mut asked = Vec::new();
        let mut wraps = Vec::new();
        for (at, envelope) in envelopes.iter().enumerate() {
            if out.get(at).is_none_or(Result::is_ok) {
                continue;
            }
            let (Some(wrap), Some(context)) = (
                named_wraps(envelope).into_iter().nth(round),
                contexts.get(at),
            ) else {
                continue;
            };
            asked.push((at, *envelope));
            wraps.push(Wrapped {
                wrap,
                context,
                shown: envelope.context(),
            });
        }
        for ((at, envelope), released) in asked.into_iter().zip(keys.release(&wraps).await) {
            let dek = released.map_err(explain).and_then(|released| {
                envelope
                    .unwrap_dek(&released)
                    .map_err(|error| envelopes::explain(&error, "the envelope"))
            });
            if let Some(slot) = out.get_mut(at) {
                *slot = dek;
            }
        }
    }
    out
}
