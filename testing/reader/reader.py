"""A second reader of Strongroom's object format version 1, written from docs/format.md alone.

It shares no code with the Rust implementation: dag-cbor is cbor2, AES-GCM, HKDF, key wrap, Argon2id and Ed25519 are
`cryptography`, BLAKE3 is `blake3` (whole hashes) and the few lines below (chaining values of subtrees, which that package
does not give).

    reader.py --explain NAME    prints the intermediate values of a vector's first chunk
"""

import base64
import hashlib
import hmac
import json
import pathlib
import struct
import sys

import cbor2
from blake3 import blake3
from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.argon2 import Argon2id
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

BLOCK = 65536
TAG = 16
BLOCK_PLAIN = BLOCK - TAG
PAGE_CHUNKS = 1024
MANIFEST_BYTES_MAX = 81920
RAW, DAG_CBOR = 0x55, 0x71
VECTORS = pathlib.Path(__file__).resolve().parents[2] / "test-data" / "objects" / "v1"


class Refused(Exception):
    """What was read is not what the format allows or what was asked for."""


def require(condition, reason):
    if not condition:
        raise Refused(reason)


# --- labels and derivations ---


def label(name):
    return b"strongroom/v1/" + name.encode() + b"\0"


def message(deployment, name, body=b""):
    return label(name) + deployment + body


def hkdf(key, salt, info):
    return HKDF(algorithm=hashes.SHA256(), length=32, salt=salt or None, info=info).derive(key)


def gcm_open(key, nonce, sealed, aad=b""):
    try:
        return AESGCM(key).decrypt(nonce, sealed, aad)
    except InvalidTag:
        raise Refused("a tag does not fit") from None


# --- dag-cbor ---


def _canonical(value, booleans=False):
    """The same value with its CIDs as they are encoded; refuses what no record holds. Only the ledger's have booleans."""
    if isinstance(value, dict):
        require(all(isinstance(key, str) for key in value), "a key is not text")
        return {key: _canonical(item, booleans) for key, item in value.items()}
    if isinstance(value, list):
        return [_canonical(item, booleans) for item in value]
    if isinstance(value, cbor2.CBORTag):
        require(value.tag == 42 and isinstance(value.value, bytes), "a tag other than a CID's")
        return value
    kinds = (int, str, bytes, bool) if booleans else (int, str, bytes)
    require(type(value) in kinds, "a value of a kind that no record holds")
    return value


def encode(record):
    # canonical: shortest integers, definite lengths, keys by length and then bytewise.
    return cbor2.dumps(record, canonical=True)


def decode(data, kind, required, optional=(), booleans=False):
    """Reads a record strictly. `required` and `optional` name its keys besides `type` and `v`."""
    try:
        record = _canonical(cbor2.loads(data), booleans)
    except (cbor2.CBORDecodeError, ValueError, RecursionError):
        raise Refused("not CBOR") from None
    require(isinstance(record, dict), "not a record")
    require(encode(record) == data, "not the deterministic encoding")
    keys = set(required)
    if kind is not None:
        require(record.get("type") == kind and record.get("v") == 1, f"not a {kind} record of version 1")
        keys |= {"type", "v"}
    require(keys <= record.keys() <= keys | set(optional), "missing or unknown keys")
    return record


def byte_string(value, length):
    require(isinstance(value, bytes) and len(value) == length, f"not {length} bytes")
    return value


def uint(value, low=0, high=2**64 - 1):
    require(type(value) is int and low <= value <= high, "a number out of bounds")
    return value


# --- CIDs ---


def cid_bytes(codec, digest):
    return bytes([1, codec, 0x1E, 32]) + digest


def cid_of(codec, data):
    return cid_bytes(codec, blake3(data).digest())


def cid_text(binary):
    return "b" + base64.b32encode(binary).decode().lower().rstrip("=")


def cid_from_text(text):
    require(text.startswith("b") and text == text.lower(), "not a base32 CID")
    body = text[1:].upper()
    return base64.b32decode(body + "=" * (-len(body) % 8))


def cid_from_tag(tag, codec):
    require(isinstance(tag, cbor2.CBORTag) and len(tag.value) == 37, "not a CID")
    require(tag.value[:5] == bytes([0, 1, codec, 0x1E, 32]), "a CID of another kind")
    return tag.value[1:]


# --- chunks ---


def block_count(plain):
    return max(1, -(-plain // BLOCK_PLAIN))


def ciphertext_bytes(plain):
    return plain + TAG * block_count(plain)


class Keys:
    """What is derived from a DEK."""

    def __init__(self, deployment, dek):
        self.deployment = byte_string(deployment, 32)
        self.dek = byte_string(dek, 32)

    def chunk_key(self, salt):
        return hkdf(self.dek, salt, message(self.deployment, "chunk"))

    def commitment(self):
        return hkdf(self.dek, b"", message(self.deployment, "dek-commitment"))

    def mac(self, data):
        key = hkdf(self.dek, b"", message(self.deployment, "manifest-mac"))
        return hmac.new(key, data, hashlib.sha256).digest()

    def metadata(self, bucket, version, sealed):
        key = hkdf(self.dek, sealed[:16], message(self.deployment, "metadata", bucket + version))
        return gcm_open(key, bytes(12), sealed[16:])


def nonce(index, last):
    return bytes(7) + struct.pack(">I", index) + (b"\x01" if last else b"\x00")


def open_block(keys, salt, plain_len, index, block):
    """The tag alone; the caller has checked CID or proof."""
    aad = struct.pack(">III", 1, BLOCK, plain_len)
    last = index + 1 == block_count(plain_len)
    return gcm_open(keys.chunk_key(salt), nonce(index, last), block, aad)


def open_chunk(keys, chunk, ciphertext):
    salt, plain_len, cid = chunk
    require(cid_of(RAW, ciphertext) == cid, "the chunk was altered")
    require(len(ciphertext) == ciphertext_bytes(plain_len), "the chunk has another length")
    blocks = [ciphertext[at : at + BLOCK] for at in range(0, len(ciphertext), BLOCK)]
    return b"".join(open_block(keys, salt, plain_len, i, block) for i, block in enumerate(blocks))


# --- BLAKE3 subtrees (the paper, section 2; only the default mode) ---

_IV = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
    0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
_PERMUTATION = (2, 6, 3, 10, 7, 0, 4, 13, 1, 11, 12, 5, 9, 14, 15, 8)
_QUARTERS = (
    (0, 4, 8, 12), (1, 5, 9, 13), (2, 6, 10, 14), (3, 7, 11, 15),
    (0, 5, 10, 15), (1, 6, 11, 12), (2, 7, 8, 13), (3, 4, 9, 14),
)  # fmt: skip
_CHUNK_START, _CHUNK_END, _PARENT, _ROOT = 1, 2, 4, 8
_MASK = 0xFFFFFFFF


def _rotate(word, count):
    return (word >> count) | (word << (32 - count)) & _MASK


def _compress(value, words, counter, length, flags):
    state = [*value, *_IV[:4], counter & _MASK, counter >> 32, length, flags]
    for _ in range(7):
        for quarter, (a, b, c, d) in enumerate(_QUARTERS):
            for word, first, second in ((words[2 * quarter], 16, 12), (words[2 * quarter + 1], 8, 7)):
                state[a] = (state[a] + state[b] + word) & _MASK
                state[d] = _rotate(state[d] ^ state[a], first)
                state[c] = (state[c] + state[d]) & _MASK
                state[b] = _rotate(state[b] ^ state[c], second)
        words = [words[i] for i in _PERMUTATION]
    return tuple(state[i] ^ state[i + 8] for i in range(8))


def _leaf(data, counter):
    value = _IV
    parts = [data[at : at + 64] for at in range(0, len(data), 64)] or [b""]
    for i, part in enumerate(parts):
        flags = (_CHUNK_START if i == 0 else 0) | (_CHUNK_END if i == len(parts) - 1 else 0)
        words = list(struct.unpack("<16I", part.ljust(64, b"\0")))
        value = _compress(value, words, counter, len(part), flags)
    return value


def _left(count):
    """The largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _merge(values, root=False):
    if len(values) == 1:
        return values[0]
    at = _left(len(values))
    words = list(_merge(values[:at]) + _merge(values[at:]))
    return _compress(_IV, words, 0, 64, _PARENT | (_ROOT if root else 0))


def chaining_value(block, index):
    """Of a block as the subtree at offset 65,536 * index."""
    leaves = [block[at : at + 1024] for at in range(0, len(block), 1024)]
    first = index * BLOCK // 1024
    return struct.pack("<8I", *_merge([_leaf(leaf, first + i) for i, leaf in enumerate(leaves)]))


def check_block(chunk, proof, index, block):
    """Checks one block against the chunk's CID through an untrusted proof."""
    _, plain_len, cid = chunk
    blocks = block_count(plain_len)
    if blocks == 1:
        require(proof == b"" and index == 0, "a chunk of one block has no proof")
        require(cid_of(RAW, block) == cid, "the block was altered")
        return
    require(len(proof) == 32 * blocks and 0 <= index < blocks, "a proof of another length")
    values = [struct.unpack("<8I", proof[at : at + 32]) for at in range(0, len(proof), 32)]
    root = struct.pack("<8I", *_merge(values, root=True))
    require(cid_bytes(RAW, root) == cid, "the proof is another chunk's")
    require(chaining_value(block, index) == proof[32 * index : 32 * index + 32], "the block was altered")


# --- manifests ---


def _chunks(items, limit, empty_object):
    chunks = []
    for item in items:
        require(isinstance(item, list) and len(item) == 3, "not a chunk")
        plain_len = uint(item[1], 0 if empty_object else 1, limit)
        chunks.append((byte_string(item[0], 16), plain_len, cid_from_tag(item[2], RAW)))
    return chunks


def read_manifest(keys, cid, root, pages):
    """Gives the object's chunks after every check; `pages` are the encoded pages in order."""
    require(cid_of(DAG_CBOR, root) == cid, "another manifest")
    require(len(root) <= MANIFEST_BYTES_MAX, "a manifest too long")
    required = ["scheme", "block", "blocks", "size", "count", "commitment", "mac"]
    record = decode(root, "manifest", required, ["chunks", "pages"])
    require((record["scheme"], record["block"]) == (1, BLOCK), "another scheme")
    limit = uint(record["blocks"], 16, 64) * BLOCK_PLAIN
    size, count = uint(record["size"]), uint(record["count"], 1, 1572864)
    require(("chunks" in record) == (count <= PAGE_CHUNKS), "chunks in the root up to 1,024")
    require(("pages" in record) == (count > PAGE_CHUNKS), "pages from 1,025")
    require(byte_string(record["commitment"], 32) == keys.commitment(), "the wrong DEK")
    mac = byte_string(record.pop("mac"), 32)
    require(hmac.compare_digest(mac, keys.mac(encode(record))), "not made by a holder of the DEK")
    if count <= PAGE_CHUNKS:
        require(not pages, "pages that the manifest does not have")
        chunks = _chunks(record["chunks"], limit, count == 1)
    else:
        require(len(pages) == len(record["pages"]) == -(-count // PAGE_CHUNKS), "a number of pages")
        chunks = []
        for (page_cid, page_size), page in zip(record["pages"], pages):
            require(cid_of(DAG_CBOR, page) == cid_from_tag(page_cid, DAG_CBOR), "another page")
            listed = _chunks(decode(page, "manifest-page", ["chunks"])["chunks"], limit, False)
            require(sum(chunk[1] for chunk in listed) == page_size, "a page of another size")
            require(len(listed) == min(PAGE_CHUNKS, count - len(chunks)), "a page of another length")
            chunks += listed
    require(len(chunks) == count and sum(chunk[1] for chunk in chunks) == size, "sums that differ")
    return chunks


def open_object(deployment, dek, cid, root, pages, ciphertext):
    """Opens a whole object from its chunks' ciphertext, one after the other."""
    keys = Keys(deployment, dek)
    plain = b""
    for chunk in read_manifest(keys, cid, root, pages):
        length = ciphertext_bytes(chunk[1])
        plain += open_chunk(keys, chunk, ciphertext[:length])
        ciphertext = ciphertext[length:]
    require(not ciphertext, "bytes after the last chunk")
    return plain


# --- signed records, keys and wraps ---


def verify(deployment, name, author, body, signature):
    try:
        Ed25519PublicKey.from_public_bytes(author).verify(signature, message(deployment, name, body))
    except (InvalidSignature, ValueError):
        raise Refused("a signature does not fit") from None


def open_signed(data):
    envelope = decode(data, None, ["body", "signature"])
    return envelope["body"], byte_string(envelope["signature"], 64)


def read_bucket(deployment, data):
    body, signature = open_signed(data)
    keys = ["id", "owner", "random", "name", "profile", "blocks", "writer_set", "writers", "created"]
    bucket = decode(body, "bucket", keys, ["former", "readers", "key", "key_generation"])
    owner, random = byte_string(bucket["owner"], 32), byte_string(bucket["random"], 32)
    verify(deployment, "bucket", owner, body, signature)
    expected = blake3(message(deployment, "bucket-id", owner + random)).digest()
    require(bucket["id"] == expected, "an id of another owner or deployment")
    writers = bucket["writers"]
    require(writers == sorted(set(writers)) and len(writers) <= 1000, "writers in another order")
    uint(bucket["writer_set"], 1)
    former = bucket.get("former", [])
    names = [one["writer"] for one in former]
    require(names == sorted(set(names)) and len(names) <= 1000, "former writers in another order")
    for one in former:
        require(one["writer"] not in writers and 1 <= one["until"] < bucket["writer_set"], "a former writer that writes")
    readers = bucket.get("readers", [])
    require(readers == sorted(set(readers)) and len(readers) <= 1000, "readers in another order")
    for name in ("former", "readers", "key_generation"):
        require(bucket.get(name, True), f"{name} that is written out though there is nothing to say")
    uint(bucket.get("key_generation", 0))
    byte_string(bucket.get("key", bytes(32)), 32)
    return bucket


def accepts(bucket, writer, writer_set):
    """Whether an entry of that writer under that writer set counts."""
    if writer in bucket["writers"]:
        return True
    return any(one["writer"] == writer and writer_set <= one["until"] for one in bucket.get("former", []))


def read_entry(deployment, bucket, name, data):
    body, signature = open_signed(data)
    required = ["bucket", "name", "version", "writer", "writer_set", "time"]
    entry = decode(body, "entry", required, ["manifest", "size", "predecessor", "metadata"])
    require(entry["bucket"] == bucket["id"], "an entry of another bucket")
    require(entry["writer_set"] <= bucket["writer_set"], "a later writer set")
    require(accepts(bucket, entry["writer"], entry["writer_set"]), "not a writer")
    verify(deployment, "entry", entry["writer"], body, signature)
    require(entry["name"] == name, "an entry for another name")
    require(("manifest" in entry) == ("size" in entry), "a manifest without a size")
    return entry


def unwrap_dek(deployment, bucket_key, bucket, version, wrapped):
    salt, body = wrapped[:16], byte_string(wrapped, 56)[16:]
    kek = hkdf(bucket_key, salt, message(deployment, "dek-wrap", bucket + version))
    try:
        return aes_key_unwrap(kek, body)
    except InvalidUnwrap:
        raise Refused("the DEK does not unwrap") from None


def stretch(passphrase, params, info):
    memory, passes, lanes = struct.unpack(">III", params[:12])
    require(1 <= lanes <= 16 and 8 * lanes <= memory <= 262144 and 1 <= passes <= 16, "hostile costs")
    argon = Argon2id(salt=params[12:28], length=32, iterations=passes, lanes=lanes, memory_cost=memory)
    return hkdf(argon.derive(passphrase), b"", info)


def unwrap_bucket_key(deployment, record, passphrase):
    """Through the passphrase wrap: gives id and key after checking the writer's commitment."""
    record = decode(record, "bucket-key", ["statement", "wraps"])
    statement = read_bucket_key_statement(deployment, record["statement"])
    context = b"\x01" + statement["bucket"] + statement["id"]
    data = next(wrap["data"] for wrap in record["wraps"] if wrap["kind"] == 2)
    key = stretch(passphrase, data[:28], message(deployment, "wrap-passphrase"))
    key = gcm_open(key, bytes(12), data[28:], context)
    check_bucket_key(deployment, statement, key)
    return statement["id"], key


def read_bucket_key_statement(deployment, data):
    body, signature = open_signed(data)
    keys = ["id", "bucket", "writer", "created", "commitment"]
    statement = decode(body, "bucket-key-statement", keys, ["generation"])
    require(uint(statement.get("generation", 1)) != 0, "a generation that is written out though it is 0")
    verify(deployment, "bucket-key", statement["writer"], body, signature)
    return statement


def check_bucket_key(deployment, statement, key):
    info = message(deployment, "bucket-key-commitment", statement["bucket"] + statement["id"])
    require(hkdf(key, b"", info) == statement["commitment"], "another bucket key")


def open_small(deployment, bucket, name, bucket_key_id, bucket_key, data):
    """Opens a small record through its bucket key: gives DEK, plaintext and metadata."""
    record = decode(data, "small", ["chunk", "manifest", "version"], ["bucket_key"])
    version = decode(record["version"], "version", ["entry", "wraps"], ["key", "dek"])
    entry = read_entry(deployment, bucket, name, version["entry"])
    require(version["key"] == bucket_key_id, "another bucket key")
    dek = unwrap_dek(deployment, bucket_key, bucket["id"], entry["version"], version["dek"])
    cid = cid_from_tag(entry["manifest"], DAG_CBOR)
    plain = open_object(deployment, dek, cid, record["manifest"], [], record["chunk"])
    require(len(plain) == entry["size"], "entry and manifest say different sizes")
    metadata = Keys(deployment, dek).metadata(bucket["id"], entry["version"], entry["metadata"])
    return dek, plain, metadata


# --- identities ---


def principal_of(seed):
    ed25519 = Ed25519PrivateKey.from_private_bytes(hkdf(seed, b"", label("identity-ed25519")))
    return ed25519.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def open_identity_file(data, passphrase):
    require(len(data) == 113 and data[:5] == b"SRID\x01", "not an identity file")
    key = stretch(passphrase, data[37:65], label("identity-file"))
    seed = gcm_open(key, bytes(12), data[65:], data[:65])
    require(principal_of(seed) == data[5:37], "the seed is another principal's")
    return seed


def seed_from_text(text, kind):
    digits = text.upper().replace(" ", "").replace("-", "")
    digits = digits.translate(str.maketrans("018", "OIB"))
    require(len(digits) == 56, "not a seed")
    data = base64.b32decode(digits)
    check = blake3(label("seed-text") + bytes([kind]) + data[:32]).digest()[:3]
    require(data[32:] == check, "a typing error")
    return data[:32]


# --- worked example ---


def explain(name):
    """The values on the way into a vector's first block, as lines."""
    vectors = json.loads((VECTORS / "objects.json").read_text())
    entry = next(item for item in vectors["objects"] if item["name"] == name)
    keys = Keys(bytes.fromhex(vectors["deployment"]), bytes.fromhex(entry["dek"]))
    root = bytes.fromhex(entry["root"])
    pages = [bytes.fromhex(page) for page in entry["pages"]]
    salt, plain_len, cid = read_manifest(keys, cid_from_text(entry["cid"]), root, pages)[0]
    last = block_count(plain_len) == 1
    record = decode(root, "manifest", [], list(cbor2.loads(root)))
    record.pop("mac")
    block = (VECTORS / entry["chunks_file"]).read_bytes()[: min(BLOCK, ciphertext_bytes(plain_len))]
    values = [
        ("DEK", keys.dek.hex()),
        ("chunk salt", salt.hex()),
        ("chunk key", keys.chunk_key(salt).hex()),
        ("nonce of block 0", nonce(0, last).hex()),
        ("AAD", struct.pack(">III", 1, BLOCK, plain_len).hex()),
        ("plaintext", open_block(keys, salt, plain_len, 0, block).hex()),
        ("block 0", block.hex()),
        ("chunk CID", cid_text(cid)),
        ("commitment", keys.commitment().hex()),
        ("HMAC key", hkdf(keys.dek, b"", message(keys.deployment, "manifest-mac")).hex()),
        ("HMAC input", encode(record).hex()),
        ("mac", keys.mac(encode(record)).hex()),
        ("root", root.hex()),
        ("object CID", entry["cid"]),
    ]
    return [f"{title}: {value}" for title, value in values]


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] != "--explain":
        sys.exit(__doc__)
    print("\n".join(explain(sys.argv[2])))
