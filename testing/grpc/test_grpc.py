"""gRPC of a running gateway, seen by grpcio. The platform is started by run.sh."""

import json
import os
import subprocess
import time
import unittest
import urllib.request
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from bridge import Bridge, Contract, error_info, text_of

READY = json.loads(Path(os.environ["STRONGROOM_READY"]).read_text().splitlines()[0])
BIN = os.environ["STRONGROOM_BIN"]
WORK = Path(os.environ["STRONGROOM_WORK"])
REST = READY["endpoint"].removeprefix("http://")
GRPC = READY["grpc"]


def strongroom(*args, endpoint=READY["endpoint"], status=0, stdin=None):
    env = {**os.environ, "STRONGROOM_ENDPOINT": endpoint}
    ran = subprocess.run([BIN, *args], env=env, cwd=WORK, capture_output=True, input=stdin)
    assert ran.returncode == status, (args, ran.returncode, ran.stderr.decode())
    return ran.stdout


def rest(path):
    request = urllib.request.Request(
        READY["endpoint"] + path, headers={"Authorization": f"Bearer {TOKEN}"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.read()


def setUpModule():
    global TOKEN
    TOKEN = strongroom("--quiet", "token", "--scope", "read").decode().strip()
    # Each enclave reads from the ledger who was admitted before it believes the others.
    for _ in range(120):
        shown = json.loads(rest("/v1/custody"))
        enclaves = shown["custodians"] + shown["workers"]
        if len(enclaves) == 7 and all(enclave["reachable"] for enclave in enclaves):
            return
        time.sleep(0.5)
    raise AssertionError(shown)


class Grpc(unittest.TestCase):
    maxDiff = None

    def setUp(self):
        self.contract = Contract(GRPC, TOKEN)
        self.addCleanup(self.contract.channel.close)

    def refused(self, status, code, service, method, **fields):
        with self.assertRaises(grpc.RpcError) as caught:
            self.contract.call(service, method, **fields)
        error = caught.exception
        info = error_info(error)
        metadata = dict(error.trailing_metadata())
        self.assertEqual((error.code(), info.reason), (status, code), error.details())
        self.assertEqual(metadata["strongroom-problem"], code)
        self.assertEqual(info.metadata["request_id"], metadata["x-request-id"])
        self.assertGreater(len(error.details()), 10)
        return error, info

    def test_reflection_tells_the_contract_and_nothing_of_the_inside(self):
        self.assertEqual(
            set(self.contract.database.get_services()),
            {
                "strongroom.v1.KeyService",
                "strongroom.v1.LedgerService",
                "grpc.health.v1.Health",
                "grpc.reflection.v1alpha.ServerReflection",
            },
        )
        keys = self.contract.pool.FindServiceByName("strongroom.v1.KeyService")
        self.assertEqual(
            [method.name for method in keys.methods],
            ["DealVersion", "Decrypt", "GetCustody", "ConfirmHeader", "ReadAudit"],
        )

    def test_health_is_told_to_anybody(self):
        stub = health_pb2_grpc.HealthStub(self.contract.channel)
        for service in ["", "strongroom.v1.KeyService", "strongroom.v1.LedgerService"]:
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
            self.assertEqual(answer.status, health_pb2.HealthCheckResponse.SERVING, service)
        with self.assertRaises(grpc.RpcError) as caught:
            stub.Check(health_pb2.HealthCheckRequest(service="nobody"), timeout=10)
        self.assertIsNotNone(caught.exception.code())

    def test_nobody_is_answered_without_a_token(self):
        unauthenticated = grpc.StatusCode.UNAUTHENTICATED
        for service, method in [("LedgerService", "Status"), ("KeyService", "GetCustody")]:
            self.refused(unauthenticated, "unauthenticated", service, method, metadata=[])
        forged = [("authorization", f"Bearer {TOKEN[:-4]}AAAA")]
        self.refused(unauthenticated, "signature_invalid", "LedgerService", "Status", metadata=forged)

    def test_the_ledger_is_the_one_that_rest_shows(self):
        ledger = lambda method, **fields: self.contract.call("LedgerService", method, **fields)
        status, shown = ledger("Status"), json.loads(rest("/v1/ledger/status"))
        for name in ["engine", "development", "writable"]:
            self.assertEqual(getattr(status, name), shown[name], name)
        self.assertGreaterEqual(shown["height"], status.height)
        self.assertEqual(status.genesis, rest("/v1/ledger/genesis"))

        last = ledger("Finality", height=status.height)
        same = json.loads(rest(f"/v1/ledger/headers?height={status.height}"))
        self.assertEqual(text_of(last.header), same["header"])
        self.assertEqual(text_of(last.certificate), same["certificate"])
        self.assertEqual(len(ledger("Freshness", nonce=bytes(32)).answers), 1)

        # State keys begin with their kind: find one that has entries.
        for kind in range(64):
            try:
                found = ledger("List", prefix=bytes([kind]), limit=2).entries
            except grpc.RpcError as error:
                self.assertEqual(error_info(error).reason, "bad_request")
                continue
            if found:
                break
        listed = json.loads(rest(f"/v1/ledger/list?prefix={text_of(bytes([kind]))}&limit=2"))
        self.assertEqual([text_of(one.key) for one in found], [one["key"] for one in listed["entries"]])
        absent = found[0].key[:-1] + bytes([found[0].key[-1] ^ 1])
        answer = ledger("Read", keys=[found[0].key, absent])
        self.assertEqual(answer.values[0].value, found[0].value)
        self.assertFalse(answer.values[1].HasField("value"))
        self.assertTrue(answer.values[1].proof)
        self.assertFalse(ledger("GetReceipt", transaction=bytes(32)).HasField("receipt"))

    def test_refusals_have_the_codes_of_rest(self):
        bad = grpc.StatusCode.INVALID_ARGUMENT
        self.refused(bad, "bad_request", "LedgerService", "Read", keys=[])
        self.refused(bad, "bad_request", "LedgerService", "Read", keys=[bytes(1)] * 65)
        self.refused(bad, "bad_request", "LedgerService", "Read", keys=[bytes(257)])
        self.refused(bad, "bad_request", "LedgerService", "List", prefix=b"\xff" * 9, limit=1)
        self.refused(bad, "bad_request", "LedgerService", "Freshness", nonce=bytes(31))
        self.refused(bad, "bad_request", "LedgerService", "GetReceipt", transaction=bytes(31))
        none = grpc.StatusCode.NOT_FOUND
        self.refused(none, "not_found", "LedgerService", "Finality", height=1 << 40)
        error, info = self.refused(
            grpc.StatusCode.FAILED_PRECONDITION,
            "ledger_rejected",
            "LedgerService",
            "Submit",
            transaction=b"nonsense",
        )
        rejection = dict(error.trailing_metadata())["strongroom-rejection"]
        self.assertEqual(info.metadata["rejection"], rejection)
        large = grpc.StatusCode.OUT_OF_RANGE
        self.refused(large, "body_too_large", "LedgerService", "Submit", transaction=bytes(129 << 10))
        self.refused(large, "body_too_large", "LedgerService", "Submit", transaction=bytes(3 << 20))

        self.refused(bad, "bad_request", "KeyService", "Decrypt", key=bytes(31))
        self.refused(bad, "malformed_record", "KeyService", "Decrypt", key=bytes(32), request=b"x")
        self.refused(bad, "malformed_record", "KeyService", "ReadAudit", index=1, request=b"x")
        self.refused(bad, "bad_request", "KeyService", "ReadAudit", index=256)
        self.refused(bad, "malformed_record", "KeyService", "DealVersion", key=bytes(32), version=1)
        self.refused(none, "not_found", "KeyService", "DealVersion", key=bytes(32), version=0)
        forged = {"header": b"x", "certificate": b"y", "nonce": bytes(32)}
        self.refused(bad, "bad_request", "KeyService", "ConfirmHeader", **forged)
        forged["key"] = bytes(32)
        confirmed = self.contract.call("KeyService", "ConfirmHeader", **forged)
        self.assertEqual((len(confirmed.confirmed), len(confirmed.refused)), (0, 5))

    def test_what_is_no_call_is_refused_and_the_gateway_goes_on(self):
        raw = lambda path, body: self.contract.channel.unary_unary(path)(
            body, timeout=10, metadata=self.contract.metadata
        )
        for path, body, code in [
            ("/strongroom.v1.LedgerService/Read", b"\xff\xff\xff", "bad_request"),
            ("/strongroom.v1.LedgerService/Nothing", b"", "method_not_allowed"),
            ("/strongroom.v1.StorageService/Status", b"", "not_implemented"),
        ]:
            with self.assertRaises(grpc.RpcError) as caught:
                raw(path, body)
            self.assertEqual(error_info(caught.exception).reason, code, path)
        with self.assertRaises(grpc.RpcError) as caught:
            stream = self.contract.channel.unary_stream("/strongroom.v1.LedgerService/Subscribe")
            list(stream(b"", timeout=10, metadata=self.contract.metadata))
        self.assertEqual(error_info(caught.exception).reason, "not_implemented")
        self.contract.call("LedgerService", "Status")

    def test_the_program_works_through_grpc_alone(self):
        bridge = Bridge(REST, self.contract)
        self.addCleanup(bridge.server_close)
        self.addCleanup(bridge.shutdown)
        endpoint = f"http://127.0.0.1:{bridge.server_port}"
        over = lambda *args, **more: strongroom(*args, endpoint=endpoint, **more)
        over("key", "create", "payroll")
        secret = os.urandom(200_000)
        sealed = over("encrypt", "--key", "payroll", "--context", "month=may", "-o", "-", "-", stdin=secret)
        self.assertNotIn(secret[:64], sealed)
        self.assertEqual(over("decrypt", "--context", "month=may", "-o", "-", "-", stdin=sealed), secret)
        over("key", "rotate", "payroll")
        self.assertEqual(over("decrypt", "--context", "month=may", "-o", "-", "-", stdin=sealed), secret)
        other = {"STRONGROOM_CONFIG_DIR": str(WORK / "other")}
        subprocess.run([BIN, "--quiet", "init", "--identity-only"], env={**os.environ, **other}, cwd=WORK, check=True, capture_output=True)
        shown = subprocess.run(
            [BIN, "--json", "identity", "show"], env={**os.environ, **other}, cwd=WORK, check=True, capture_output=True
        )
        principal = json.loads(shown.stdout)["principal"]
        over("key", "grant", "payroll", principal)
        over("key", "revoke", "payroll", principal)
        over("audit", "verify", "--key", "payroll")
        self.assertIn(b"decrypt", over("audit", "log", "--key", "payroll"))
        over("ledger", "status")
        over("ledger", "proof", "governance")
        over("attest", "show")
        # What REST does alone passed by (a revocation looks at buckets), and nothing else.
        alone = {"/v1/deployment", "/v1/ledger/status", "/v1/buckets"}
        self.assertEqual(set(bridge.passed) - alone, set())
        used = set(self.contract.calls)
        for call in [
            "KeyService.DealVersion",
            "KeyService.Decrypt",
            "KeyService.GetCustody",
            "KeyService.ConfirmHeader",
            "KeyService.ReadAudit",
            "LedgerService.Submit",
            "LedgerService.Read",
            "LedgerService.List",
        ]:
            self.assertIn(call, used)


if __name__ == "__main__":
    unittest.main()
