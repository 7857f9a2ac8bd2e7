"""Signatures that SDKs do not make of themselves for Firehose, made with botocore's own signer and sent to a Wasmill host.

ENDPOINT and AWS's own variables come from the environment. What is good is stored in the stream `signed`: a record for each.
"""

import hashlib
import http.client
import json
import os
from base64 import b64encode
from urllib.parse import urlsplit

from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from api import ENDPOINT, REGION, bucket, client, done, hints

CREDENTIALS = Credentials(os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"])
EMPTY = hashlib.sha256(b"").hexdigest()


def asked(text, **headers):
    body = {"DeliveryStreamName": "signed", "Record": {"Data": b64encode(text).decode()}}
    told = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": "Firehose_20150804.PutRecord", **headers}
    return AWSRequest("POST", ENDPOINT + "/", headers=told, data=json.dumps(body).encode())


def answer(request, body=None):
    """Status and the name of the error."""
    prepared = request.prepare()
    url = urlsplit(prepared.url)
    connection = http.client.HTTPConnection(url.netloc, timeout=30)
    path = f"{url.path}?{url.query}" if url.query else url.path
    body = prepared.body if body is None else body
    headers = {**dict(prepared.headers.items()), "Content-Length": str(len(body))}
    connection.request("POST", path, body, headers)
    got = connection.getresponse()
    told = json.loads(got.read())
    connection.close()
    return got.status, told.get("__type")


def in_chunks(text, size, change=lambda chunks: chunks):
    """Signed chunk by chunk, and changed behind that."""
    request = asked(text, **{"X-Amz-Content-SHA256": "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "Content-Encoding": "aws-chunked"})
    whole = request.data
    request.headers["X-Amz-Decoded-Content-Length"] = str(len(whole))
    signer = SigV4Auth(CREDENTIALS, "firehose", REGION)
    signer.add_auth(request)
    previous = request.headers["Authorization"].rsplit("Signature=")[1]
    chunks = []
    for start in [*range(0, len(whole), size), len(whole)]:
        chunk = whole[start : start + size]
        lines = [
            "AWS4-HMAC-SHA256-PAYLOAD",
            request.context["timestamp"],
            signer.credential_scope(request),
            previous,
            EMPTY,
            hashlib.sha256(chunk).hexdigest(),
        ]
        previous = signer.signature("\n".join(lines), request)
        chunks.append((chunk, previous))
    framed = b"".join(
        b"%x;chunk-signature=%s\r\n%s\r\n" % (len(chunk), signature.encode(), chunk)
        for chunk, signature in change(chunks)
    )
    return answer(request, framed)


def tampered(chunks):
    data, signature = chunks[1]
    return [chunks[0], (data[:-1] + bytes([data[-1] ^ 1]), signature), *chunks[2:]]


def swapped(chunks):
    return [chunks[1], chunks[0], *chunks[2:]]


def cut(chunks):
    return [*chunks[:2], chunks[-1]]


class Presigner(SigV4QueryAuth):
    """In the query, where it would put the members of the body, too."""

    def __init__(self, body):
        super().__init__(CREDENTIALS, "firehose", REGION, expires=60)
        self.body = body

    def payload(self, request):
        return hashlib.sha256(self.body).hexdigest()


def presigned(text, change=None):
    request = asked(text)
    body, request.data = request.data, b""
    Presigner(body).add_auth(request)
    assert "X-Amz-Signature=" in request.url and "Authorization" not in request.headers
    return answer(request, change or body)


client().create_delivery_stream(
    DeliveryStreamName="signed", S3DestinationConfiguration=bucket(Prefix="signed/", BufferingHints=hints(1, 1))
)

unsigned = asked(b"never: unsigned\n", **{"X-Amz-Content-SHA256": "UNSIGNED-PAYLOAD"})
SigV4Auth(CREDENTIALS, "firehose", REGION).add_auth(unsigned)
# What says that its body is not signed may come with another one, but not with another target.
body = asked(b"unsigned\n").data
assert answer(unsigned, body) == (200, None)
unsigned.headers.replace_header("X-Amz-Target", "Firehose_20150804.PutRecordBatch")
assert answer(unsigned, body) == (400, "InvalidSignatureException")

assert in_chunks(b"chunked\n", 16) == (200, None)
# As long as a record may be, hashed away from the threads that serve others.
long = b"x" * (1000 * 1024 - 1) + b"\n"
assert in_chunks(long, 64 << 10) == (200, None)
for change in (tampered, swapped, cut):
    got = in_chunks(b"never: " + change.__name__.encode() + b"\n", 16, change)
    assert got == (400, "InvalidSignatureException"), (change.__name__, got)
got = in_chunks(b"never: " + long[8:], 64 << 10, tampered)
assert got == (400, "InvalidSignatureException"), got
# The framing itself is broken.
got = in_chunks(b"never: unended\n", 16, lambda chunks: chunks[:-1])
assert got == (400, "IncompleteSignatureException"), got

assert presigned(b"presigned\n") == (200, None)
body = asked(b"never: presigned\n").data
assert presigned(b"presigned\n", body) == (400, "InvalidSignatureException")
done()
