"""The second reader opens the committed vectors, and refuses what was altered."""

import json
import pathlib
import unittest

import cbor2
from blake3 import blake3
from multiformats import CID, multihash

import reader
from reader import Refused, VECTORS

FORMAT = pathlib.Path(__file__).resolve().parents[2] / "docs" / "format.md"


def stream(text, length):
    return blake3(text.encode()).digest(length=length)


class Object:
    def __init__(self, deployment, item):
        self.name = item["name"]
        self.deployment = deployment
        self.dek = bytes.fromhex(item["dek"])
        self.cid = reader.cid_from_text(item["cid"])
        self.root = bytes.fromhex(item["root"])
        self.pages = [bytes.fromhex(page) for page in item["pages"]]
        self.chunks = (VECTORS / item["chunks_file"]).read_bytes()
        self.proofs = [bytes.fromhex(proof) for proof in item["proofs"]]
        self.item = item

    def open(self, **changes):
        fields = {name: getattr(self, name) for name in ("deployment", "dek", "cid", "root", "pages")}
        fields["ciphertext"] = self.chunks
        return reader.open_object(**(fields | changes))

    def listed(self):
        keys = reader.Keys(self.deployment, self.dek)
        return keys, reader.read_manifest(keys, self.cid, self.root, self.pages)


def flip(data, at, bit=0):
    altered = bytearray(data)
    altered[at] ^= 1 << bit
    return bytes(altered)


class Objects(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        vectors = json.loads((VECTORS / "objects.json").read_text())
        deployment = bytes.fromhex(vectors["deployment"])
        cls.objects = {item["name"]: Object(deployment, item) for item in vectors["objects"]}

    def test_every_vector_opens(self):
        self.assertEqual(len(self.objects), 6)
        for name, item in self.objects.items():
            with self.subTest(name):
                plain = item.open()
                self.assertEqual(len(plain), item.item["size"])
                self.assertEqual(blake3(plain).hexdigest(), item.item["plaintext_blake3"])
                self.assertEqual(plain, stream(f"plaintext {name}", len(plain)))

    def test_single_blocks_open_through_their_proofs(self):
        for name in ("two-blocks", "three-chunks"):
            item = self.objects[name]
            keys, chunks = item.listed()
            at, plain = 0, b""
            for chunk, proof in zip(chunks, item.proofs):
                salt, plain_len, _ = chunk
                end = at + reader.ciphertext_bytes(plain_len)
                for index, start in enumerate(range(at, end, reader.BLOCK)):
                    block = item.chunks[start : min(start + reader.BLOCK, end)]
                    reader.check_block(chunk, proof, index, block)
                    plain += reader.open_block(keys, salt, plain_len, index, block)
                at = end
            self.assertEqual(plain, stream(f"plaintext {name}", len(plain)))

    def test_blocks_and_proofs_that_were_altered_are_refused(self):
        item = self.objects["two-blocks"]
        chunk, proof = item.listed()[1][0], item.proofs[0]
        first, second = item.chunks[: reader.BLOCK], item.chunks[reader.BLOCK :]
        reader.check_block(chunk, proof, 1, second)
        for index, block, given in [
            (1, flip(second, 3), proof),
            (0, second, proof),
            (1, first, proof),
            (1, second, flip(proof, 40)),
            (1, second, proof[:32]),
            (2, second, proof),
        ]:
            with self.assertRaises(Refused):
                reader.check_block(chunk, given, index, block)

    def test_altered_chunks_are_refused(self):
        for item in self.objects.values():
            for at in {0, len(item.chunks) // 2, len(item.chunks) - 1}:
                with self.subTest(f"{item.name} {at}"), self.assertRaises(Refused):
                    item.open(ciphertext=flip(item.chunks, at, at % 8))
            for ciphertext in (item.chunks[:-1], item.chunks + b"\0"):
                with self.assertRaises(Refused):
                    item.open(ciphertext=ciphertext)

    def test_altered_manifests_are_refused_even_under_their_new_cid(self):
        item = self.objects["one-byte"]
        for at in range(len(item.root)):
            root = flip(item.root, at, at % 8)
            with self.subTest(at), self.assertRaises(Refused):
                item.open(root=root, cid=reader.cid_of(reader.DAG_CBOR, root))
        with self.assertRaises(Refused):
            item.open(root=self.objects["empty"].root)

    def test_other_encodings_of_the_same_manifest_are_refused(self):
        item = self.objects["one-byte"]
        record = cbor2.loads(item.root)
        for root in (
            cbor2.dumps(dict(sorted(record.items()))),
            b"\xbf" + item.root[1:] + b"\xff",
            item.root + b"\0",
        ):
            self.assertNotEqual(root, item.root)
            with self.assertRaises(Refused):
                item.open(root=root, cid=reader.cid_of(reader.DAG_CBOR, root))

    def test_pages_are_bound_to_their_root(self):
        item = self.objects["paged"]
        self.assertEqual(len(item.pages), 2)
        for pages in (
            item.pages[::-1],
            item.pages[:1],
            [],
            item.pages + item.pages[:1],
            [flip(item.pages[0], 50), item.pages[1]],
        ):
            with self.assertRaises(Refused):
                item.open(pages=pages)

    def test_a_wrong_dek_or_deployment_is_refused_by_the_commitment(self):
        for item in self.objects.values():
            for changes in ({"dek": flip(item.dek, 0)}, {"deployment": bytes(32)}):
                with self.assertRaisesRegex(Refused, "wrong DEK"):
                    item.open(**changes)

    def test_cids_decode_in_the_multiformats_library(self):
        for item in self.objects.values():
            cid = CID.decode(item.item["cid"])
            self.assertEqual((cid.version, cid.codec.name, cid.hashfun.name), (1, "dag-cbor", "blake3"))
            self.assertEqual(cid.raw_digest, blake3(item.root).digest())
            self.assertEqual(bytes(cid), item.cid)
            self.assertEqual(cid.encode("base32"), item.item["cid"])
            for _, _, chunk in item.listed()[1][:3]:
                decoded = CID.decode(reader.cid_text(chunk))
                self.assertEqual((decoded.codec.name, bytes(decoded)), ("raw", chunk))
                self.assertEqual(multihash.unwrap(decoded.digest), chunk[4:])


class Records(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = json.loads((VECTORS / "records.json").read_text())
        cls.deployment = bytes.fromhex(cls.all["deployment"])

    def test_identity_file_seed_text_and_principal(self):
        identity = self.all["identity"]
        seed = bytes.fromhex(identity["seed"])
        data, passphrase = bytes.fromhex(identity["file"]), identity["file_passphrase"].encode()
        self.assertEqual(reader.open_identity_file(data, passphrase), seed)
        self.assertEqual(reader.seed_from_text(identity["seed_text"], 1), seed)
        with self.assertRaises(Refused):
            reader.seed_from_text(identity["seed_text"], 2)
        with self.assertRaises(Refused):
            reader.open_identity_file(data, passphrase + b"x")
        principal = reader.principal_of(seed)
        public = bytes.fromhex(identity["receiver_public"])
        signature = bytes.fromhex(identity["receiver_signature"])
        reader.verify(self.deployment, "receiver", principal, public, signature)

    def chain(self):
        bucket = reader.read_bucket(self.deployment, bytes.fromhex(self.all["bucket"]["record"]))
        key = self.all["bucket_key"]
        opened = reader.unwrap_bucket_key(
            self.deployment, bytes.fromhex(key["record"]), key["passphrase"].encode()
        )
        return bucket, *opened

    def test_from_passphrase_to_plaintext(self):
        bucket, key_id, key = self.chain()
        self.assertEqual(bucket["id"].hex(), self.all["bucket"]["id"])
        self.assertEqual((key_id.hex(), key.hex()), (self.all["bucket_key"]["id"], self.all["bucket_key"]["key"]))
        small = self.all["small"]
        dek, plain, metadata = reader.open_small(
            self.deployment, bucket, small["name"], key_id, key, bytes.fromhex(small["record"])
        )
        self.assertEqual(dek.hex(), small["dek"])
        self.assertEqual(plain.hex(), small["plaintext"])
        self.assertEqual(metadata.decode(), small["metadata"])
        version = reader.decode(bytes.fromhex(self.all["tombstone"]), "version", ["entry", "wraps"])
        tombstone = reader.read_entry(self.deployment, bucket, small["name"], version["entry"])
        self.assertNotIn("manifest", tombstone)

    def test_every_altered_byte_of_a_small_record_is_refused(self):
        bucket, key_id, key = self.chain()
        small = self.all["small"]
        data = bytes.fromhex(small["record"])
        # The bucket key record inside is read on its own; the rest of the record is this chain's.
        inner = data.index(bytes.fromhex(self.all["bucket_key"]["record"]))
        beyond = range(inner, inner + len(self.all["bucket_key"]["record"]) // 2)
        for at in (at for at in range(len(data)) if at not in beyond):
            with self.subTest(at), self.assertRaises(Refused):
                reader.open_small(
                    self.deployment, bucket, small["name"], key_id, key, flip(data, at, at % 8)
                )

    def test_those_who_wrote_once_are_believed_what_they_wrote_then(self):
        bucket, key_id, key = self.chain()
        data, name = bytes.fromhex(self.all["small"]["record"]), self.all["small"]["name"]
        writer = bucket["writers"][0]
        for until, counts in [(bucket["writer_set"], True), (bucket["writer_set"] - 1, False)]:
            later = bucket | {
                "writers": [],
                "writer_set": bucket["writer_set"] + 5,
                "former": [{"writer": writer, "until": until}],
            }
            if counts:
                reader.open_small(self.deployment, later, name, key_id, key, data)
            else:
                with self.assertRaises(Refused):
                    reader.open_small(self.deployment, later, name, key_id, key, data)

    def test_swapped_names_strangers_and_other_deployments_are_refused(self):
        bucket, key_id, key = self.chain()
        data = bytes.fromhex(self.all["small"]["record"])
        stranger = bucket | {"writers": []}
        for deployment, given, name in [
            (self.deployment, bucket, "another name"),
            (self.deployment, stranger, self.all["small"]["name"]),
            (bytes(32), bucket, self.all["small"]["name"]),
        ]:
            with self.assertRaises(Refused):
                reader.open_small(deployment, given, name, key_id, key, data)
        with self.assertRaises(Refused):
            reader.read_bucket(bytes(32), bytes.fromhex(self.all["bucket"]["record"]))


class Document(unittest.TestCase):
    def test_the_worked_example_is_what_the_vectors_give(self):
        lines = {line.strip() for line in FORMAT.read_text().splitlines()}
        for line in reader.explain("one-byte"):
            self.assertTrue(line in lines, f"docs/format.md lacks: {line}")


if __name__ == "__main__":
    unittest.main()
