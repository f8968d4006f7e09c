"""What schemathesis cannot know by itself: how to send and read the media types of sealed records."""

import cbor2
import schemathesis


@schemathesis.serializer("application/cbor", "application/octet-stream")
def as_it_is(ctx, value):
    """The document calls these bodies byte strings: what was generated is sent as it is."""
    if isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else cbor2.dumps(value)


@schemathesis.deserializer("application/cbor")
def whole_record(ctx, response):
    """A record must decode as CBOR, to the last byte; to the document it is a byte string."""
    cbor2.loads(response.content)
    return response.content.hex()


@schemathesis.deserializer("application/octet-stream")
def ciphertext(ctx, response):
    return response.content.hex()
