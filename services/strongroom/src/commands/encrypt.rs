//! `encrypt`: files and streams to named keys, people and a passphrase.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::Arc;

use crypto::EncryptionContext;
use crypto::identity::ReceiverKey;
use crypto::kem::Encapsulator;
use crypto::wrap::{Passphrase, WrapTo};
use domain::DeploymentId;
use ledger::{ExportedKey, Pin, PublicKey, Record as _};
use sealed::Envelope;
use sealed::armor::{self, ArmorKind};
use sealed::envelope::INLINE_PLAIN_BYTES_MAX;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Context, block_on};
use crate::args::EncryptArgs;
use crate::envelopes::{self, Input, Target};
use crate::failure::{Exit, Failure, Outcome};
use crate::identity::{self, rng};
use crate::output::printable;
use crate::passphrase;
use crate::store::{Store, explain};
use crate::tally::Tally;
use crate::units;

/// Blocks of 64 KiB in a chunk of a stream: what both sides keep in memory.
const BLOCKS: u8 = 16;
/// Bytes of an exported key or a receiver key, at most.
const KEY_FILE_BYTES_MAX: u64 = 512 << 10;

/// Who will be able to open.
enum Holder {
    Named(Arc<Encapsulator>),
    Receiver(Box<ReceiverKey>),
    Passphrase(Zeroizing<Vec<u8>>),
}

/// All holders, of one deployment.
struct Holders {
    deployment: DeploymentId,
    holders: Vec<Holder>,
    names: Vec<Value>,
}

/// Runs `encrypt`.
///
/// # Errors
/// When a holder cannot be told or trusted, or a file cannot be read or written.
pub fn run(context: &Context, args: &EncryptArgs) -> Outcome {
    let bound = envelopes::context(&args.context)?;
    if args.output.is_some() && args.files.len() > 1 {
        return Err(Failure::usage("-o is for one file, and there are several")
            .advise("leave it out: each becomes FILE.sealed"));
    }
    let nobody = args.key.is_empty()
        && args.public_key.is_empty()
        && args.recipient.is_empty()
        && args.passphrase.is_none();
    if nobody {
        return Err(Failure::usage("nobody could open it: no holder was given")
            .advise("give --key, --public-key, --recipient or --passphrase"));
    }
    let holders = holders(context, args, &bound)?;
    let mut tally = Tally::default();
    for file in &args.files {
        match encrypt(context, args, &holders, &bound, file) {
            Ok(bytes) => tally.success(bytes),
            Err(failure) => tally.failure(&context.output, envelopes::name(file), failure),
        }
    }
    tally.finish("files")
}

fn holders(context: &Context, args: &EncryptArgs, bound: &EncryptionContext) -> Outcome<Holders> {
    let mut found: Vec<(Option<DeploymentId>, Holder, Value)> = Vec::new();
    for path in &args.public_key {
        let public = read_public_key(context, path, args)?;
        let policy = &public.version.creation.context;
        if let Some(name) = policy.missing(|name| bound.get(name).is_some()) {
            return Err(Failure::usage(format!(
                "{}: custodians open what is sealed to this key only with `{name}` in its encryption context",
                path.display(),
                name = name.as_str()
            ))
            .advise(format!("give --context {}=VALUE", name.as_str())));
        }
        let key = public.version.key;
        let creation = &public.version.creation;
        context.output.note(format!(
            "{}: key {} of {}, version {}, as the ledger held it at {}",
            path.display(),
            printable(creation.name.as_str()),
            creation.owner,
            key.version,
            units::time_ms(public.time.0)
        ));
        let said = json!({ "kind": "named-key", "id": key.key, "version": key.version });
        let deployment = key.deployment;
        let holder = Holder::Named(Arc::new(Encapsulator::new(key)));
        found.push((Some(deployment), holder, said));
    }
    if !args.key.is_empty() {
        let named = block_on(async {
            let store = Store::open(context, None).await?;
            let keys = store.keys().await?;
            let mut out = Vec::new();
            for address in &args.key {
                let id = keys.resolve(address).await.map_err(explain)?;
                out.push(keys.encapsulator(&id, bound).await.map_err(explain)?);
            }
            Ok(out)
        })?;
        for encapsulator in named {
            let key = encapsulator.key();
            let said = json!({ "kind": "named-key", "id": key.key, "version": key.version });
            found.push((Some(key.deployment), Holder::Named(encapsulator), said));
        }
    }
    let mut deployment = found.first().and_then(|(deployment, _, _)| *deployment);
    if let Some((Some(other), _, _)) = found.iter().find(|(one, _, _)| *one != deployment) {
        return Err(Failure::usage(format!(
            "the keys are of different deployments, {other} among them: an envelope is for one"
        )));
    }
    if deployment.is_none() {
        deployment = Some(identity::deployment(&context.settings)?);
    }
    let deployment = deployment.ok_or_else(|| Failure::usage("no deployment"))?;
    for recipient in &args.recipient {
        let receiver = receiver(context, recipient, &deployment)?;
        let said = json!({ "kind": "identity", "principal": receiver.principal() });
        found.push((None, Holder::Receiver(Box::new(receiver)), said));
    }
    if let Some(file) = &args.passphrase {
        let passphrase = passphrase::of_envelope(file, true)?;
        let said = json!({ "kind": "passphrase" });
        found.push((None, Holder::Passphrase(passphrase), said));
    }
    let (holders, names) = found
        .into_iter()
        .map(|(_, holder, said)| (holder, said))
        .unzip();
    Ok(Holders {
        deployment,
        holders,
        names,
    })
}

/// An exported key that is shown by the pinned genesis of its deployment, or by an id that was given.
fn read_public_key(context: &Context, path: &Path, args: &EncryptArgs) -> Outcome<PublicKey> {
    let bytes = read_small(path)?;
    let wrong = |reason: String| {
        Failure::new(
            Exit::Integrity,
            "public_key",
            format!("{} is not taken: {reason}", path.display()),
        )
    };
    let record = armor::decode(ArmorKind::PublicKey, &bytes).unwrap_or(bytes);
    let exported = ExportedKey::decode(&record).map_err(|error| wrong(error.to_string()))?;
    if !args.expect.is_empty() && !args.expect.contains(&exported.key) {
        return Err(wrong(format!(
            "it holds key {}, which is not expected",
            exported.key
        )));
    }
    let folder = context.settings.genesis_dir();
    let genesis = client::ledger::pinned_genesis(&folder, &exported.deployment).map_err(explain)?;
    let pin = match &genesis {
        Some(genesis) => Pin::Genesis(genesis),
        None if args.expect.contains(&exported.key) => Pin::Key(&exported.key),
        None => {
            return Err(wrong(format!(
                "no genesis of its deployment {} is pinned here",
                exported.deployment
            ))
            .advise(
                "compare the key's id with its owner by another way and give it: --expect ID",
            ));
        }
    };
    exported
        .verify(pin)
        .map_err(|error| wrong(error.to_string()))
}

fn receiver(
    context: &Context,
    recipient: &OsStr,
    deployment: &DeploymentId,
) -> Outcome<ReceiverKey> {
    if recipient == "me" {
        return Ok(identity::open(&context.settings)?.receiver_key(deployment));
    }
    let path = Path::new(recipient);
    let text = read_small(path)?;
    identity::receiver_from(&text, deployment).map_err(|reason| {
        Failure::new(
            Exit::Integrity,
            "receiver_key",
            format!("{} is not taken: {reason}", path.display()),
        )
        .advise("give the file that `strongroom identity receiver-key` wrote for this deployment")
    })
}

fn read_small(path: &Path) -> Outcome<Vec<u8>> {
    use std::io::Read as _;
    let mut bytes = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(KEY_FILE_BYTES_MAX).read_to_end(&mut bytes))
        .map_err(|error| Failure::file("read", path, &error))?;
    Ok(bytes)
}

/// Seals one file; gives its bytes of plaintext.
fn encrypt(
    context: &Context,
    args: &EncryptArgs,
    holders: &Holders,
    bound: &EncryptionContext,
    file: &OsStr,
) -> Outcome<u64> {
    let mut input = Input::open(file)?;
    let to = envelopes::target(file, args.output.as_deref(), true)?;
    let mut target = Target::open(&to, args.armor, args.force)?;
    let passphrases: Vec<Passphrase<'_>> = holders
        .holders
        .iter()
        .filter_map(|holder| match holder {
            Holder::Passphrase(bytes) => Some(Passphrase { bytes, costs: None }),
            Holder::Named(_) | Holder::Receiver(_) => None,
        })
        .collect();
    let wraps: Vec<&dyn WrapTo> = holders
        .holders
        .iter()
        .filter_map(|holder| match holder {
            Holder::Named(key) => Some(&**key as &dyn WrapTo),
            Holder::Receiver(key) => Some(&**key as &dyn WrapTo),
            Holder::Passphrase(_) => None,
        })
        .chain(passphrases.iter().map(|one| one as &dyn WrapTo))
        .collect();
    let failed =
        |error: sealed::envelope::EnvelopeError| envelopes::explain(&error, &envelopes::name(file));
    let mut plain_bytes = 0_u64;
    let first = Zeroizing::new(read_first(&mut input)?);
    plain_bytes += u64::try_from(first.len()).unwrap_or(u64::MAX);
    if first.len() <= INLINE_PLAIN_BYTES_MAX {
        let sealed = Envelope::seal(
            &mut rng(),
            &holders.deployment,
            bound.clone(),
            &wraps,
            &first,
        );
        target.write(&sealed.map_err(failed)?.to_file())?;
    } else {
        let begun = Envelope::stream(
            &mut rng(),
            &holders.deployment,
            bound.clone(),
            &wraps,
            BLOCKS,
        );
        let (envelope, mut sealer) = begun.map_err(failed)?;
        target.write(&envelope.to_file())?;
        let mut out = Vec::new();
        let mut piece = Some(first);
        while let Some(plain) = piece {
            let mut rest = plain.as_slice();
            while !rest.is_empty() {
                let taken = sealer
                    .push(&mut rng(), rest, &mut out)
                    .map_err(|error| envelopes::stream_failure(error, &envelopes::name(file)))?;
                rest = rest.get(taken..).unwrap_or_default();
                target.write(&out)?;
                out.clear();
            }
            piece = input.next()?.map(Zeroizing::new);
            let more = piece.as_ref().map_or(0, |piece| piece.len());
            plain_bytes += u64::try_from(more).unwrap_or(u64::MAX);
        }
        sealer.finish(&mut rng(), &mut out);
        target.write(&out)?;
    }
    let (to_stdout, name) = (to == "-", target.name().to_owned());
    let sealed_bytes = target.finish()?;
    if !to_stdout {
        let report = json!({
            "source": envelopes::name(file),
            "envelope": name,
            "size_bytes": plain_bytes,
            "sealed_bytes": sealed_bytes,
            "holders": holders.names,
        });
        context.output.result(&report, || {
            format!(
                "{name}  {} for {} holders",
                units::size(plain_bytes),
                holders.names.len()
            )
        });
    }
    Ok(plain_bytes)
}

/// The first bytes: one more than lies in a record, where there are as many.
fn read_first(input: &mut Input) -> Outcome<Vec<u8>> {
    let mut first = Vec::new();
    while first.len() <= INLINE_PLAIN_BYTES_MAX {
        let Some(mut piece) = input.next()? else {
            break;
        };
        first.append(&mut piece);
    }
    Ok(first)
}
