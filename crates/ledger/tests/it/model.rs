//! Random transactions against a model that is simple enough to be right: after every block the state says what the model says, and
//! the invariants hold.

use std::collections::BTreeMap;

use domain::{KeyId, KeyVersion, TimestampMs};
use ledger::execute::execute;
use ledger::records::{AnchorHead, AnchorKind, GrantEntry, KeyStatus, Operations, VersionEntry};
use ledger::state::Entries;
use ledger::transaction::{AbandonVersion, RevokeKey, SetDeleteProtection, VersionOf};
use ledger::{Action, BlockContext, Outcome, State, StateKey};
use proptest::prelude::*;

use crate::world::{World, anchor, begin, create, genesis, grant, grant_action};

#[derive(Clone, Debug)]
enum Step {
    Create {
        owner: u64,
        name: u8,
    },
    Begin {
        who: u64,
        key: usize,
        version: u32,
        fencing: u64,
    },
    Abandon {
        who: u64,
        key: usize,
        fencing: u64,
    },
    Activate {
        key: usize,
        version: u32,
        fencing: u64,
    },
    MinDecrypt {
        who: u64,
        key: usize,
        version: u32,
    },
    Protect {
        who: u64,
        key: usize,
        on: bool,
    },
    Grant {
        granter: u64,
        key: usize,
        grantee: u64,
        serial: u64,
    },
    Revoke {
        who: u64,
        key: usize,
        grantee: u64,
        serial: u64,
    },
    Anchor {
        who: u64,
        sequence: u64,
    },
    Wait,
}

fn step() -> impl Strategy<Value = Step> {
    let (who, key) = (1_u64..4, 0_usize..3);
    let number = 1_u32..4;
    let fencing = 0_u64..5;
    prop_oneof![
        2 => (who.clone(), 0_u8..3).prop_map(|(owner, name)| Step::Create { owner, name }),
        3 => (who.clone(), key.clone(), number.clone(), fencing.clone())
            .prop_map(|(who, key, version, fencing)| Step::Begin { who, key, version, fencing }),
        1 => (who.clone(), key.clone(), fencing.clone())
            .prop_map(|(who, key, fencing)| Step::Abandon { who, key, fencing }),
        4 => (key.clone(), number.clone(), fencing)
            .prop_map(|(key, version, fencing)| Step::Activate { key, version, fencing }),
        1 => (who.clone(), key.clone(), number)
            .prop_map(|(who, key, version)| Step::MinDecrypt { who, key, version }),
        1 => (who.clone(), key.clone(), any::<bool>())
            .prop_map(|(who, key, on)| Step::Protect { who, key, on }),
        3 => (who.clone(), key.clone(), 1_u64..4, 0_u64..4)
            .prop_map(|(granter, key, grantee, serial)| Step::Grant { granter, key, grantee, serial }),
        2 => (who.clone(), key, 1_u64..4, 0_u64..4)
            .prop_map(|(who, key, grantee, serial)| Step::Revoke { who, key, grantee, serial }),
        1 => (who, 0_u64..4).prop_map(|(who, sequence)| Step::Anchor { who, sequence }),
        1 => Just(Step::Wait),
    ]
}

#[derive(Default)]
struct ModelKey {
    owner: u64,
    current: u32,
    pending: Option<(u32, u64, u64)>,
    fencing: u64,
    min: u32,
    protected: bool,
    /// By grantee: serial, and whether it stands.
    grants: BTreeMap<u64, (u64, bool)>,
}

#[derive(Default)]
struct Model {
    keys: Vec<(KeyId, ModelKey)>,
    names: Vec<(u64, u8)>,
    anchors: BTreeMap<u64, u64>,
}

impl Model {
    /// Whether the ledger must take the step; if so, it is taken here.
    fn takes(&mut self, step: &Step, now: u64, pending_ms: u64) -> bool {
        match *step {
            // The key itself is added by the caller, who knows its id.
            Step::Create { owner, name } => !self.names.contains(&(owner, name)),
            Step::Begin {
                who,
                key,
                version,
                fencing,
            } => self.with(key, |key| {
                let free = key.pending.is_none_or(|(_, _, deadline)| now >= deadline);
                let good = who == key.owner
                    && fencing == key.fencing
                    && free
                    && version == key.current + 1;
                if good {
                    key.fencing += 1;
                    key.pending = Some((version, key.fencing, now + pending_ms));
                }
                good
            }),
            Step::Abandon { who, key, fencing } => self.with(key, |key| {
                let good = who == key.owner && key.pending.is_some_and(|(_, f, _)| f == fencing);
                if good {
                    key.pending = None;
                }
                good
            }),
            Step::Activate {
                key,
                version,
                fencing,
            } => self.with(key, |key| {
                let good = key
                    .pending
                    .is_some_and(|(v, f, deadline)| (v, f) == (version, fencing) && now < deadline);
                if good {
                    key.current = version;
                    key.pending = None;
                }
                good
            }),
            Step::MinDecrypt { who, key, version } => self.with(key, |key| {
                let good = who == key.owner && version <= key.current;
                if good {
                    key.min = version;
                }
                good
            }),
            Step::Protect { who, key, on } => self.with(key, |key| {
                let good = who == key.owner;
                if good {
                    key.protected = on;
                }
                good
            }),
            Step::Grant {
                granter,
                key,
                grantee,
                serial,
            } => self.with(key, |key| {
                let last = key.grants.get(&grantee).map_or(0, |(serial, _)| *serial);
                let good = granter == key.owner && grantee != key.owner && serial > last;
                if good {
                    key.grants.insert(grantee, (serial, true));
                }
                good
            }),
            Step::Revoke {
                who,
                key,
                grantee,
                serial,
            } => self.with(key, |key| {
                let owner = key.owner;
                match key.grants.get_mut(&grantee) {
                    Some((last, stands))
                        if *stands && *last == serial && (who == owner || who == grantee) =>
                    {
                        *stands = false;
                        true
                    }
                    _ => false,
                }
            }),
            Step::Anchor { who, sequence } => {
                let next = self.anchors.entry(who).or_insert(0);
                let good = sequence == *next + 1;
                if good {
                    *next += 1;
                }
                good
            }
            Step::Wait => true,
        }
    }

    fn with(&mut self, key: usize, act: impl FnOnce(&mut ModelKey) -> bool) -> bool {
        self.keys.get_mut(key).is_some_and(|(_, key)| act(key))
    }
}

fn action(world: &mut World, model: &Model, step: &Step) -> Option<(u64, Action)> {
    let id = |key: usize| model.keys.get(key).map_or(KeyId([9; 32]), |(id, _)| *id);
    let version = |version: u32| KeyVersion::new(version).unwrap();
    Some(match *step {
        Step::Create { owner, name } => {
            let (_, action) = create(&mut world.people, owner, &format!("key{name}"));
            (owner, action)
        }
        Step::Begin {
            who,
            key,
            version,
            fencing,
        } => (who, begin(&mut world.people, id(key), version, fencing)),
        Step::Abandon { who, key, fencing } => (
            who,
            Action::AbandonVersion(AbandonVersion {
                key: id(key),
                fencing,
            }),
        ),
        Step::Activate {
            key,
            version,
            fencing,
        } => {
            let statement = crate::world::statement(&mut world.people, id(key), version, fencing);
            let activation = crate::world::activation(&mut world.people, &statement);
            (9, Action::ActivateVersion(activation))
        }
        Step::MinDecrypt {
            who,
            key,
            version: v,
        } => (
            who,
            Action::SetMinDecrypt(VersionOf {
                key: id(key),
                version: version(v),
            }),
        ),
        Step::Protect { who, key, on } => (
            who,
            Action::SetDeleteProtection(SetDeleteProtection {
                key: id(key),
                protected: on,
            }),
        ),
        Step::Grant {
            granter,
            key,
            grantee,
            serial,
        } => {
            let grant = grant(&mut world.people, granter, id(key), grantee, serial);
            (granter, grant_action(world.people.get(granter), grant))
        }
        Step::Revoke {
            who,
            key,
            grantee,
            serial,
        } => {
            let grantee = world.people.principal(grantee);
            (
                who,
                Action::RevokeKey(RevokeKey {
                    key: id(key),
                    grantee,
                    serial,
                }),
            )
        }
        Step::Anchor { who, sequence } => (who, anchor(sequence)),
        Step::Wait => return None,
    })
}

fn compare(world: &mut World, model: &Model) {
    for (id, key) in &model.keys {
        let status: KeyStatus = world.record(&StateKey::KeyStatus(*id)).unwrap();
        assert_eq!(status.owner, world.people.principal(key.owner));
        assert_eq!(status.current.map_or(0, KeyVersion::get), key.current);
        assert_eq!(
            status
                .pending
                .map(|p| (p.version.get(), p.fencing, p.deadline.0)),
            key.pending
        );
        assert_eq!(
            (status.fencing, status.delete_protected),
            (key.fencing, key.protected)
        );
        assert_eq!(status.min_decrypt.get(), key.min);
        // Every version up to the current one is there, and none above it.
        for version in 1..=5_u32 {
            let at = StateKey::KeyVersion(*id, KeyVersion::new(version).unwrap());
            assert_eq!(
                world.record::<VersionEntry>(&at).is_some(),
                version <= key.current
            );
        }
        for grantee in 1..4 {
            let at = StateKey::KeyGrant(*id, world.people.principal(grantee));
            let stands = world
                .record::<GrantEntry>(&at)
                .map(|entry| entry.revoked.is_none());
            assert_eq!(stands, key.grants.get(&grantee).map(|(_, stands)| *stands));
        }
    }
    for (who, count) in &model.anchors {
        let at = StateKey::AnchorHead(world.people.principal(*who), AnchorKind::Audit);
        let head = world.record::<AnchorHead>(&at);
        assert_eq!(head.map_or(0, |head| head.sequence), *count);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(
        if std::env::var_os("STRONGROOM_SOAK").is_some() { 500 } else { 24 }
    ))]

    #[test]
    fn the_ledger_does_what_the_model_does(steps in prop::collection::vec(step(), 1..50)) {
        let mut world = World::ready();
        let mut model = Model::default();
        let mut blocks = Vec::new();
        let before = world.state.clone();
        for step in &steps {
            let Some((who, action)) = action(&mut world, &model, step) else {
                world.time = TimestampMs(world.time.0 + world.chain.limits.pending_ms);
                continue;
            };
            let bytes = world.next(who, action.clone());
            let now = world.time.0 + 1_000;
            blocks.push((now, bytes));
            let result = world.run(who, action);
            let taken = model.takes(step, now, world.chain.limits.pending_ms);
            prop_assert_eq!(result.is_ok(), taken, "{:?}: {:?}", step, result);
            if let (Step::Create { owner, name }, true) = (step, taken) {
                let (id, _) = create(&mut world.people, *owner, &format!("key{name}"));
                let pending = Some((1, 1, now + world.chain.limits.pending_ms));
                model.names.push((*owner, *name));
                model.keys.push((id, ModelKey {
                    owner: *owner, pending, fencing: 1, min: 1, ..ModelKey::default()
                }));
            }
            compare(&mut world, &model);
        }
        // The root is that of the values, however they came there; and the same blocks again come to the same state.
        let entries: Entries = world.state.tree().entries()
            .map(|(key, value)| (key.clone(), value.clone())).collect();
        let rebuilt = State::from_entries(genesis(true), world.state.height(), entries);
        prop_assert_eq!(rebuilt.root(), world.state.root());
        let mut again = before;
        for (time, bytes) in blocks {
            let context = BlockContext {
                height: domain::Height(again.height().0 + 1),
                time: TimestampMs(time),
            };
            let executed = execute(&again, &world.chain, context, &[bytes]).unwrap();
            prop_assert_eq!(executed.receipts.len(), 1);
            let is_outcome = matches!(executed.receipts[0].outcome, Outcome::Applied | Outcome::Rejected(_));
            prop_assert!(is_outcome);
            again.commit(&executed).unwrap();
        }
        prop_assert_eq!(again.root(), world.state.root());
        prop_assert_ne!(Operations::DECRYPT, Operations::GRANT);
    }
}
