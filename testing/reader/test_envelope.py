"""The second reader opens the committed envelopes and keys, and refuses what was altered."""

import base64
import json
import pathlib
import unittest

from blake3 import blake3

import envelope
import ristretto
from envelope import Ciphertext, Envelope, NamedKey, Secrets
from reader import Refused
from test_reader import flip

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "test-data" / "envelopes" / "v1"


def stream(name, length):
    return blake3(f"plaintext {name}".encode()).digest(length=length)


def named_key(all_vectors):
    item = all_vectors["key"]
    parts = (bytes.fromhex(item[name]) for name in ("pq", "dh"))
    deployment = bytes.fromhex(all_vectors["deployment"])
    return NamedKey(deployment, bytes.fromhex(item["id"]), item["version"], *parts)


class Ristretto(unittest.TestCase):
    """RFC 9496, appendix A: the arithmetic below the reader is checked by itself."""

    def test_multiples_of_the_generator(self):
        for times, text in [
            (0, "00" * 32),
            (1, "e2f2ae0a6abc4e71a884a961c500515f58e30b6aa582dd8db6a65945e08d2d76"),
            (2, "6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919"),
            (15, "e0c418f7c8d9c4cdd7395b93ea124f3ad99021bb681dfc3302a9d99a2e53e64e"),
            (ristretto.ORDER + 2, "6a493210f7499cd17fecb510ae0cea23a110e8d5b901f8acadd3095c73a3b919"),
        ]:
            self.assertEqual((times * ristretto.BASE).encode().hex(), text)
            self.assertEqual(ristretto.decode(bytes.fromhex(text)), times * ristretto.BASE)

    def test_invalid_encodings(self):
        for text in [
            "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
            "3eb858e78f5a7254d8c9731174a94f76755fd3941c0ac93735c07ba14579630e",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ]:
            self.assertIsNone(ristretto.decode(bytes.fromhex(text)), text)

    def test_the_one_way_map(self):
        data = bytes.fromhex(
            "5d1be09e3d0c82fc538112490e35701979d99e06ca3e2b5b54bffe8b4dc772c1"
            "4d98b696a1bbfb5ca32c436cc61c16563790306c79eaca7705668b47dffe5bb6"
        )
        expected = "3066f82a1a747d45120d1740f14358531a8f04bbffe6a819f86dfe50f44a0a46"
        self.assertEqual(ristretto.from_uniform(data).encode().hex(), expected)


class Kem(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = json.loads((VECTORS / "envelopes.json").read_text())
        cls.key = named_key(cls.all)
        item = cls.all["key"]
        cls.secrets = Secrets(cls.key, bytes.fromhex(item["seed"]), bytes.fromhex(item["x"]))

    def test_generator_and_hash_of_the_public_keys(self):
        self.assertEqual(envelope.SECOND_GENERATOR.encode().hex(), self.all["second_generator"])
        self.assertEqual(self.key.public_hash().hex(), self.all["key"]["public_keys_hash"])

    def test_every_value_of_every_case(self):
        self.assertEqual(len(self.all["kem"]), 3)
        for case in self.all["kem"]:
            context = envelope.context_hash(self.key.deployment, case["context"])
            self.assertEqual(envelope.context_encoding(case["context"]).hex(), case["context_encoding"])
            self.assertEqual(context.hex(), case["context_hash"])
            ciphertext = Ciphertext(self.key.deployment, bytes.fromhex(case["ciphertext"]))
            self.assertEqual(ciphertext.pq_hash().hex(), case["pq_hash"])
            self.assertEqual(ciphertext.kem_hash(context).hex(), case["kem_hash"])
            ss_pq, ss_dh = self.secrets.legs(ciphertext, context)
            self.assertEqual((ss_pq.hex(), ss_dh.hex()), (case["ss_pq"], case["ss_dh"]))
            self.assertEqual(self.secrets.open(ciphertext, context).hex(), case["key"])
            # The sender's side, from its randomness.
            again = envelope.ML_KEM_768._encaps_internal(self.key.pq, bytes.fromhex(case["m"]))
            self.assertEqual(again, (ss_pq, ciphertext.pq))
            r = int.from_bytes(bytes.fromhex(case["r"]), "little")
            s = int.from_bytes(bytes.fromhex(case["s"]), "little")
            sent = [r * ristretto.BASE, r * envelope.SECOND_GENERATOR, s * ristretto.BASE]
            sent += [s * envelope.SECOND_GENERATOR, r * ristretto.decode(self.key.dh)]
            expected = [ciphertext.u, ciphertext.u_bar, ciphertext.w, ciphertext.w_bar, ss_dh]
            self.assertEqual([point.encode() for point in sent], expected)

    def test_altered_parts_and_other_keys_are_refused(self):
        case = self.all["kem"][1]
        context, data = bytes.fromhex(case["context_hash"]), bytes.fromhex(case["ciphertext"])
        deployment = self.key.deployment
        # One byte in each part: scheme, ML-KEM ciphertext, u, u_bar, w, w_bar, f.
        for at in (0, 1, 700, 1088, 1089, 1130, 1160, 1190, 1220, 1248):
            with self.subTest(at), self.assertRaises(Refused):
                Ciphertext(deployment, flip(data, at)).verify(self.key, context)
        for at in range(1089, 1249, 32):
            for part in (bytes(32), b"\xff" * 32):
                with self.assertRaises(Refused):
                    Ciphertext(deployment, data[:at] + part + data[at + 32 :]).verify(self.key, context)
        ciphertext = Ciphertext(deployment, data)
        ciphertext.verify(self.key, context)
        for change in ({"deployment": bytes(32)}, {"key": bytes(32)}, {"version": 1}, {"pq": flip(self.key.pq, 9)}):
            fields = {name: getattr(self.key, name) for name in ("deployment", "key", "version", "pq", "dh")}
            with self.assertRaises(Refused):
                ciphertext.verify(NamedKey(**(fields | change)), context)
        with self.assertRaises(Refused):
            ciphertext.verify(self.key, flip(context, 0))

    def test_a_bucket_key_under_a_named_key(self):
        item = self.all["bucket_key_wrap"]
        bucket, key_id = bytes.fromhex(item["bucket"]), bytes.fromhex(item["id"])
        shown = {"strongroom:bucket": bucket.hex(), "strongroom:bucket-key": key_id.hex()}
        context = envelope.context_hash(self.key.deployment, shown)
        wrap = bytes.fromhex(item["data"])
        self.assertEqual(item["kind"], 3)
        key, _ = envelope.unwrap_named(
            self.secrets, self.key.deployment, wrap, b"\x01" + bucket + key_id, context
        )
        self.assertEqual(key.hex(), item["key"])
        with self.assertRaises(Refused):
            envelope.unwrap_named(self.secrets, self.key.deployment, wrap, b"\x02" + bucket + key_id, context)

    def test_inline_envelopes_open_by_name_and_by_passphrase(self):
        for item in self.all["inline"]:
            opened = Envelope((VECTORS / f"{item['name']}.envelope").read_bytes())
            expected = stream(item["name"], item["size"])
            passphrase = self.all["passphrase"].encode()
            for dek in (opened.dek(self.secrets), opened.dek(passphrase=passphrase)):
                self.assertEqual(dek.hex(), item["dek"])
                self.assertEqual(opened.open(dek), expected)
            ciphertext = Ciphertext(opened.deployment, opened.wraps[3][36 : 36 + envelope.CIPHERTEXT])
            self.assertEqual(ciphertext.kem_hash(opened.context).hex(), item["kem_hash"])

    def test_streams_open_and_cut_or_exchanged_ones_do_not(self):
        for item in self.all["streams"]:
            file = (VECTORS / f"{item['name']}.envelope").read_bytes()
            opened = Envelope(file)
            dek = opened.dek(self.secrets)
            self.assertEqual(opened.open(dek), stream(item["name"], item["size"]))
            frames = opened.frames
            chunk = 65536 + 20
            altered = [frames[:-1], frames + b"\0", flip(frames, len(frames) - 1), flip(frames, 0), flip(frames, 5)]
            if len(frames) > 2 * chunk:
                altered += [frames[chunk:], frames[chunk : 2 * chunk] + frames[:chunk] + frames[2 * chunk :]]
                altered += [frames[: 2 * chunk], frames[:chunk] + frames[2 * chunk :]]
            for number, given in enumerate(altered):
                opened.frames = given
                with self.subTest(f"{item['name']} {number}"), self.assertRaises(Refused):
                    opened.open(dek)

    def test_altered_bytes_of_an_envelope_are_refused(self):
        file = (VECTORS / "short.envelope").read_bytes()
        passphrase = self.all["passphrase"].encode()

        def open_both(data):
            opened = Envelope(data)
            deks = {opened.dek(self.secrets), opened.dek(passphrase=passphrase)}
            return [opened.open(dek) for dek in deks]

        self.assertEqual(open_both(file), [stream("short", 100)])
        opened = Envelope(file)
        skipped = file.index(opened.wraps[1])
        for at in range(0, len(file), 29):
            # The wrap to an identity is HPKE, which this reader does not open.
            if skipped <= at < skipped + len(opened.wraps[1]):
                continue
            with self.subTest(at), self.assertRaises((Refused, KeyError)):
                open_both(flip(file, at))

    def test_armor(self):
        text = (VECTORS / "short.armor").read_text()
        self.assertEqual(envelope.dearmor(text, "ENVELOPE"), (VECTORS / "short.envelope").read_bytes())
        self.assertTrue(all(len(line) <= 64 for line in text.splitlines()))
        self.assertEqual(base64.b64decode(text.splitlines()[1])[:5], b"SREN\x01")


if __name__ == "__main__":
    unittest.main()
