"""A second reader of the KEM, of envelopes and of exported keys, version 1, written from docs/format.md alone.

ML-KEM-768 is `kyber-py`, ristretto255 is ristretto.py beside this, the rest as in reader.py.
"""

import base64
import hashlib
import struct

from blake3 import blake3
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kyber_py.ml_kem import ML_KEM_768

import reader
import ristretto
from reader import Refused, byte_string, gcm_open, hkdf, label, message, require, uint

PQ_PUBLIC, PQ_CIPHERTEXT, POINT = 1184, 1088, 32
CIPHERTEXT = 1 + PQ_CIPHERTEXT + 5 * POINT
SECOND_GENERATOR = ristretto.from_uniform(hashlib.sha512(label("tdh2-generator")).digest())


def digest(deployment, name, *parts):
    return blake3(message(deployment, name, b"".join(parts))).digest()


def element(data):
    point = ristretto.decode(data)
    require(point is not None, "not the canonical encoding of an element")
    require(point != ristretto.IDENTITY, "the identity")
    return point


# --- encryption contexts ---


def check_context(context):
    require(isinstance(context, dict) and len(context) <= 32, "not a context")
    total = 0
    for key, value in context.items():
        require(isinstance(key, str) and isinstance(value, str), "a context of texts")
        key, value = key.encode(), value.encode()
        require(1 <= len(key) <= 128 and len(value) <= 1024, "a text that is too long")
        total += len(key) + len(value)
    require(total <= 8192, "a context that is too long")


def context_encoding(context):
    check_context(context)
    pairs = sorted((key.encode(), value.encode()) for key, value in context.items())
    return b"".join(struct.pack(">I", len(text)) + text for pair in pairs for text in pair)


def context_hash(deployment, context):
    return digest(deployment, "encryption-context", context_encoding(context))


# --- the KEM ---


class NamedKey:
    """A key version's public half."""

    def __init__(self, deployment, key, version, pq, dh):
        self.deployment = byte_string(deployment, 32)
        self.key, self.version = byte_string(key, 32), uint(version, 1, 2**32 - 1)
        self.pq, self.dh = byte_string(pq, PQ_PUBLIC), byte_string(dh, POINT)
        element(dh)

    def public_hash(self):
        return digest(self.deployment, "kem-public-keys", self.pq, self.dh)


class Ciphertext:
    """`01 || ML-KEM ciphertext || u || u_bar || w || w_bar || f`."""

    def __init__(self, deployment, data):
        require(len(data) == CIPHERTEXT and data[0] == 1, "not a ciphertext of scheme 1")
        self.deployment = deployment
        self.pq = data[1 : 1 + PQ_CIPHERTEXT]
        self.dh = data[1 + PQ_CIPHERTEXT :]
        self.u, self.u_bar, self.w, self.w_bar, self.f = (self.dh[at : at + 32] for at in range(0, 160, 32))

    def pq_hash(self):
        return digest(self.deployment, "kem-pq-ciphertext", self.pq)

    def kem_hash(self, context):
        return digest(self.deployment, "kem-hash", self.dh, self.pq_hash(), context)

    def challenge(self, key, context):
        """e, of a proof for that key and context."""
        proof_label = digest(
            key.deployment,
            "tdh2-label",
            b"\x01",
            key.key,
            struct.pack(">I", key.version),
            key.public_hash(),
            self.pq_hash(),
            context,
        )
        body = proof_label + self.u + self.u_bar + self.w + self.w_bar
        e = hashlib.sha512(message(key.deployment, "tdh2-challenge", body)).digest()
        return int.from_bytes(e, "little") % ristretto.ORDER

    def verify(self, key, context):
        """The proof; gives u."""
        u, u_bar, w, w_bar = map(element, (self.u, self.u_bar, self.w, self.w_bar))
        f = int.from_bytes(self.f, "little")
        require(f < ristretto.ORDER, "f is not reduced")
        e = self.challenge(key, context)
        require(f * ristretto.BASE == w + e * u, "the proof does not hold for G")
        require(f * SECOND_GENERATOR == w_bar + e * u_bar, "the proof does not hold for G_bar")
        return u

    def derive(self, key, context, ss_pq, ss_dh):
        info = key.key + struct.pack(">I", key.version) + key.pq + key.dh + self.pq + self.u + self.u_bar + context
        return hkdf(ss_pq + ss_dh, b"", message(key.deployment, "kem-key", info))


def encapsulate(key, context, m, r, s):
    """The sender's side, from its randomness: a ciphertext and K."""
    ss_pq, pq = ML_KEM_768._encaps_internal(key.pq, m)
    u, u_bar, w, w_bar = (n * g for n in (r, s) for g in (ristretto.BASE, SECOND_GENERATOR))
    points = b"".join(point.encode() for point in (u, u_bar, w, w_bar))
    unproved = Ciphertext(key.deployment, b"\x01" + pq + points + bytes(32))
    f = (s + r * unproved.challenge(key, context)) % ristretto.ORDER
    ciphertext = Ciphertext(key.deployment, b"\x01" + pq + points + f.to_bytes(32, "little"))
    ss_dh = (r * element(key.dh)).encode()
    return ciphertext, ciphertext.derive(key, context, ss_pq, ss_dh)


def pq_keys(seed):
    """Public and expanded secret key of `d || z`."""
    return ML_KEM_768.key_derive(byte_string(seed, 64))


class Secrets:
    """Both secrets of a key version in one place, as no deployment has them."""

    def __init__(self, key, seed, x):
        public, self.pq = pq_keys(seed)
        require(public == key.pq, "a seed of another key")
        self.key, self.x = key, int.from_bytes(x, "little")
        require((self.x * ristretto.BASE).encode() == key.dh, "a secret of another key")

    def legs(self, ciphertext, context):
        u = ciphertext.verify(self.key, context)
        return ML_KEM_768.decaps(self.pq, ciphertext.pq), (self.x * u).encode()

    def open(self, ciphertext, context):
        return ciphertext.derive(self.key, context, *self.legs(ciphertext, context))


def unwrap_named(secrets, deployment, wrap, wrap_context, context):
    """A key out of a wrap of kind 3."""
    require(len(wrap) == 36 + CIPHERTEXT + 48, "not a wrap to a named key")
    require(wrap[:32] == secrets.key.key, "a wrap to another key")
    require(struct.unpack(">I", wrap[32:36])[0] == secrets.key.version, "a wrap to another version")
    ciphertext = Ciphertext(deployment, wrap[36 : 36 + CIPHERTEXT])
    key = secrets.open(ciphertext, context)
    return gcm_open(key, bytes(12), wrap[36 + CIPHERTEXT :], wrap_context), ciphertext


def unwrap_passphrase(deployment, passphrase, wrap, wrap_context):
    """A key out of a wrap of kind 2."""
    require(len(wrap) == 28 + 48, "not a wrap under a passphrase")
    key = reader.stretch(passphrase, wrap[:28], message(deployment, "wrap-passphrase"))
    return gcm_open(key, bytes(12), wrap[28:], wrap_context)


# --- envelopes ---


class Envelope:
    def __init__(self, file):
        require(len(file) >= 9 and file[:5] == b"SREN\x01", "not an envelope of version 1")
        length = struct.unpack(">I", file[5:9])[0]
        require(length <= 1 << 20 and len(file) >= 9 + length, "a file that is cut off")
        keys = ["deployment", "id", "context", "commitment", "wraps"]
        record = reader.decode(file[9 : 9 + length], "envelope", keys, ["payload", "blocks"])
        self.frames = file[9 + length :]
        self.deployment, self.id = byte_string(record["deployment"], 32), byte_string(record["id"], 16)
        self.commitment = byte_string(record["commitment"], 32)
        self.context = context_hash(self.deployment, record["context"])
        self.wraps = {}
        require(1 <= len(record["wraps"]) <= 64, "a number of wraps")
        for wrap in record["wraps"]:
            require(wrap.keys() == {"kind", "data"}, "not a wrap")
            require(isinstance(wrap["data"], bytes) and len(wrap["data"]) <= 8192, "not a wrap's data")
            self.wraps[uint(wrap["kind"])] = wrap["data"]
        require(("payload" in record) != ("blocks" in record), "either a payload or a stream")
        self.payload, self.blocks = record.get("payload"), record.get("blocks")
        if self.blocks is None:
            require(isinstance(self.payload, bytes) and 32 <= len(self.payload) <= 65520 + 32, "a payload too long")
            require(not self.frames, "bytes after the record")
        else:
            uint(self.blocks, 1, 64)

    def wrap_context(self):
        return b"\x03" + self.context + self.id

    def dek(self, secrets=None, passphrase=None):
        if secrets is not None:
            dek, _ = unwrap_named(secrets, self.deployment, self.wraps[3], self.wrap_context(), self.context)
        else:
            dek = unwrap_passphrase(self.deployment, passphrase, self.wraps[2], self.wrap_context())
        require(reader.Keys(self.deployment, dek).commitment() == self.commitment, "another DEK")
        return dek

    def open(self, dek):
        if self.blocks is None:
            info = message(self.deployment, "envelope-payload", self.id + self.context)
            return gcm_open(hkdf(dek, self.payload[:16], info), bytes(12), self.payload[16:])
        return self._stream(dek)

    def _stream(self, dek):
        full, rest, plain, index, last = self.blocks * reader.BLOCK_PLAIN, self.frames, b"", 0, False
        while not last:
            require(len(rest) >= 20, "cut off")
            header = struct.unpack(">I", rest[:4])[0]
            last, length = bool(header >> 31), header & 0x7FFFFFFF
            require(length <= full if last else length == full, "a chunk of another length")
            require(length or index == 0, "an empty chunk")
            end = 20 + reader.ciphertext_bytes(length)
            require(len(rest) >= end, "cut off")
            place = struct.pack(">Q", index) + bytes([last])
            chunk = hkdf(dek, b"", message(self.deployment, "envelope-chunk", self.id + self.context + place))
            keys, blocks = reader.Keys(self.deployment, chunk), rest[20:end]
            for i, at in enumerate(range(0, len(blocks), reader.BLOCK)):
                plain += reader.open_block(keys, rest[4:20], length, i, blocks[at : at + reader.BLOCK])
            rest, index = rest[end:], index + 1
        require(not rest, "bytes after the last chunk")
        return plain


def seal(key, shown, plaintext, randomness):
    """The file of an inline envelope for a named key alone. `randomness`: 32 + 16 + 16 + 32 + 64 + 64 bytes."""
    cuts = ((0, 32), (32, 48), (48, 64), (64, 96), (96, 160), (160, 224))
    dek, envelope_id, salt, m, r, s = (randomness[begin:end] for begin, end in cuts)
    r, s = (int.from_bytes(wide, "little") % ristretto.ORDER for wide in (r, s))
    context = context_hash(key.deployment, shown)
    ciphertext, wrapping = encapsulate(key, context, m, r, s)
    wrapped = AESGCM(wrapping).encrypt(bytes(12), dek, b"\x03" + context + envelope_id)
    wrap = key.key + struct.pack(">I", key.version) + b"\x01" + ciphertext.pq + ciphertext.dh + wrapped
    info = message(key.deployment, "envelope-payload", envelope_id + context)
    record = reader.encode(
        {
            "type": "envelope",
            "v": 1,
            "deployment": key.deployment,
            "id": envelope_id,
            "context": shown,
            "commitment": reader.Keys(key.deployment, dek).commitment(),
            "wraps": [{"kind": 3, "data": wrap}],
            "payload": salt + AESGCM(hkdf(dek, salt, info)).encrypt(bytes(12), plaintext, b""),
        }
    )
    return b"SREN\x01" + struct.pack(">I", len(record)) + record


# --- armor ---


def dearmor(text, kind):
    lines = text.removesuffix("\n").split("\n")
    require(lines[0] == f"-----BEGIN STRONGROOM {kind}-----", "another first line")
    require(lines[-1] == f"-----END STRONGROOM {kind}-----", "another last line")
    body = lines[1:-1]
    require(all(len(line) == 64 for line in body[:-1]), "a line of another length")
    require(not body or 0 < len(body[-1]) <= 64, "a last line of another length")
    data = base64.b64decode("".join(body), validate=True)
    require(base64.b64encode(data).decode() == "".join(body), "another encoding")
    return data
