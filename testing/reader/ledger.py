"""A second reader of the ledger, version 1, written from docs/ledger.md, docs/ledger-records.md and docs/format.md alone: genesis,
transactions, receipts, headers and what validators sign, proofs, the state, exported keys.

It executes nothing. Records are described by tables: a field's name and a function that refuses what the field cannot hold.
"""

import struct

import cbor2
from blake3 import blake3

import envelope
import reader
from envelope import digest
from reader import Refused, byte_string, open_signed, require, uint, verify

EMPTY = b"SPARSE_MERKLE_PLACEHOLDER_HASH__"
TRANSACTION_BYTES_MAX = 131_072
APPLIED = "applied"


# --- fields ---


def between(low, high):
    return lambda value: uint(value, low, high)


def octets(length):
    return lambda value: byte_string(value, length)


def octets_up_to(most):
    def check(value):
        require(isinstance(value, bytes) and len(value) <= most, f"not at most {most} bytes")

    return check


def text(value):
    require(isinstance(value, str), "not text")


def one_of(*names):
    return lambda value: require(value in names and isinstance(value, str), "an unknown word")


def boolean(value):
    require(isinstance(value, bool), "not true or false")


def many(check, most, ascending=None):
    """A list, each element once in ascending order of `ascending` where that is given."""

    def check_all(values):
        require(isinstance(values, list) and len(values) <= most, "not a list of that length")
        for value in values:
            check(value)
        if ascending:
            ranks = [ascending(value) for value in values]
            require(all(a < b for a, b in zip(ranks, ranks[1:])), "a list in another order")

    return check_all


def shape(required, optional=None):
    """A map with exactly these keys."""
    optional = optional or {}

    def check(value):
        require(isinstance(value, dict), "not a map")
        require(required.keys() <= value.keys() <= required.keys() | optional.keys(), "missing or unknown keys")
        for name, item in value.items():
            (required.get(name) or optional[name])(item)

    return check


def choice(options):
    def check(value):
        require(isinstance(value, dict) and len(value) == 1, "not a choice")
        ((name, content),) = value.items()
        require(name in options, "an unknown choice")
        options[name](content)

    return check


def pair(first, second):
    def check(value):
        require(isinstance(value, list) and len(value) == 2, "not a pair")
        first(value[0])
        second(value[1])

    return check


ID, SIGNATURE, COUNT = octets(32), octets(64), uint
BYTE, VERSION, EPOCH = between(0, 255), between(1, 2**32 - 1), between(1, 2**64 - 1)
PLATFORM, PERMISSIONS = between(0, 4), between(0, 15)
ROLE, MEASUREMENT, KIND = one_of("custodian", "worker", "gateway"), octets_up_to(64), one_of("audit", "batch")
BYTES = octets_up_to(TRANSACTION_BYTES_MAX)
SLOT = shape({"index": between(1, 255), "standby": boolean})
MINIMUM = shape({"tcb": COUNT, "revocation_list": COUNT})
VALIDATORS = many(ID, 128, bytes)
ACTIVATION = shape({"worker": ID, "signature": SIGNATURE})
SHARE_ROOT = {"committee": ID, "epoch": EPOCH, "root": ID, "count": COUNT}
ENROLMENT = shape({"role": ROLE, "key": ID, "platform": PLATFORM, "measurement": MEASUREMENT}, {"expires": COUNT})
MEASUREMENT_OF = shape({"role": ROLE, "platform": PLATFORM, "measurement": MEASUREMENT})
VALIDATOR_SIGNATURE = shape({"validator": ID, "signature": SIGNATURE})
LIMITS = shape(
    {
        "transaction_bytes": between(0, 2**32 - 1),
        "block_transactions": between(0, 2**32 - 1),
        "block_bytes": between(0, 2**32 - 1),
        "time_lock_ms": COUNT,
        "pending_ms": COUNT,
        "key_versions": between(0, 2**32 - 1),
    }
)


def slot_rank(item):
    return (item["slot"]["index"], item["slot"]["standby"])


ACKNOWLEDGEMENT = shape({"slot": SLOT, "signature": SIGNATURE})


def threshold(value):
    shape({"t": BYTE, "n": BYTE})(value)
    require(1 <= value["t"] <= value["n"], "no threshold")


def governance(value):
    shape({"k": BYTE, "keys": many(ID, 64, bytes)})(value)
    require(1 <= value["k"] <= len(value["keys"]), "governance that nobody reaches")


def validators(value):
    VALIDATORS(value)
    require(value, "no validators")


def operations(value):
    uint(value, 1, 7)


def key_name(value):
    text(value)
    require(1 <= len(value) <= 63, "a name of another length")
    require(all(c in "abcdefghijklmnopqrstuvwxyz0123456789._-" for c in value), "a letter that no name has")


def context_policy(value):
    def name(item):
        text(item)
        require(1 <= len(item.encode()) <= 64, "a context's name of another length")

    many(name, 16, str.encode)(value)


def dag_cbor_or_raw(value):
    require(isinstance(value, cbor2.CBORTag) and len(value.value) == 37, "not a CID")
    require(value.value[:2] == b"\0\1" and value.value[2] in (0x55, 0x71), "a CID of another kind")
    require(value.value[3:5] == b"\x1e\x20", "a CID of another kind")


CONTINUES = shape({"genesis": ID, "height": COUNT, "state_root": ID})
PENDING = shape({"version": VERSION, "fencing": COUNT, "committee": ID, "deadline": COUNT})
SIGNED_RECORD = shape({"record": BYTES})

ACTIONS = {
    "create-key": shape({"creation": BYTES}),
    "begin-version": shape({"key": ID, "version": VERSION, "fencing": COUNT, "committee": ID}),
    "abandon-version": shape({"key": ID, "fencing": COUNT}),
    "activate-version": shape(
        {
            "statement": BYTES,
            "commitments": BYTES,
            "acknowledgements": many(ACKNOWLEDGEMENT, 510),
            "activation": ACTIVATION,
        }
    ),
    "retire": shape({"key": ID}, {"version": VERSION, "deadline": COUNT}),
    "destroy-version": shape({"key": ID, "version": VERSION}),
    "set-min-decrypt": shape({"key": ID, "version": VERSION}),
    "set-delete-protection": shape({"key": ID, "protected": boolean}),
    "grant-key": SIGNED_RECORD,
    "revoke-key": shape({"key": ID, "grantee": ID, "serial": COUNT}),
    "record-share-root": shape({"statement": shape(SHARE_ROOT), "signatures": many(ACKNOWLEDGEMENT, 510)}),
    "govern": shape({"decision": BYTES, "signatures": many(shape({"key": ID, "signature": SIGNATURE}), 64)}),
    "register-bucket": SIGNED_RECORD,
    "grant-bucket": shape({"bucket": ID, "grantee": ID, "permissions": PERMISSIONS}, {"expires": COUNT}),
    "register-dataset": shape(
        {
            "dataset": ID,
            "random": ID,
            "version": COUNT,
            "root": dag_cbor_or_raw,
            "merkle": ID,
            "size_bytes": COUNT,
        }
    ),
    "anchor": shape({"kind": KIND, "sequence": COUNT, "root": ID, "count": COUNT}),
}

CHANGES = {
    "allow-measurement": MEASUREMENT_OF,
    "deny-measurement": MEASUREMENT_OF,
    "set-minimum": shape({"platform": PLATFORM, "minimum": MINIMUM}),
    "admit-committee": shape({"committee": BYTES}),
    "enrol": ENROLMENT,
    "withdraw": shape({"role": ROLE, "key": ID}),
    "suspend-key": ID,
    "resume-key": ID,
    "set-governance": governance,
    "set-validators": validators,
}


def outcome(value):
    if value != APPLIED:
        choice({"rejected": text})(value)


# Fields that must be there and fields that may be, by the record's type.
RECORDS = {
    "ledger-genesis": (
        {
            "deployment": ID,
            "development": boolean,
            "governance": governance,
            "validators": validators,
            "limits": LIMITS,
            "time": COUNT,
        },
        {"software_root": ID, "continues": CONTINUES},
    ),
    "ledger-header": (
        {
            "genesis": ID,
            "height": COUNT,
            "time": COUNT,
            "previous": ID,
            "state_root": ID,
            "transactions_root": ID,
            "receipts_root": ID,
            "next_validators": ID,
        },
        {},
    ),
    "ledger-certificate": (
        {"signatures": many(VALIDATOR_SIGNATURE, 128, lambda one: one["validator"])},
        {},
    ),
    "ledger-fresh-answer": (
        {"nonce": ID, "height": COUNT, "header": ID, "signature": VALIDATOR_SIGNATURE},
        {},
    ),
    "state-proof": ({"siblings": octets_up_to(256 * 32)}, {"place": ID, "value_hash": ID}),
    "transaction": (
        {
            "chain": ID,
            "sender": ID,
            "nonce": COUNT,
            "expires": choice({"height": COUNT, "time": COUNT}),
            "action": choice(ACTIONS),
        },
        {},
    ),
    "receipt": ({"transaction": ID, "height": COUNT, "index": between(0, 2**32 - 1), "outcome": outcome}, {}),
    "ledger-decision": ({"chain": ID, "sequence": COUNT, "expires": COUNT, "change": choice(CHANGES)}, {}),
    "key-creation": (
        {
            "owner": ID,
            "name": key_name,
            "random": ID,
            "scheme": BYTE,
            "threshold": threshold,
            "committee": ID,
            "context": context_policy,
            "created": COUNT,
        },
        {},
    ),
    "key-version": (
        {
            "key": ID,
            "version": VERSION,
            "fencing": COUNT,
            "epoch": EPOCH,
            "committee": ID,
            "pq": octets(1184),
            "dh": ID,
            "commitments": ID,
            "dealer": ID,
        },
        {},
    ),
    "key-grant": (
        {"key": ID, "grantee": ID, "operations": operations, "granted_by": ID, "serial": COUNT},
        {"parent": ID, "expires": COUNT},
    ),
    "committee": (
        {
            "threshold": threshold,
            "members": many(shape({"slot": SLOT, "key": ID, "platform": PLATFORM}), 510, slot_rank),
            "random": octets(16),
        },
        {},
    ),
    "validators": ({"validators": validators, "height": COUNT}, {}),
    "governance": ({"governance": governance, "sequence": COUNT}, {"next": pair(governance, COUNT)}),
    "worker-count": (
        {"platforms": many(pair(PLATFORM, between(1, 2**32 - 1)), 5, lambda one: one[0])},
        {},
    ),
    "account": (
        {"nonce": COUNT, "last": ID, "last_height": COUNT, "last_index": between(0, 2**32 - 1)},
        {},
    ),
    "key-status": (
        {
            "owner": ID,
            "fencing": COUNT,
            "min_decrypt": VERSION,
            "delete_protected": boolean,
            "suspended": boolean,
            "height": COUNT,
        },
        {"current": VERSION, "pending": PENDING, "retires": COUNT},
    ),
    "key-version-entry": (
        {
            "statement": BYTES,
            "commitments": BYTES,
            "acknowledgements": many(ACKNOWLEDGEMENT, 255),
            "activation": ACTIVATION,
            "epoch": EPOCH,
            "committee": ID,
            "height": COUNT,
            "destroyed": boolean,
        },
        {"retires": COUNT},
    ),
    "grant-entry": ({"grant": BYTES, "height": COUNT}, {"revoked": COUNT}),
    "committee-entry": ({"committee": BYTES, "height": COUNT, "from": COUNT}, {}),
    "share-root-entry": ({"share_root": shape(SHARE_ROOT), "height": COUNT}, {}),
    "measurement": ({"allowed_from": COUNT, "denied": boolean, "height": COUNT}, {}),
    "platform-minimum": ({"minimum": MINIMUM, "height": COUNT}, {"next": pair(MINIMUM, COUNT)}),
    "enrolment": ({"enrolment": ENROLMENT, "height": COUNT, "withdrawn": boolean}, {}),
    "bucket-entry": ({"owner": ID, "record": ID, "writer_set": COUNT, "height": COUNT}, {}),
    "bucket-grant": (
        {"bucket": ID, "grantee": ID, "permissions": PERMISSIONS, "height": COUNT},
        {"expires": COUNT},
    ),
    "dataset": (
        {
            "owner": ID,
            "version": COUNT,
            "root": dag_cbor_or_raw,
            "merkle": ID,
            "size_bytes": COUNT,
            "height": COUNT,
            "time": COUNT,
        },
        {},
    ),
    "anchor-head": ({"sequence": COUNT, "root": ID, "total": COUNT}, {}),
    "anchor": ({"sequence": COUNT, "root": ID, "count": COUNT, "height": COUNT, "time": COUNT}, {}),
    "exported-key": (
        {"deployment": ID, "key": ID}
        | {
            name: octets_up_to(196_608)
            for name in ("creation", "version", "committee", "header", "certificate")
            + ("creation_proof", "version_proof", "committee_proof")
        },
        {},
    ),
}


def read(kind, data):
    """A record, every field of it checked."""
    required, optional = RECORDS[kind]
    record = reader.decode(data, kind, list(required), list(optional), booleans=True)
    for name, value in record.items():
        if name not in ("type", "v"):
            (required.get(name) or optional[name])(value)
    return record


def read_signed(deployment, kind, label, author, data):
    """A signed record of the ledger: body, fields; its author has signed it."""
    body, signature = open_signed(data)
    record = read(kind, body)
    verify(deployment, label, record[author], body, signature)
    return body, record


# --- genesis, headers, what validators say ---


def quorum(validators):
    return len(validators) - (len(validators) - 1) // 3


def validators_hash(deployment, validators):
    return digest(deployment, "ledger-validators", *validators)


class Genesis:
    def __init__(self, data):
        self.record = read("ledger-genesis", data)
        self.deployment = self.record["deployment"]
        self.hash = digest(self.deployment, "ledger-genesis", data)
        self.validators = self.record["validators"]


def said(kind, **fields):
    return reader.encode({"type": kind, "v": 1, **fields})


def header_hash(deployment, data):
    return digest(deployment, "ledger-header", data)


def check_header(genesis, validators, data, certificate):
    """The header's fields, when a quorum of `validators` has signed it."""
    header, given = read("ledger-header", data), read("ledger-certificate", certificate)["signatures"]
    require(header["genesis"] == genesis.hash, "a header of another ledger")
    require(len(given) >= quorum(validators), "too few validators")
    body = said(
        "ledger-finality",
        genesis=genesis.hash,
        height=header["height"],
        header=header_hash(genesis.deployment, data),
        next_validators=header["next_validators"],
    )
    for one in given:
        require(one["validator"] in validators, "no validator")
        verify(genesis.deployment, "ledger-finality", one["validator"], body, one["signature"])
    return header


def fresh_height(genesis, validators, nonce, answers):
    """The height that a quorum has reached."""
    answers = [read("ledger-fresh-answer", one) for one in answers]
    names = [one["signature"]["validator"] for one in answers]
    require(names == sorted(set(names)) and len(names) >= quorum(validators), "no quorum")
    for one in answers:
        require(one["nonce"] == nonce and one["signature"]["validator"] in validators, "no answer to this")
        fields = {name: one[name] for name in ("nonce", "height", "header")}
        body = said("ledger-freshness", genesis=genesis.hash, **fields)
        verify(genesis.deployment, "ledger-freshness", one["signature"]["validator"], body, one["signature"]["signature"])
    return sorted((one["height"] for one in answers), reverse=True)[quorum(validators) - 1]


# --- proofs ---


def leaf(place, value_hash):
    return blake3(b"JMT::LeafNode" + place + value_hash).digest()


def inner(left, right):
    return blake3(b"JMT::IntrnalNode" + left + right).digest()


def bit(place, index):
    return place[index // 8] >> (7 - index % 8) & 1


def check_proof(root, key, value, data):
    """That the key has this value, or none (None)."""
    proof = read("state-proof", data)
    require(("place" in proof) == ("value_hash" in proof), "half a leaf")
    require(len(proof["siblings"]) % 32 == 0, "a part of a sibling")
    siblings = [proof["siblings"][at : at + 32] for at in range(0, len(proof["siblings"]), 32)]
    place = blake3(key).digest()
    if value is not None:
        require(proof.get("place") == place, "no value at this key")
        found = leaf(place, blake3(value).digest())
    elif "place" in proof:
        require(proof["place"] != place, "a value at this key")
        path = range(len(siblings))
        require(all(bit(proof["place"], i) == bit(place, i) for i in path), "a leaf elsewhere")
        found = leaf(proof["place"], proof["value_hash"])
    else:
        found = EMPTY
    for depth, sibling in zip(reversed(range(len(siblings))), siblings):
        found = inner(sibling, found) if bit(place, depth) else inner(found, sibling)
    require(found == root, "another root")


def state_root(entries):
    """The root over (key, value) pairs, built from the definition of the tree."""

    def subtree(leaves, depth):
        if not leaves:
            return EMPTY
        if len(leaves) == 1:
            return leaf(*leaves[0])
        sides = [[one for one in leaves if bit(one[0], depth) == side] for side in (0, 1)]
        return inner(*(subtree(side, depth + 1) for side in sides))

    return subtree([(blake3(key).digest(), blake3(value).digest()) for key, value in entries], 0)


def list_root(items):
    if not items:
        return blake3(b"").digest()
    if len(items) == 1:
        return blake3(b"\0" + items[0]).digest()
    middle = 1
    while 2 * middle < len(items):
        middle *= 2
    return blake3(b"\1" + list_root(items[:middle]) + list_root(items[middle:])).digest()


def in_list(root, item, index, length, siblings):
    """RFC 6962, 2.1.1, from the root down: whether the item stands there."""

    def climb(index, length, siblings):
        if length == 1:
            require(not siblings, "siblings beyond the leaf")
            return blake3(b"\0" + item).digest()
        require(siblings, "a sibling is missing")
        middle = 1
        while 2 * middle < length:
            middle *= 2
        *below, beside = siblings
        if index < middle:
            return blake3(b"\1" + climb(index, middle, below) + beside).digest()
        return blake3(b"\1" + beside + climb(index - middle, length - middle, below)).digest()

    require(0 <= index < length, "beyond the end")
    require(climb(index, length, siblings) == root, "another root")


# --- transactions ---


def read_creation(deployment, data):
    """Key id and fields of a signed creation."""
    body, creation = read_signed(deployment, "key-creation", "key-creation", "owner", data)
    require(creation["scheme"] == 1, "another scheme")
    return digest(deployment, "key-id", body), creation


def read_committee(deployment, data):
    """Committee id and fields."""
    committee = read("committee", data)
    members, n = committee["members"], committee["threshold"]["n"]
    require(all(one["slot"]["index"] <= n for one in members), "an index that the committee does not have")
    primaries = [one["slot"]["index"] for one in members if not one["slot"]["standby"]]
    require(primaries == list(range(1, n + 1)), "an index without a custodian")
    require(len({one["key"] for one in members}) == len(members), "a custodian in two places")
    return digest(deployment, "committee", data), committee


def check_acknowledgement(deployment, statement, member, given):
    slot = given["slot"]
    body = bytes([slot["index"], slot["standby"]]) + statement
    verify(deployment, "share-acknowledgement", member["key"], body, given["signature"])


def check_activation(deployment, statement, activation):
    verify(deployment, "key-activation", activation["worker"], statement, activation["signature"])


def read_transaction(genesis, data):
    """Hash and fields of a transaction of this ledger; what it brings along is checked as far as that needs no state."""
    deployment = genesis.deployment
    require(len(data) <= min(genesis.record["limits"]["transaction_bytes"], TRANSACTION_BYTES_MAX), "too long")
    body, transaction = read_signed(deployment, "transaction", "ledger-transaction", "sender", data)
    require(transaction["chain"] == genesis.hash, "for another ledger")
    ((name, action),) = transaction["action"].items()
    if name == "create-key":
        read_creation(deployment, action["creation"])
    elif name == "grant-key":
        read_signed(deployment, "key-grant", "key-grant", "granted_by", action["record"])
    elif name == "register-bucket":
        reader.read_bucket(deployment, action["record"])
    elif name == "activate-version":
        statement = read("key-version", action["statement"])
        require(action["activation"]["worker"] != statement["dealer"], "activated by its dealer")
        check_activation(deployment, action["statement"], action["activation"])
    elif name == "register-dataset":
        expected = digest(deployment, "dataset-id", transaction["sender"], action["random"])
        require(action["dataset"] == expected, "another's dataset")
    elif name == "govern":
        decision = read("ledger-decision", action["decision"])
        require(decision["chain"] == genesis.hash, "a decision for another ledger")
        keys = [one["key"] for one in action["signatures"]]
        require(keys == sorted(set(keys)), "signatures in another order")
        for one in action["signatures"]:
            verify(deployment, "ledger-governance", one["key"], action["decision"], one["signature"])
    return digest(deployment, "ledger-transaction-hash", body), transaction


# --- the state ---


def read_state(genesis, key, value):
    """One entry of the state, checked for what it says by itself: type of the record, and that the key is the value's."""
    kind, rest, deployment = key[0], key[1:], genesis.deployment
    plain = {1: "ledger-genesis", 2: "validators", 3: "governance", 4: "worker-count"}
    sized = {5: "account", 17: "key-status", 48: "bucket-entry", 50: "dataset"}
    longer = {33: ("share-root-entry", 40), 36: ("platform-minimum", 1), 37: ("enrolment", 33)}
    longer |= {49: ("bucket-grant", 64), 51: ("anchor-head", 33), 52: ("anchor", 41)}
    if kind in plain:
        require(not rest, "a key that is too long")
        return read(plain[kind], value)
    if kind in sized:
        byte_string(rest, 32)
        return read(sized[kind], value)
    if kind == 16:
        key_id, creation = read_creation(deployment, value)
        require(key_id == rest, "another key's creation")
        return creation
    if kind == 18:
        key_name(rest[32:].decode())
        return {"key": byte_string(value, 32)}
    if kind == 19:
        entry = read("key-version-entry", value)
        statement = read("key-version", entry["statement"])
        place = statement["key"] + struct.pack(">I", statement["version"])
        require(rest == place, "another version's entry")
        check_activation(deployment, entry["statement"], entry["activation"])
        return entry
    if kind == 20:
        entry = read("grant-entry", value)
        _, grant = read_signed(deployment, "key-grant", "key-grant", "granted_by", entry["grant"])
        require(rest == grant["key"] + grant["grantee"], "another's grant")
        return entry | {"signed": grant}
    if kind == 32:
        entry = read("committee-entry", value)
        committee_id, _ = read_committee(deployment, entry["committee"])
        require(committee_id == rest, "another committee")
        return entry
    if kind == 34:
        return {"epoch": struct.unpack(">Q", byte_string(value, 8))[0]}
    if kind == 35:
        require(rest[0] in (1, 2, 3) and rest[1] <= 4 and len(rest) <= 66, "a measurement's key")
        return read("measurement", value)
    require(kind in longer and len(rest) == longer[kind][1], "an unknown kind of key")
    return read(longer[kind][0], value)


# --- exported keys ---


def read_exported(data, genesis=None, key=None):
    """The public keys in an exported file as an `envelope.NamedKey`, and the header's time. Pinned by a genesis or by the key's id."""
    export = read("exported-key", data)
    deployment, key_id = export["deployment"], export["key"]
    header = read("ledger-header", export["header"])
    if genesis is not None:
        require(genesis.deployment == deployment, "another deployment's")
        check_header(genesis, genesis.validators, export["header"], export["certificate"])
    else:
        require(key is not None and key == key_id, "another key")
        read("ledger-certificate", export["certificate"])

    entry = read("key-version-entry", export["version"])
    statement = read("key-version", entry["statement"])
    root, version = header["state_root"], struct.pack(">I", statement["version"])
    check_proof(root, b"\x10" + key_id, export["creation"], export["creation_proof"])
    check_proof(root, b"\x13" + key_id + version, export["version"], export["version_proof"])
    check_proof(root, b"\x20" + statement["committee"], export["committee"], export["committee_proof"])

    found, creation = read_creation(deployment, export["creation"])
    require(found == key_id == statement["key"], "another key's creation or version")
    committee_id, committee = read_committee(deployment, read("committee-entry", export["committee"])["committee"])
    require(committee_id == statement["committee"], "another committee than the statement's")
    require(committee["threshold"] == creation["threshold"], "a committee of another threshold")
    require(committee_id == creation["committee"], "a committee that the owner did not name")

    given = entry["acknowledgements"]
    ranks = [slot_rank(one) for one in given]
    require(ranks == sorted(set(ranks)), "acknowledgements in another order")
    serving = {one["slot"]["index"]: one for one in committee["members"] if not one["slot"]["standby"]}
    for one in given:
        require(not one["slot"]["standby"] and one["slot"]["index"] in serving, "no serving custodian's")
        check_acknowledgement(deployment, entry["statement"], serving[one["slot"]["index"]], one)
    require(len(given) >= committee["threshold"]["t"], "too few custodians")

    require(not entry["destroyed"] and "retires" not in entry, "a version that is not active")
    named = envelope.NamedKey(deployment, key_id, statement["version"], statement["pq"], statement["dh"])
    return named, header["time"]


__all__ = ["Genesis", "Refused", "check_header", "read_exported", "read_state", "read_transaction"]
