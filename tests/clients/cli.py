"""The AWS CLI against a Wasmill host: what `tests/clients/firehose.py` asks of the SDK, asked by commands.

ENDPOINT, LIMITED (the pair of a tenant that may put little) and AWS's own variables come from the environment.
"""

import json

from api import ACCOUNT, REGION, cli, done, of

LIMITED = {name.upper(): value for name, value in of("LIMITED").items()}


def aws(*words):
    code, out, err = cli(*words, AWS_MAX_ATTEMPTS="1", **LIMITED)
    assert code == 0, err
    return json.loads(out) if out.strip() else {}


def refused(expected, *words, **environment):
    code, _, err = cli(*words, **{"AWS_MAX_ATTEMPTS": "1", **LIMITED, **environment})
    assert code not in (0, 1, 2) and f"({expected})" in err, (code, err)


def named(name):
    return ("--delivery-stream-name", name)


destination = json.dumps(
    {
        "RoleARN": f"arn:aws:iam::{ACCOUNT}:role/any",
        "BucketARN": "arn:aws:s3:::lake",
        "Prefix": "cli/",
        "BufferingHints": {"SizeInMBs": 1, "IntervalInSeconds": 900},
    }
)
for name in ("cli-a", "cli-b", "cli-c"):
    made = aws("create-delivery-stream", *named(name), "--extended-s3-destination-configuration", destination)
    assert made["DeliveryStreamARN"] == f"arn:aws:firehose:{REGION}:{ACCOUNT}:deliverystream/{name}", made
refused(
    "ResourceInUseException",
    "create-delivery-stream",
    *named("cli-a"),
    "--extended-s3-destination-configuration",
    destination,
)

# In pages.
names, start = [], []
while True:
    page = aws("list-delivery-streams", "--limit", "2", *start)
    names += page["DeliveryStreamNames"]
    if not page["HasMoreDeliveryStreams"]:
        break
    start = ["--exclusive-start-delivery-stream-name", names[-1]]
assert names == ["cli-a", "cli-b", "cli-c"], names
assert start[1] == "cli-b", start

# By the version and destination that it was told.
seen = aws("describe-delivery-stream", *named("cli-a"))["DeliveryStreamDescription"]
[shown] = seen["Destinations"]
update = [
    "update-destination",
    *named("cli-a"),
    "--current-delivery-stream-version-id",
    seen["VersionId"],
    "--destination-id",
    shown["DestinationId"],
    "--extended-s3-destination-update",
    "CompressionFormat=GZIP",
]
aws(*update)
refused("ConcurrentModificationException", *update)
seen = aws("describe-delivery-stream", *named("cli-a"))["DeliveryStreamDescription"]
shown = seen["Destinations"][0]["ExtendedS3DestinationDescription"]
assert (seen["VersionId"], shown["CompressionFormat"], shown["Prefix"]) == ("2", "GZIP", "cli/"), seen

# A batch over the quota is stored in part, which is no failure of the command.
records = json.dumps([{"Data": "e30="}] * 200)
stored = aws("put-record-batch", *named("cli-b"), "--records", records)
failed = [entry for entry in stored["RequestResponses"] if "ErrorCode" in entry]
assert 0 < len(failed) < 200 and stored["FailedPutCount"] == len(failed), stored["FailedPutCount"]
assert {entry["ErrorCode"] for entry in failed} == {"ServiceUnavailableException"}, failed[0]

# Secrets that are wrong, keys that nobody has, streams that are not there.
refused("InvalidSignatureException", "list-delivery-streams", AWS_SECRET_ACCESS_KEY="x" * 40)
refused("UnrecognizedClientException", "list-delivery-streams", AWS_ACCESS_KEY_ID="nobody")
refused("ResourceNotFoundException", "describe-delivery-stream", *named("nowhere"))

for name in names:
    aws("delete-delivery-stream", *named(name), "--allow-force-delete")
assert aws("list-delivery-streams")["DeliveryStreamNames"] == []
refused("ResourceNotFoundException", "delete-delivery-stream", *named("cli-a"))
done()
