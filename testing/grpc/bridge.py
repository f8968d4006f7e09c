"""The gateway's REST for keys and the ledger, answered by gRPC calls: other routes pass through untouched.

Nothing here knows the contract beforehand: messages come from reflection. REST writes bytes as base64url and ids as
hexadecimal or base58; that translation is all there is.
"""

import base64
import http.client
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import grpc
from google.protobuf import descriptor_pool, message_factory
from google.rpc import error_details_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

BASE58 = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def base58(data):
    number = int.from_bytes(data, "big")
    text = ""
    while number:
        number, digit = divmod(number, 58)
        text = BASE58[digit] + text
    return "1" * (len(data) - len(data.lstrip(b"\0"))) + text


def text_of(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def bytes_of(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Contract:
    """Calls by name, over a channel, with what reflection tells."""

    def __init__(self, target, token):
        self.channel = grpc.insecure_channel(
            target, options=[("grpc.max_receive_message_length", 17 << 20)]
        )
        self.database = ProtoReflectionDescriptorDatabase(self.channel)
        self.pool = descriptor_pool.DescriptorPool(self.database)
        self.metadata = [("authorization", f"Bearer {token}")] if token else []
        self.calls = []

    def message(self, name, **fields):
        descriptor = self.pool.FindMessageTypeByName(f"strongroom.v1.{name}")
        return message_factory.GetMessageClass(descriptor)(**fields)

    def call(self, service, method, metadata=None, timeout=90, **fields):
        described = self.pool.FindServiceByName(f"strongroom.v1.{service}").FindMethodByName(method)
        request = message_factory.GetMessageClass(described.input_type)(**fields)
        answer = message_factory.GetMessageClass(described.output_type)
        self.calls.append(f"{service}.{method}")
        return self.channel.unary_unary(
            f"/strongroom.v1.{service}/{method}",
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=answer.FromString,
        )(request, timeout=timeout, metadata=self.metadata if metadata is None else metadata)


def error_info(error):
    """The reason and metadata of a refused call."""
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert info.domain == "strongroom"
    return info


def plain(message):
    """A message as REST would write it: bytes become text, numbers stay numbers."""
    out = {}
    for field in message.DESCRIPTOR.fields:
        value = getattr(message, field.name)
        if field.has_presence and not message.HasField(field.name):
            out[field.name] = None
        elif field.message_type and field.message_type.GetOptions().map_entry:
            out[field.name] = dict(value)
        elif field.is_repeated:
            out[field.name] = [one(field, item) for item in value]
        else:
            out[field.name] = one(field, value)
    return out


IDS = {"activation_worker", "worker", "custodian", "principal"}


def one(field, value):
    if field.message_type:
        return plain(value)
    if isinstance(value, bytes):
        if field.name in IDS:
            return base58(value)
        return value.hex() if field.name == "committees" else text_of(value)
    return value


class Bridge(ThreadingHTTPServer):
    def __init__(self, rest, contract):
        super().__init__(("127.0.0.1", 0), Handler)
        self.rest, self.contract = rest, contract
        self.passed = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer()

    do_POST = do_PUT = do_DELETE = do_GET

    def answer(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        url = urlsplit(self.path)
        parts = url.path.strip("/").split("/")
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        try:
            if parts[1:] == ["ledger", "status"]:
                # The genesis hash in it is labelled: a matter of the records, which nothing here knows.
                self.pass_through(body)
            elif parts[:2] in (["v1", "keys"], ["v1", "custody"], ["v1", "ledger"]):
                self.reply(200, *self.over_grpc(parts[1:], query, body))
            else:
                self.pass_through(body)
        except grpc.RpcError as error:
            info = error_info(error)
            problem = {
                "type": f"urn:strongroom:problem:{info.reason}",
                "title": "over gRPC",
                "status": 503,
                "code": info.reason,
                "detail": error.details(),
                **info.metadata,
            }
            self.reply(503, "application/problem+json", json.dumps(problem).encode())

    def reply(self, status, kind, body):
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def pass_through(self, body):
        self.server.passed.append(self.path)
        connection = http.client.HTTPConnection(self.server.rest, timeout=90)
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in ("connection", "transfer-encoding"):
                connection.putheader(name, value)
        connection.endheaders(body)
        answer = connection.getresponse()
        kind, answered = answer.getheader("content-type") or "text/plain", answer.read()
        connection.close()
        self.reply(answer.status, kind, answered)

    def over_grpc(self, parts, query, body):
        call = self.server.contract.call
        message = self.server.contract.message
        keys = lambda method, **fields: call("KeyService", method, **fields)
        ledger = lambda method, **fields: call("LedgerService", method, **fields)
        cbor = "application/cbor"
        out = None
        match parts:
            case ["keys", key, "versions", version, "deal"]:
                request = bytes_of(json.loads(body)["request"])
                out = keys("DealVersion", key=bytes.fromhex(key), version=int(version), request=request)
            case ["keys", key, "decrypt"]:
                asked = json.loads(body)
                ciphertexts = [
                    message("NamedKeyCiphertext", **{name: bytes_of(text) for name, text in one.items()})
                    for one in asked["ciphertexts"]
                ]
                out = keys(
                    "Decrypt",
                    key=bytes.fromhex(key),
                    request=bytes_of(asked["request"]),
                    ciphertexts=ciphertexts,
                )
            case ["custody"]:
                out = keys("GetCustody")
            case ["custody", "confirm"]:
                asked = json.loads(body)
                key = bytes.fromhex(asked.pop("key"))
                asked = {"key": key, **{name: bytes_of(text) for name, text in asked.items()}}
                out = keys("ConfirmHeader", **asked)
            case ["custody", "audit"]:
                asked = json.loads(body)
                asked["request"] = bytes_of(asked["request"])
                out = keys("ReadAudit", **asked)
            case ["ledger", "genesis"]:
                return cbor, ledger("Status").genesis
            case ["ledger", "transactions"]:
                return cbor, ledger("Submit", transaction=body).receipt
            case ["ledger", "receipts", hash]:
                return cbor, ledger("GetReceipt", transaction=bytes.fromhex(hash)).receipt
            case ["ledger", "read"]:
                asked = json.loads(body)
                asked["keys"] = [bytes_of(text) for text in asked["keys"]]
                out = ledger("Read", **asked)
            case ["ledger", "list"]:
                asked = {"limit": int(query.get("limit", 1000)), "prefix": bytes_of(query["prefix"])}
                if "after" in query:
                    asked["after"] = bytes_of(query["after"])
                out = ledger("List", **asked)
            case ["ledger", "headers"]:
                fresh = []
                if "nonce" in query:
                    answers = ledger("Freshness", nonce=bytes_of(query["nonce"])).answers
                    fresh = [text_of(answer) for answer in answers]
                height = {"height": int(query["height"])} if "height" in query else {}
                last = plain(ledger("Finality", **height))
                return "application/json", json.dumps({**last, "fresh": fresh}).encode()
            case _:
                raise AssertionError(f"no gRPC for {parts}")
        return "application/json", json.dumps(plain(out)).encode()
