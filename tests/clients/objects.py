"""What S3's own client is told of the objects that a delivery stream has left: all are bytes, and compressed ones say how.

Where the store is comes from the environment, after the host has ended.
"""

import os

import boto3
from botocore.config import Config

CONFIG = Config(retries={"max_attempts": 1}, s3={"addressing_style": "path"})
S3 = boto3.client(
    "s3",
    endpoint_url=os.environ["STORE"],
    aws_access_key_id=os.environ["STORE_KEY"],
    aws_secret_access_key=os.environ["STORE_SECRET"],
    region_name="eu-west-1",
    config=CONFIG,
)

pages = S3.get_paginator("list_objects_v2").paginate(Bucket="lake")
keys = [found["Key"] for page in pages for found in page.get("Contents", [])]
assert keys, "the bucket is empty"
for key in keys:
    head = S3.head_object(Bucket="lake", Key=key)
    assert head["ContentType"] == "application/octet-stream", (key, head["ContentType"])
    encoding = "gzip" if key.endswith(".gz") else None
    assert head.get("ContentEncoding") == encoding, (key, head.get("ContentEncoding"))
print("all is as expected")
