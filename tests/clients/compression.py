"""Every compression of Amazon Data Firehose, made by its own client and read back out of the bucket by readers of Python.

ENDPOINT, STORE (with its pair STORE_KEY and STORE_SECRET) and AWS's own variables come from the environment. The argument says
what to do: `put`, and when everything is delivered `read`.
"""

import gzip
import io
import os
import re
import sys
import uuid
import zipfile
from datetime import datetime, timedelta, timezone

import boto3
import snappy.snappy
from botocore.config import Config
from kafka.codec import snappy_decode

from api import bucket, client, done, hints, put

# Of each: what the extension and Content-Encoding are. An archive is what it is, not a body that was encoded.
COMPRESSIONS = {
    "UNCOMPRESSED": ("", None),
    "GZIP": (".gz", "gzip"),
    "ZIP": (".zip", None),
    "Snappy": (".snappy", "snappy-java"),
    "HADOOP_SNAPPY": (".snappy", "hadoop-snappy"),
}
RECORDS = [b'{"row":%d,"text":"%s"}' % (n, b"abcdefgh" * (n % 50)) for n in range(2000)]
TOKYO = timezone(timedelta(hours=9))


def name(compression, extension):
    return f"{compression.lower().replace('_', '-')}{'-named' if extension else ''}"


def streams():
    for compression, (extension, encoding) in COMPRESSIONS.items():
        # Another extension changes the name alone.
        for other in ("", ".data"):
            yield name(compression, other), compression, other or extension, encoding, other


def read(compression, body):
    if compression == "GZIP":
        return gzip.decompress(body)
    if compression == "ZIP":
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            assert archive.testzip() is None
            [entry] = archive.infolist()
            assert entry.compress_type == zipfile.ZIP_DEFLATED and uuid.UUID(entry.filename), entry
            return archive.read(entry)
    if compression == "Snappy":
        return snappy_decode(body)
    if compression == "HADOOP_SNAPPY":
        text = io.BytesIO()
        snappy.snappy.hadoop_stream_decompress(io.BytesIO(body), text)
        return text.getvalue()
    return body


if sys.argv[1] == "put":
    firehose = client()
    for stream, compression, _, _, other in streams():
        firehose.create_delivery_stream(
            DeliveryStreamName=stream,
            ExtendedS3DestinationConfiguration=bucket(
                Prefix=f"{stream}/!{{timestamp:yyyy-MM-dd'T'HH}}/!{{firehose:random-string}}/!{{firehose:random-string}}/",
                ErrorOutputPrefix="bad/!{firehose:error-output-type}/",
                BufferingHints=hints(5, 900),
                CompressionFormat=compression,
                CustomTimeZone="Asia/Tokyo",
                **({"FileExtension": other} if other else {}),
            ),
        )
        put(firehose, stream, RECORDS)
else:
    now = datetime.now(TOKYO)
    s3 = boto3.client(
        "s3",
        endpoint_url=os.environ["STORE"],
        region_name="eu-west-1",
        aws_access_key_id=os.environ["STORE_KEY"],
        aws_secret_access_key=os.environ["STORE_SECRET"],
        config=Config(s3={"addressing_style": "path"}),
    )
    for stream, compression, extension, encoding, _ in streams():
        [found] = s3.list_objects_v2(Bucket="lake", Prefix=f"{stream}/")["Contents"]
        key = found["Key"]
        digits = r"\d\d\d\d-\d\d-\d\d"
        drawn = r"([A-Za-z0-9]{11})"
        unique = r"([0-9a-f-]{36})"
        pattern = rf"{stream}/({digits}T\d\d)/{drawn}/{drawn}/{stream}-1-({digits}-\d\d-\d\d-\d\d)-{unique}{re.escape(extension)}"
        matched = re.fullmatch(pattern, key)
        assert matched, (key, pattern)
        hour, first, second, moment, last = matched.groups()
        # One moment, in Tokyo's time; each use of what is random draws anew.
        assert moment.startswith(hour.replace("T", "-")) and first != second and uuid.UUID(last), key
        age = now.replace(tzinfo=None) - datetime.strptime(moment, "%Y-%m-%d-%H-%M-%S")
        assert timedelta() <= age < timedelta(minutes=10), (key, now)
        got = s3.get_object(Bucket="lake", Key=key)
        assert got.get("ContentEncoding") == encoding, (key, got.get("ContentEncoding"))
        body = got["Body"].read()
        assert read(compression, body) == b"".join(RECORDS), key
        assert (len(body) < 100_000) == (compression != "UNCOMPRESSED"), (key, len(body))
done()
