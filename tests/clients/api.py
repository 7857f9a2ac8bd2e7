"""Amazon Data Firehose's own client for a Wasmill host, for the scripts beside this file.

Where the host is (ENDPOINT) and whose pair is taken come from the environment.
"""

import io
import json
import os
from contextlib import redirect_stderr, redirect_stdout
from unittest.mock import patch

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

ENDPOINT = os.environ["ENDPOINT"]
REGION = "eu-west-1"
ACCOUNT = "123456789012"


def client(retries=None, **keys):
    """Of a pair that is not the environment's, if there is one; a request is sent once, unless `retries` says otherwise."""
    config = Config(retries=retries or {"max_attempts": 1}, read_timeout=300)
    return boto3.client("firehose", endpoint_url=ENDPOINT, region_name=REGION, config=config, **keys)


def of(tenant):
    """The pair of a tenant, as the environment has it."""
    return json.loads(os.environ[tenant])


def bucket(**more):
    return {"RoleARN": f"arn:aws:iam::{ACCOUNT}:role/any", "BucketARN": "arn:aws:s3:::lake", **more}


def hints(size, interval):
    return {"SizeInMBs": size, "IntervalInSeconds": interval}


def processors(*each):
    """Each a type and its parameters."""
    told = [
        {"Type": kind, "Parameters": [{"ParameterName": name, "ParameterValue": value} for name, value in more.items()]}
        for kind, more in each
    ]
    return {"Enabled": True, "Processors": told}


def function(name):
    return ("Lambda", {"LambdaArn": f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}:$LATEST"})


def query(text):
    return ("MetadataExtraction", {"MetadataExtractionQuery": text, "JsonParsingEngine": "JQ-1.6"})


def put(firehose, name, records):
    """Stores them all, in as few batches as may be."""
    for start in range(0, len(records), 500):
        batch = [{"Data": record} for record in records[start : start + 500]]
        stored = firehose.put_record_batch(DeliveryStreamName=name, Records=batch)
        assert stored["FailedPutCount"] == 0 and len(stored["RequestResponses"]) == len(batch), stored


def described(firehose, name):
    return firehose.describe_delivery_stream(DeliveryStreamName=name)["DeliveryStreamDescription"]


def refused(code, call, **arguments):
    """The message."""
    try:
        call(**arguments)
    except ClientError as error:
        found = error.response["Error"]["Code"]
        assert found == code, f"expected {code}: {error}"
        return error.response["Error"]["Message"]
    raise AssertionError(f"expected {code} of {call.__name__}({arguments})")


def cli(*words, **environment):
    """The AWS CLI in this process, which starts so much faster: how it ends, what it says, and what of errors."""
    # Whoever does not ask it need not load it.
    from awscli.clidriver import create_clidriver

    arguments = ["firehose", *words, "--endpoint-url", ENDPOINT, "--region", REGION, "--output", "json"]
    out, err = io.StringIO(), io.StringIO()
    with patch.dict(os.environ, environment), redirect_stdout(out), redirect_stderr(err):
        code = create_clidriver().main(arguments)
    return code, out.getvalue(), err.getvalue()


def done():
    print("all is as expected")
