"""A second implementation of sharings, version 1: Shamir's sharing, commitments, partial decryptions and their proofs,
custodians' records and the messages of key generation, written from docs/threshold.md and the papers that it names alone.

ristretto255 is ristretto.py beside this. Nothing here is constant-time: it reads test vectors and nothing else.
"""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

import ristretto
from envelope import digest, element
from reader import message, require

ORDER, BASE = ristretto.ORDER, ristretto.BASE
HEADER, SIGNATURE, HEAD = 82, 64, 96


# --- Shamir's sharing over GF(2^8) ---


def gf_mul(left, right):
    product = 0
    for bit in range(8):
        if right >> bit & 1:
            product ^= left << bit
    for bit in range(15, 7, -1):
        if product >> bit & 1:
            product ^= 0x11B << (bit - 8)
    return product


def gf_inverse(value):
    return next(other for other in range(1, 256) if gf_mul(value, other) == 1)


def gf_share(secret, coefficients, index):
    """The polynomial's value at the index, for each byte: powers, not Horner's rule."""
    out, power = bytearray(secret), 1
    for coefficient in coefficients:
        power = gf_mul(power, index)
        for at, byte in enumerate(coefficient):
            out[at] ^= gf_mul(byte, power)
    return bytes(out)


def gf_combine(shares):
    """The secret from a map of indices to values."""
    out = bytearray(len(next(iter(shares.values()))))
    for own, value in shares.items():
        weight = 1
        for other in shares:
            if other != own:
                weight = gf_mul(weight, gf_mul(other, gf_inverse(own ^ other)))
        for at, byte in enumerate(value):
            out[at] ^= gf_mul(byte, weight)
    return bytes(out)


# --- what a sharing is bound to ---


class Sharing:
    def __init__(self, item):
        self.deployment = bytes.fromhex(item["deployment"])
        self.t, self.n = item["t"], item["n"]
        self.binding = (
            bytes.fromhex(item["key"])
            + item["version"].to_bytes(4, "big")
            + item["epoch"].to_bytes(8, "big")
            + bytes.fromhex(item["committee"])
            + bytes([self.t, self.n])
        )

    def hash(self, name, *parts):
        return digest(self.deployment, name, *parts)

    def scalar(self, name, *parts):
        wide = hashlib.sha512(message(self.deployment, name, b"".join(parts))).digest()
        return int.from_bytes(wide, "little") % ORDER

    def pq_commitment(self, index, value, opening):
        return self.hash("pq-share", self.binding, bytes([index]), value, opening)

    def share_hash(self, index, entry):
        return self.hash("share", self.binding, bytes([index]), entry)

    def root(self, entries):
        return self.hash("shares-root", self.binding, entries)


def scalar(data):
    value = int.from_bytes(data, "little")
    require(value < ORDER, "a scalar that is not reduced")
    return value


def encode_scalar(value):
    return value.to_bytes(32, "little")


def weight_at_zero(own, indices):
    weight = 1
    for other in indices:
        if other != own:
            weight = weight * other * pow(other - own, -1, ORDER) % ORDER
    return weight


# --- partial decryptions (Shoup and Gennaro 2002, 4.3; Chaum and Pedersen 1992) ---


def challenge(sharing, name, context, base, public, power, commitments):
    return sharing.scalar(name, context, base, public, power, *commitments)


def make_partial(sharing, index, x, u, request_hash, fresh):
    public, power = (x * BASE).encode(), (x * element(u)).encode()
    context = sharing.binding + bytes([index]) + request_hash
    k = sharing.scalar("proof-nonce", encode_scalar(x), fresh, u, public, power, context)
    commitments = [(k * BASE).encode(), (k * element(u)).encode()]
    c = challenge(sharing, "partial-proof", context, u, public, power, commitments)
    return bytes([index]) + power + b"".join(commitments) + encode_scalar((k + c * x) % ORDER)


def check_partial(sharing, publics, u, request_hash, data):
    """The index and the element, when the proof holds for the public key of that index."""
    require(len(data) == 129, "not a partial's length")
    index, power, commitments = data[0], data[1:33], [data[33:65], data[65:97]]
    require(1 <= index <= len(publics), "no such share")
    public, response = publics[index - 1], scalar(data[97:])
    context = sharing.binding + bytes([index]) + request_hash
    c = challenge(sharing, "partial-proof", context, u, public, power, commitments)
    ours, theirs = (ristretto.decode(commitment) for commitment in commitments)
    require(ours is not None and theirs is not None, "a commitment that is no element")
    require(response * BASE == ours + c * element(public), "the proof does not hold for G")
    require(response * element(u) == theirs + c * element(power), "the proof does not hold for u")
    return index, element(power)


def combine(partials):
    """ss_dh, from a map of indices to elements."""
    total = ristretto.IDENTITY
    for index, power in partials.items():
        total = total + weight_at_zero(index, partials) * power
    return total.encode()


# --- a custodian's record ---


class Record:
    def __init__(self, sharing, data):
        require(len(data) == 242 and data[0] == 1, "not a record of version 1")
        require(data[1:79] == sharing.binding, "a record of another sharing")
        self.index, self.standby, self.platform = data[79], data[80], data[81]
        require(self.standby in (0, 1) and self.platform <= 4, "a field out of its range")
        self.pq, self.opening, self.dh = data[82:146], data[146:178], data[178:210]
        self.share_hash = data[210:242]
        entry = sharing.pq_commitment(self.index, self.pq, self.opening)
        entry += (scalar(self.dh) * BASE).encode()
        require(sharing.share_hash(self.index, entry) == self.share_hash, "other shares than the record names")


# --- key generation ---


class Message:
    """A signed message of one attempt."""

    def __init__(self, sharing, attempt, roster, data):
        require(data[0] == 1, "not version 1")
        self.kind, self.sender = data[1], data[81]
        require(data[2:81] == sharing.binding + bytes([attempt]), "a message of another attempt")
        self.payload, self.signature = data[HEADER:-SIGNATURE], data[-SIGNATURE:]
        self.head = sharing.hash("dkg-payload", self.payload) + self.signature
        check_head(sharing, attempt, roster, self.kind, self.sender, self.head)


def check_head(sharing, attempt, roster, kind, sender, head):
    body = bytes([kind]) + sharing.binding + bytes([attempt, sender]) + head[:32]
    try:
        key = Ed25519PublicKey.from_public_bytes(roster[sender - 1])
        key.verify(head[32:], message(sharing.deployment, "dkg-message", body))
    except InvalidSignature:
        require(False, f"party {sender} did not sign that")


class Ceremony:
    """The public record of a ceremony that succeeded: checks everything that anyone can check."""

    def __init__(self, sharing, attempt, roster, data):
        messages = [Message(sharing, attempt, roster, one) for one in data]
        rounds = [{one.sender: one for one in messages if one.kind == kind} for kind in (1, 2, 3)]
        require(len(messages) == 3 * sharing.n, "three messages from each")
        require(all(sorted(one) == list(range(1, sharing.n + 1)) for one in rounds), "three messages from each")
        commits, deals, readies = rounds
        self.polynomials = {
            sender: self.read_commit(sharing, sender, one.payload) for sender, one in commits.items()
        }
        for earlier, later, extra in ((commits, deals, 32 * (sharing.n - 1)), (deals, readies, 0)):
            heads = b"".join(earlier[sender].head for sender in sorted(earlier))
            for one in later.values():
                require(len(one.payload) == len(heads) + extra, "an echo of another length")
                require(one.payload[: len(heads)] == heads, "an echo of something else")

    @staticmethod
    def read_commit(sharing, sender, payload):
        require(len(payload) == 32 * sharing.t + 64 + 32, "a commit of another length")
        encoded = [payload[at : at + 32] for at in range(0, 32 * sharing.t, 32)]
        polynomial = [element(one) for one in encoded]
        proof = payload[32 * sharing.t :]
        # FROST's HDKG (RFC 9591's ristretto255 suite with its "dkg" tag): SHA-512 of context string, tag and input.
        preimage = b"FROST-RISTRETTO255-SHA512-v1dkg" + encode_scalar(sender) + encoded[0] + proof[:32]
        c = int.from_bytes(hashlib.sha512(preimage).digest(), "little") % ORDER
        require(scalar(proof[32:64]) * BASE == element(proof[:32]) + c * polynomial[0], "no proof of possession")
        element(proof[64:])
        return polynomial

    def public(self, index):
        """The public key of a share; at 0 the group's."""
        total = ristretto.IDENTITY
        for polynomial in self.polynomials.values():
            for power, coefficient in enumerate(polynomial):
                total = total + pow(index, power) * coefficient
        return total.encode()
