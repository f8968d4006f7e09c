"""The vectors of sharings, made by the Rust implementation and computed again here."""

import itertools
import json
import pathlib
import unittest

from blake3 import blake3
from kyber_py.ml_kem import ML_KEM_768

import ristretto
import threshold
from reader import Refused
from test_reader import flip

VECTORS = pathlib.Path(__file__).resolve().parents[2] / "test-data" / "threshold" / "v1"


class Threshold(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = json.loads((VECTORS / "threshold.json").read_text())
        cls.sharing = threshold.Sharing(cls.all["sharing"])
        cls.shares = cls.all["commitments"]["shares"]
        cls.publics = [bytes.fromhex(share["dh_public"]) for share in cls.shares]

    def test_the_binding(self):
        self.assertEqual(self.sharing.binding.hex(), self.all["sharing"]["binding"])

    def test_shamir(self):
        item = self.all["shamir"]
        secret = bytes.fromhex(item["secret"])
        coefficients = [bytes.fromhex(one) for one in item["coefficients"]]
        shares = {share["index"]: bytes.fromhex(share["value"]) for share in item["shares"]}
        self.assertEqual(list(shares), [1, 2, 3, 4, 5])
        for index, value in shares.items():
            self.assertEqual(threshold.gf_share(secret, coefficients, index), value)
        for chosen in itertools.combinations(shares, 3):
            self.assertEqual(threshold.gf_combine({index: shares[index] for index in chosen}), secret)

    def test_commitments_and_what_they_open_to(self):
        item = self.all["commitments"]
        entries = b""
        for number, share in enumerate(self.shares, 1):
            self.assertEqual(share["index"], number)
            value, opening = bytes.fromhex(share["pq"]), bytes.fromhex(share["opening"])
            entry = self.sharing.pq_commitment(number, value, opening)
            self.assertEqual(entry.hex(), share["pq_commitment"])
            public = (threshold.scalar(bytes.fromhex(share["dh"])) * ristretto.BASE).encode()
            self.assertEqual(public.hex(), share["dh_public"])
            entry += public
            self.assertEqual(self.sharing.share_hash(number, entry).hex(), share["share_hash"])
            entries += entry
        self.assertEqual(entries.hex(), item["list"])
        self.assertEqual(self.sharing.root(entries).hex(), item["root"])

        values = {share["index"]: bytes.fromhex(share["pq"]) for share in self.shares}
        seed = threshold.gf_combine({index: values[index] for index in (5, 1, 3)})
        self.assertEqual(seed.hex(), item["seed"])
        public, _ = ML_KEM_768.key_derive(seed)
        self.assertEqual(blake3(public).hexdigest(), item["pq_public_blake3"])
        group = threshold.combine({index: ristretto.decode(self.publics[index - 1]) for index in (2, 4, 5)})
        self.assertEqual(group.hex(), item["group"])

    def test_partials_are_made_and_checked_alike(self):
        item = self.all["partials"]
        u, request_hash = bytes.fromhex(item["u"]), bytes.fromhex(item["request_hash"])
        checked = {}
        for number, (share, made) in enumerate(zip(self.shares, item["partials"]), 1):
            x, fresh = threshold.scalar(bytes.fromhex(share["dh"])), bytes.fromhex(made["fresh"])
            partial = threshold.make_partial(self.sharing, number, x, u, request_hash, fresh)
            self.assertEqual(partial.hex(), made["partial"])
            index, power = threshold.check_partial(self.sharing, self.publics, u, request_hash, partial)
            checked[index] = power
        for chosen in ((1, 2, 3), (5, 4, 1), (2, 3, 5)):
            combined = threshold.combine({index: checked[index] for index in chosen})
            self.assertEqual(combined.hex(), item["ss_dh"])
        x = sum(
            threshold.weight_at_zero(share["index"], (1, 2, 3)) * threshold.scalar(bytes.fromhex(share["dh"]))
            for share in self.shares[:3]
        )
        self.assertEqual((x % ristretto.ORDER * ristretto.decode(u)).encode().hex(), item["ss_dh"])

    def test_altered_partials_are_refused(self):
        item = self.all["partials"]
        u, request_hash = bytes.fromhex(item["u"]), bytes.fromhex(item["request_hash"])
        partial = bytes.fromhex(item["partials"][0]["partial"])
        for at in (0, 1, 40, 70, 97, 128):
            with self.assertRaises(Refused):
                threshold.check_partial(self.sharing, self.publics, u, request_hash, flip(partial, at))
        with self.assertRaises(Refused):
            threshold.check_partial(self.sharing, self.publics, u, flip(request_hash, 0), partial)

    def test_a_record(self):
        data = bytes.fromhex(self.all["record"])
        record = threshold.Record(self.sharing, data)
        self.assertEqual((record.index, record.standby, record.platform), (2, 1, 3))
        self.assertEqual(record.share_hash.hex(), self.shares[1]["share_hash"])
        for at in (0, 1, 79, 82, 150, 180, 240):
            with self.assertRaises(Refused):
                threshold.Record(self.sharing, flip(data, at))

    def test_a_ceremony_from_its_messages(self):
        item = self.all["ceremony"]
        sharing = threshold.Sharing({**self.all["sharing"], "t": item["t"], "n": item["n"]})
        roster = [bytes.fromhex(one) for one in item["roster"]]
        data = [bytes.fromhex(one) for one in item["messages"]]
        ceremony = threshold.Ceremony(sharing, item["attempt"], roster, data)
        self.assertEqual(ceremony.public(0).hex(), item["group"])
        for number, share in enumerate(item["shares"], 1):
            public = threshold.scalar(bytes.fromhex(share)) * ristretto.BASE
            self.assertEqual(ceremony.public(number), public.encode())
        for which, at in itertools.product((0, 4, 8), (1, 50, 80, 81, 100, -1)):
            altered = list(data)
            altered[which] = flip(altered[which], at)
            with self.assertRaises((Refused, IndexError)):
                threshold.Ceremony(sharing, item["attempt"], roster, altered)


if __name__ == "__main__":
    unittest.main()
