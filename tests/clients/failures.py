"""Records that fail, told by Amazon Data Firehose's own client: each of the documented files of errors is to have some.

What is put is the Rust side's, to look for in the bucket.
"""

import gzip
import json

import api

FIREHOSE = api.client()


def bucket(name, **more):
    return api.bucket(
        Prefix=f"{name}/",
        ErrorOutputPrefix=f"failed/{name}/!{{firehose:error-output-type}}/",
        **more,
    )


def create(name, *each, **more):
    processing = {"ProcessingConfiguration": api.processors(*each)} if each else {}
    configuration = {**bucket(name), **processing, **more}
    FIREHOSE.create_delivery_stream(DeliveryStreamName=name, ExtendedS3DestinationConfiguration=configuration)


def refused_stream(part, *each, **more):
    configuration = {**bucket("wrong"), "ProcessingConfiguration": api.processors(*each), **more}
    message = api.refused(
        "InvalidArgumentException",
        FIREHOSE.create_delivery_stream,
        DeliveryStreamName="wrong",
        ExtendedS3DestinationConfiguration=configuration,
    )
    assert part in message, message


SMALL = {"BufferingHints": api.hints(1, 1)}
LARGE = {"BufferingHints": api.hints(64, 60)}

# A function.
create("functions", api.function("lambda"), **SMALL)
answers = ["Dropped", "ProcessingFailed", "nothing", "throw"]
told = [json.dumps({"n": n, "answer": answer}).encode() for n, answer in enumerate(answers)]
api.put(FIREHOSE, "functions", [*told, b'{"n":4,"event":true}'])

# Columns.
conversion = {
    "SchemaConfiguration": {"DatabaseName": "lake", "TableName": "visits", "RoleARN": "arn:aws:iam::1:role/any"},
    "InputFormatConfiguration": {"Deserializer": {"OpenXJsonSerDe": {}}},
    "OutputFormatConfiguration": {"Serializer": {"ParquetSerDe": {}}},
}
create("visits", DataFormatConversionConfiguration=conversion, **LARGE)
api.put(FIREHOSE, "visits", [b'{"n":1}', b'{"n":"many"}', b"no json"])

# Partitions: the function's key and the query's have the same name.
partitioned = {**LARGE, "DynamicPartitioningConfiguration": {"Enabled": True}}
keys = "!{partitionKeyFromQuery:area}/!{partitionKeyFromLambda:area}/"
create(
    "parted", api.function("lambda"), api.query("{area:.k}"), **{**partitioned, "Prefix": f"parted/{keys}"}
)
parted = [b'{"n":1,"area":"of-function","k":"of-query"}', b'{"n":2,"area":"of-function","k":null}']
api.put(FIREHOSE, "parted", parted)
for part, query, key in [("does not give", "{k:.k}", "other"), ("does not use", "{k:.k,l:.l}", "k")]:
    refused_stream(part, api.query(query), **partitioned, Prefix=f"!{{partitionKeyFromQuery:{key}}}/")

# Nobody is there.
FIREHOSE.create_delivery_stream(
    DeliveryStreamName="posted",
    HttpEndpointDestinationConfiguration={
        "EndpointConfiguration": {"Url": "https://127.0.0.1:1/in", "Name": "in"},
        "BufferingHints": api.hints(1, 0),
        "RetryOptions": {"DurationInSeconds": 0},
        "S3Configuration": bucket("posted"),
    },
)
api.put(FIREHOSE, "posted", [b"one", b"\xff\x00two"])

# CloudWatch Logs: a line for each message, nothing of control messages, and nothing else is taken.
create(
    "logs",
    ("Decompression", {"CompressionFormat": "GZIP"}),
    ("CloudWatchLogProcessing", {"DataMessageExtraction": "true"}),
    **SMALL,
)


def envelope(kind, group, *messages):
    events = [{"id": str(n), "timestamp": 1_700_000_000_000 + n, "message": text} for n, text in enumerate(messages)]
    whole = {
        "messageType": kind,
        "owner": "123456789012",
        "logGroup": group,
        "logStream": "s",
        "subscriptionFilters": ["f"],
        "logEvents": events,
    }
    return gzip.compress(json.dumps(whole).encode())


control = envelope("CONTROL_MESSAGE", "", "CWL CONTROL MESSAGE: Checking health of destination Firehose.")
messages = [envelope("DATA_MESSAGE", "g", "first", '{"second":2}'), control, envelope("DATA_MESSAGE", "g", "third")]
api.put(FIREHOSE, "logs", messages)
plain = {"Data": b"plain"}
message = api.refused("InvalidSourceException", FIREHOSE.put_record, DeliveryStreamName="logs", Record=plain)
assert "Only requests from CloudWatch Logs" in message, message
mixed = [{"Data": control}, plain]
message = api.refused("InvalidSourceException", FIREHOSE.put_record_batch, DeliveryStreamName="logs", Records=mixed)
assert "record 1" in message, message
api.put(FIREHOSE, "logs", [gzip.compress(b"no envelope")])

# Keys that are nowhere.
key = {"KeyType": "CUSTOMER_MANAGED_CMK", "KeyARN": "arn:aws:kms:eu-west-1:123456789012:key/k"}
message = api.refused(
    "InvalidKMSResourceException",
    FIREHOSE.start_delivery_stream_encryption,
    DeliveryStreamName="logs",
    DeliveryStreamEncryptionConfigurationInput=key,
)
assert "no KMS" in message, message
api.done()
