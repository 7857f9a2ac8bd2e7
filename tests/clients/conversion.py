"""Record format conversion and the backup of source records, told by Amazon Data Firehose's own client.

ENDPOINT and AWS's own variables come from the environment. The argument says what to do: `create` makes the delivery
stream `visits` and looks at what it says and refuses; `put FROM TO` puts the records of these numbers, of which every
fifth does not fit its table.
"""

import json
import os
import sys

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

CONFIG = Config(retries={"max_attempts": 1}, read_timeout=90)
FIREHOSE = boto3.client("firehose", endpoint_url=os.environ["ENDPOINT"], region_name="eu-west-1", config=CONFIG)


def conversion(**more):
    return {
        "SchemaConfiguration": {"DatabaseName": "lake", "TableName": "visits", "RoleARN": "arn:aws:iam::1:role/any"},
        "InputFormatConfiguration": {
            "Deserializer": {"OpenXJsonSerDe": {"ColumnToJsonKeyMappings": {"at": "timestamp"}}}
        },
        "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {"Compression": "GZIP"}}},
        **more,
    }


def bucket(**more):
    return {"RoleARN": "arn:aws:iam::123456789012:role/any", "BucketARN": "arn:aws:s3:::lake", **more}


def configuration(**more):
    hints = {"SizeInMBs": 64, "IntervalInSeconds": 1}
    return bucket(
        Prefix="visits/!{timestamp:yyyy}/",
        ErrorOutputPrefix="bad/!{firehose:error-output-type}/",
        BufferingHints=hints,
        DataFormatConversionConfiguration=conversion(),
        S3BackupMode="Enabled",
        S3BackupConfiguration=bucket(Prefix="source/", BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 60}),
        **more,
    )


def refused(part, **arguments):
    try:
        FIREHOSE.create_delivery_stream(DeliveryStreamName="wrong", ExtendedS3DestinationConfiguration=arguments)
    except ClientError as error:
        found = error.response["Error"]
        assert found["Code"] == "InvalidArgumentException" and part in found["Message"], found
        return
    raise AssertionError(f"expected {part}")


def create():
    FIREHOSE.create_delivery_stream(
        DeliveryStreamName="visits", ExtendedS3DestinationConfiguration=configuration()
    )
    seen = FIREHOSE.describe_delivery_stream(DeliveryStreamName="visits")["DeliveryStreamDescription"]
    shown = seen["Destinations"][0]["ExtendedS3DestinationDescription"]
    told = shown["DataFormatConversionConfiguration"]
    assert told["Enabled"] is True and told["SchemaConfiguration"]["TableName"] == "visits", told
    assert told["OutputFormatConfiguration"]["Serializer"]["ParquetSerDe"]["Compression"] == "GZIP", told
    assert (shown["S3BackupMode"], shown["S3BackupDescription"]["Prefix"]) == ("Enabled", "source/"), shown

    orc = {"Serializer": {"OrcSerDe": {}}}
    elsewhere = {"DatabaseName": "lake", "TableName": "elsewhere"}
    plain = {"DataFormatConversionConfiguration": conversion()}
    refused("OrcSerDe", **bucket(DataFormatConversionConfiguration=conversion(OutputFormatConfiguration=orc)))
    refused(
        "[firehose.schemas]",
        **bucket(DataFormatConversionConfiguration=conversion(SchemaConfiguration=elsewhere)),
    )
    refused("UNCOMPRESSED", **bucket(CompressionFormat="GZIP", **plain))
    refused("at least 64", **bucket(BufferingHints={"SizeInMBs": 5, "IntervalInSeconds": 1}, **plain))
    refused("S3BackupConfiguration", **bucket(S3BackupMode="Enabled"))

    # Another compression, merged into the rest; what is stored before is delivered with the first one.
    FIREHOSE.update_destination(
        DeliveryStreamName="visits",
        CurrentDeliveryStreamVersionId="1",
        DestinationId=seen["Destinations"][0]["DestinationId"],
        ExtendedS3DestinationUpdate={
            "DataFormatConversionConfiguration": {
                "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {"Compression": "SNAPPY"}}}
            }
        },
    )
    seen = FIREHOSE.describe_delivery_stream(DeliveryStreamName="visits")["DeliveryStreamDescription"]
    told = seen["Destinations"][0]["ExtendedS3DestinationDescription"]["DataFormatConversionConfiguration"]
    assert told["SchemaConfiguration"]["TableName"] == "visits" and told["Enabled"] is True, told


def record(n):
    page = {"id": n} if n % 5 == 0 else f"/{n}"
    return {"N": "many" if n % 5 == 3 else n, "timestamp": 1_700_000_000_000 + n, "page": page}


def put(first, last):
    for start in range(first, last, 500):
        records = [
            {"Data": json.dumps(record(n), indent=n % 2 or None).encode()} for n in range(start, min(start + 500, last))
        ]
        stored = FIREHOSE.put_record_batch(DeliveryStreamName="visits", Records=records)
        assert stored["FailedPutCount"] == 0, stored


if sys.argv[1] == "create":
    create()
else:
    put(int(sys.argv[2]), int(sys.argv[3]))
print("all is as expected")
