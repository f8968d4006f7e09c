"""The second reader follows the committed ledger block by block, recomputes its state, and reads exported keys."""

import json
import os
import pathlib
import unittest

from blake3 import blake3

import envelope
import ledger
import reader
from envelope import Envelope, Secrets
from reader import Refused
from test_reader import flip

DATA = pathlib.Path(__file__).resolve().parents[2] / "test-data"
ENVELOPE = DATA / "keys" / "v1" / "reader.envelope"


def unhex(value):
    return None if value is None else bytes.fromhex(value)


class Ledger(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = json.loads((DATA / "ledger" / "v1" / "ledger.json").read_text())
        cls.genesis = ledger.Genesis(unhex(cls.all["genesis"][0]["record"]))

    def test_genesis(self):
        for item in self.all["genesis"]:
            genesis = ledger.Genesis(unhex(item["record"]))
            self.assertEqual(genesis.hash.hex(), item["hash"])
            self.assertEqual(ledger.validators_hash(genesis.deployment, genesis.validators).hex(), item["validators"])
            self.assertEqual(ledger.quorum(genesis.validators), item["quorum"])
        record = unhex(self.all["genesis"][1]["record"])
        for kind, number in ((b"\x61v\x01", 1), (b"\x61v\x02", 0)):
            self.assertEqual(record.count(kind), number)
        with self.assertRaises(Refused):
            ledger.Genesis(record.replace(b"\x61v\x01", b"\x61v\x02"))

    def test_every_block_and_everything_in_it(self):
        validators, previous, seen = self.genesis.validators, None, set()
        changes = set()
        for height, block in enumerate(self.all["blocks"], 1):
            data, certificate = unhex(block["header"]), unhex(block["certificate"])
            header = ledger.check_header(self.genesis, validators, data, certificate)
            self.assertEqual(header["height"], height)
            self.assertTrue(previous is None or header["previous"] == previous)
            previous = ledger.header_hash(self.genesis.deployment, data)
            self.assertEqual(previous.hex(), block["hash"])
            transactions = [unhex(one) for one in block["transactions"]]
            receipts = [unhex(one) for one in block["receipts"]]
            self.assertEqual(ledger.list_root(transactions), header["transactions_root"])
            self.assertEqual(ledger.list_root(receipts), header["receipts_root"])
            following = validators
            for index, (one, receipt) in enumerate(zip(transactions, receipts, strict=True)):
                hashed, fields = ledger.read_transaction(self.genesis, one)
                self.assertEqual(hashed.hex(), block["hashes"][index])
                receipt = ledger.read("receipt", receipt)
                place = (receipt["transaction"], receipt["height"], receipt["index"])
                self.assertEqual(place, (hashed, height, index))
                seen |= fields["action"].keys()
                if "govern" in fields["action"]:
                    decision = ledger.read("ledger-decision", fields["action"]["govern"]["decision"])
                    changes |= decision["change"].keys()
                    following = decision["change"].get("set-validators", following)
                for at in range(0, len(one), 97):
                    with self.subTest(f"{height} {index} {at}"), self.assertRaises(Refused):
                        ledger.read_transaction(self.genesis, flip(one, at))
            self.assertEqual(ledger.validators_hash(self.genesis.deployment, following), header["next_validators"])
            validators = following
        self.assertEqual(seen, ledger.ACTIONS.keys())
        self.assertEqual(changes, ledger.CHANGES.keys())
        self.assertNotEqual(validators, self.genesis.validators)

    def test_the_state_is_under_the_last_header(self):
        entries = [(unhex(key), unhex(value)) for key, value in self.all["state"]]
        last = ledger.read("ledger-header", unhex(self.all["blocks"][-1]["header"]))
        self.assertEqual(ledger.state_root(entries), last["state_root"])
        self.assertEqual(ledger.state_root(entries).hex(), self.all["proofs"]["root"])
        for key, value in entries:
            with self.subTest(key.hex()):
                ledger.read_state(self.genesis, key, value)
        kinds = {key[0] for key, _ in entries}
        self.assertEqual(kinds, {1, 2, 3, 4, 5, 16, 17, 18, 19, 20, 32, 33, 34, 35, 36, 37, 48, 49, 50, 51, 52})

    def test_proofs_of_values_and_of_absence(self):
        root = unhex(self.all["proofs"]["root"])
        for case in self.all["proofs"]["good"]:
            ledger.check_proof(root, unhex(case["key"]), unhex(case["value"]), unhex(case["proof"]))
        values = [case["value"] for case in self.all["proofs"]["good"]]
        self.assertEqual((values.count(None), len(values)), (2, 14))
        for case in self.all["proofs"]["refused"]:
            with self.subTest(case["what"]), self.assertRaises(Refused):
                ledger.check_proof(root, unhex(case["key"]), unhex(case["value"]), unhex(case["proof"]))

    def test_lists(self):
        for case in self.all["lists"]:
            items, root = [unhex(item) for item in case["items"]], unhex(case["root"])
            self.assertEqual(ledger.list_root(items), root)
            for index, proof in enumerate(case["proofs"]):
                siblings = [unhex(one) for one in proof]
                ledger.in_list(root, items[index], index, len(items), siblings)
                wrong = [
                    (items[index] + b"\0", index, len(items), siblings),
                    (items[index], index + 1, len(items), siblings),
                    (items[index], index, len(items), siblings + [bytes(32)]),
                    (items[index], index, len(items), siblings[:-1] if siblings else [bytes(32)]),
                ]
                for given in wrong:
                    with self.assertRaises(Refused):
                        ledger.in_list(root, *given)

    def test_certificates_and_freshness_of_four_validators(self):
        all_of = self.all["certificates"]
        genesis = ledger.Genesis(unhex(all_of["genesis"]))
        header, certificate = unhex(all_of["header"]), unhex(all_of["certificate"])
        ledger.check_header(genesis, genesis.validators, header, certificate)
        self.assertEqual(ledger.header_hash(genesis.deployment, header).hex(), all_of["hash"])
        for case in all_of["refused"]:
            with self.subTest(case["what"]), self.assertRaises(Refused):
                ledger.check_header(genesis, genesis.validators, unhex(case["header"]), unhex(case["certificate"]))
        fresh = all_of["freshness"]
        answers, nonce = [unhex(one) for one in fresh["answers"]], unhex(fresh["nonce"])
        self.assertEqual(ledger.fresh_height(genesis, genesis.validators, nonce, answers), fresh["height"])
        wrong = [(flip(nonce, 0), answers), (nonce, answers[:2]), (nonce, answers[::-1])]
        wrong += [(nonce, [flip(answers[0], len(answers[0]) - 1)] + answers[1:])]
        for given in wrong:
            with self.assertRaises(Refused):
                ledger.fresh_height(genesis, genesis.validators, *given)

    def test_refused_transactions(self):
        self.assertEqual(len(self.all["refused_transactions"]), 11)
        for case in self.all["refused_transactions"]:
            with self.subTest(case["what"]), self.assertRaises(Refused):
                ledger.read_transaction(self.genesis, unhex(case["transaction"]))


class ExportedKeys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.all = json.loads((DATA / "keys" / "v1" / "keys.json").read_text())
        cls.pins = {
            "genesis": {"genesis": ledger.Genesis(unhex(cls.all["genesis"]))},
            "key": {"key": unhex(cls.all["key"])},
        }
        cls.exported = unhex(cls.all["exported"])

    def test_a_key_is_shown_by_either_pin(self):
        for pin in self.pins.values():
            named, time = ledger.read_exported(self.exported, **pin)
            self.assertEqual((named.pq.hex(), named.dh.hex()), (self.all["pq"], self.all["dh"]))
            self.assertEqual((named.key.hex(), named.version), (self.all["key"], 1))
            self.assertEqual(time, self.all["time"])
        armored = (DATA / "keys" / "v1" / "exported.armor").read_text()
        self.assertEqual(envelope.dearmor(armored, "PUBLIC KEY"), self.exported)
        for pin in self.pins.values():
            named, _ = ledger.read_exported(unhex(self.all["later"]), **pin)
            self.assertEqual(named.version, 2)
        with self.assertRaises(Refused):
            ledger.read_exported(self.exported, key=bytes(32))
        with self.assertRaises(Refused):
            ledger.read_exported(self.exported)

    def test_what_somebody_planted_is_refused(self):
        self.assertEqual(len(self.all["refused"]), 17)
        for case in self.all["refused"]:
            with self.subTest(case["what"]), self.assertRaises(Refused):
                ledger.read_exported(unhex(case["exported"]), **self.pins[case["pin"]])

    def test_altered_bytes_are_refused_or_say_the_same(self):
        # A value's hash in a proof of that value is not looked at; everything else counts.
        unread = 0
        for at in range(0, len(self.exported), 41):
            try:
                named, _ = ledger.read_exported(flip(self.exported, at), **self.pins["genesis"])
            except Refused:
                continue
            self.assertEqual((named.pq.hex(), named.dh.hex()), (self.all["pq"], self.all["dh"]))
            unread += 1
        self.assertLessEqual(unread, 6)

    def test_a_bucket_on_a_named_key(self):
        item, deployment = self.all["bucket"], unhex(self.all["deployment"])
        bucket = reader.read_bucket(deployment, unhex(item["record"]))
        self.assertEqual(bucket["key"].hex(), self.all["key"])
        self.assertEqual(bucket["key_generation"], item["key_generation"])
        self.assertEqual([one.hex() for one in bucket["readers"]], item["readers"])
        former = item["former"]
        self.assertEqual(bucket["former"], [{"writer": unhex(former["writer"]), "until": former["until"]}])
        for writer_set, counts in ((former["until"], True), (former["until"] + 1, False)):
            self.assertEqual(reader.accepts(bucket, unhex(former["writer"]), writer_set), counts)
        statement = reader.read_bucket_key_statement(deployment, unhex(item["statement"]))
        self.assertEqual(statement["generation"], bucket["key_generation"])
        self.assertIn(statement["writer"], bucket["writers"])
        reader.check_bucket_key(deployment, statement, unhex(item["bucket_key"]))
        with self.assertRaises(Refused):
            reader.check_bucket_key(deployment, statement, bytes(32))
        self.assertEqual(len(item["refused"]), 3)
        for case in item["refused"]:
            with self.subTest(case["what"]), self.assertRaises(Refused):
                reader.read_bucket(deployment, unhex(case["record"]))

    def test_an_envelope_for_it_is_the_committed_one_and_opens(self):
        named, _ = ledger.read_exported(self.exported, **self.pins["key"])
        randomness = blake3(b"reader's envelope").digest(length=224)
        plaintext = blake3(b"plaintext reader").digest(length=1000)
        made = envelope.seal(named, {"month": "2026-11", "purpose": "payroll"}, plaintext, randomness)
        if "STRONGROOM_WRITE_VECTORS" in os.environ:
            ENVELOPE.write_bytes(made)
        self.assertEqual(ENVELOPE.read_bytes(), made)
        secrets = Secrets(named, unhex(self.all["seed"]), unhex(self.all["x"]))
        opened = Envelope(made)
        self.assertEqual(opened.open(opened.dek(secrets)), plaintext)


if __name__ == "__main__":
    unittest.main()
