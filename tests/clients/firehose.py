"""Amazon Data Firehose's own client against a Wasmill host, and the AWS CLI beside it.

What a host is started with comes from the environment: ENDPOINT, OTHER and LIMITED (other tenants' pairs), and AWS's own
variables.
Each check says what it is about; the first that fails ends the program with its text.
"""

import json
import os

from api import REGION, bucket, cli, client, described, done, of, refused


def main():
    firehose = client()
    hints = {"SizeInMBs": 1, "IntervalInSeconds": 1}

    # Create, describe, list.
    made = firehose.create_delivery_stream(
        DeliveryStreamName="clicks",
        ExtendedS3DestinationConfiguration=bucket(
            Prefix="clicks/!{timestamp:yyyy}/",
            ErrorOutputPrefix="bad/!{firehose:error-output-type}/",
            BufferingHints=hints,
            CompressionFormat="GZIP",
        ),
        Tags=[{"Key": "team", "Value": "web"}],
    )
    assert made["DeliveryStreamARN"] == f"arn:aws:firehose:{REGION}:123456789012:deliverystream/clicks", made
    seen = described(firehose, "clicks")
    assert (seen["DeliveryStreamStatus"], seen["VersionId"]) == ("ACTIVE", "1"), seen
    shown = seen["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert shown["Prefix"] == "clicks/!{timestamp:yyyy}/" and shown["BufferingHints"] == hints, shown
    refused(
        "ResourceInUseException",
        firehose.create_delivery_stream,
        DeliveryStreamName="clicks",
        S3DestinationConfiguration=bucket(),
    )
    firehose.create_delivery_stream(DeliveryStreamName="plain", S3DestinationConfiguration=bucket(BufferingHints=hints))
    page = firehose.list_delivery_streams(Limit=1)
    assert (page["DeliveryStreamNames"], page["HasMoreDeliveryStreams"]) == (["clicks"], True), page
    page = firehose.list_delivery_streams(ExclusiveStartDeliveryStreamName="clicks")
    assert (page["DeliveryStreamNames"], page["HasMoreDeliveryStreams"]) == (["filed", "plain"], False), page
    assert described(firehose, "filed")["Destinations"] == [], "one of the file, into a directory"

    # Puts.
    stored = firehose.put_record(DeliveryStreamName="clicks", Record={"Data": b'{"n":0}\n'})
    assert stored["RecordId"] and stored["Encrypted"] is False, stored
    records = [{"Data": b'{"n":%d}\n' % n} for n in range(1, 500)]
    stored = firehose.put_record_batch(DeliveryStreamName="clicks", Records=records)
    assert stored["FailedPutCount"] == 0 and len(stored["RequestResponses"]) == 499, stored
    firehose.put_record_batch(DeliveryStreamName="plain", Records=[{"Data": b"a"}, {"Data": b""}, {"Data": b"b"}])
    firehose.put_record(DeliveryStreamName="filed", Record={"Data": b'{"n":1}'})
    message = refused(
        "ResourceNotFoundException", firehose.put_record, DeliveryStreamName="nowhere", Record={"Data": b"x"}
    )
    assert message == "Firehose nowhere under account 123456789012 not found.", message
    refused(
        "InvalidArgumentException",
        firehose.put_record_batch,
        DeliveryStreamName="clicks",
        Records=[{"Data": b"x" * 1_000_000}] * 5,
    )
    refused(
        "ValidationException",
        firehose.put_record_batch,
        DeliveryStreamName="clicks",
        Records=[{"Data": b"x"}] * 501,
    )

    # A batch over the quota is stored in part; the rest is told to come again.
    limited = client(**of("LIMITED"))
    limited.create_delivery_stream(DeliveryStreamName="slow", S3DestinationConfiguration=bucket(BufferingHints=hints))
    stored = limited.put_record_batch(DeliveryStreamName="slow", Records=[{"Data": b"%d" % n} for n in range(100)])
    failed = [entry for entry in stored["RequestResponses"] if "ErrorCode" in entry]
    assert stored["FailedPutCount"] == len(failed) and 0 < len(failed) < 100, stored["FailedPutCount"]
    assert {entry["ErrorCode"] for entry in failed} == {"ServiceUnavailableException"}, failed[0]
    assert "RecordId" in stored["RequestResponses"][0] and "ErrorCode" in stored["RequestResponses"][-1]

    # Destinations that records are sent to one by one; nobody is there, and what they do not take goes to the bucket.
    def beside(name):
        return bucket(ErrorOutputPrefix=f"failed-{name}/", BufferingHints={"SizeInMBs": 1, "IntervalInSeconds": 60})

    at_once = {"SizeInMBs": 1, "IntervalInSeconds": 0}
    none = {"DurationInSeconds": 0}
    endpoint = {"Url": "https://127.0.0.1:1/in", "Name": "in", "AccessKey": "k3y"}
    posted = {
        "EndpointConfiguration": endpoint,
        "BufferingHints": at_once,
        "RetryOptions": none,
        "RequestConfiguration": {
            "ContentEncoding": "GZIP",
            "CommonAttributes": [{"AttributeName": "deployment", "AttributeValue": "pre"}],
        },
        "S3Configuration": beside("posted"),
    }
    firehose.create_delivery_stream(DeliveryStreamName="posted", HttpEndpointDestinationConfiguration=posted)
    message = refused(
        "InvalidArgumentException",
        firehose.create_delivery_stream,
        DeliveryStreamName="elsewhere",
        HttpEndpointDestinationConfiguration={**posted, "EndpointConfiguration": {"Url": "https://elsewhere.example/"}},
    )
    assert "is not among the hosts" in message, message
    firehose.create_delivery_stream(
        DeliveryStreamName="indexed",
        SplunkDestinationConfiguration={
            "HECEndpoint": "https://127.0.0.1:1",
            "HECEndpointType": "Raw",
            "HECToken": "t0ken",
            "BufferingHints": at_once,
            "RetryOptions": none,
            "S3Configuration": beside("indexed"),
        },
    )
    firehose.create_delivery_stream(
        DeliveryStreamName="searched",
        AmazonopensearchserviceDestinationConfiguration={
            "RoleARN": "arn:aws:iam::123456789012:role/any",
            "ClusterEndpoint": "https://user:passw0rd@127.0.0.1:1",
            "IndexName": "logs",
            "IndexRotationPeriod": "OneWeek",
            "BufferingHints": at_once,
            "RetryOptions": none,
            "S3Configuration": beside("searched"),
        },
    )
    # The same interface under its older name.
    elastic = {
        "RoleARN": "arn:aws:iam::123456789012:role/any",
        "ClusterEndpoint": "https://user:passw0rd@127.0.0.1:1",
        "IndexName": "logs",
        "TypeName": "log",
        "S3Configuration": bucket(Prefix="elastic/"),
    }
    firehose.create_delivery_stream(DeliveryStreamName="elastic", ElasticsearchDestinationConfiguration=elastic)
    seen = described(firehose, "elastic")
    shown = seen["Destinations"][0]["ElasticsearchDestinationDescription"]
    assert (shown["ClusterEndpoint"], shown["IndexRotationPeriod"]) == ("https://127.0.0.1:1", "OneDay"), shown
    assert "passw0rd" not in json.dumps(seen, default=str), seen
    firehose.update_destination(
        DeliveryStreamName="elastic",
        CurrentDeliveryStreamVersionId="1",
        DestinationId=seen["Destinations"][0]["DestinationId"],
        ElasticsearchDestinationUpdate={"IndexName": "others", "IndexRotationPeriod": "OneHour"},
    )
    seen = described(firehose, "elastic")
    shown = seen["Destinations"][0]["ElasticsearchDestinationDescription"]
    assert (seen["VersionId"], shown["IndexName"], shown["IndexRotationPeriod"]) == ("2", "others", "OneHour"), seen
    assert shown["S3DestinationDescription"]["Prefix"] == "elastic/", shown
    message = refused(
        "InvalidArgumentException",
        firehose.create_delivery_stream,
        DeliveryStreamName="domain",
        ElasticsearchDestinationConfiguration={
            **{name: value for name, value in elastic.items() if name != "ClusterEndpoint"},
            "DomainARN": "arn:aws:es:eu-west-1:123456789012:domain/logs",
        },
    )
    assert "ClusterEndpoint" in message, message
    firehose.delete_delivery_stream(DeliveryStreamName="elastic")

    for name in ("posted", "indexed", "searched"):
        seen = described(firehose, name)
        text = json.dumps(seen, default=str)
        assert not any(secret in text for secret in ("k3y", "t0ken", "passw0rd")), text
        stored = firehose.put_record_batch(
            DeliveryStreamName=name, Records=[{"Data": b'{"n":1}'}, {"Data": b'{"n":2}'}]
        )
        assert stored["FailedPutCount"] == 0, stored
    shown = described(firehose, "searched")["Destinations"][0]["AmazonopensearchserviceDestinationDescription"]
    assert (shown["ClusterEndpoint"], shown["IndexRotationPeriod"]) == ("https://127.0.0.1:1", "OneWeek"), shown
    seen = described(firehose, "posted")
    firehose.update_destination(
        DeliveryStreamName="posted",
        CurrentDeliveryStreamVersionId="1",
        DestinationId=seen["Destinations"][0]["DestinationId"],
        HttpEndpointDestinationUpdate={"RequestConfiguration": {"ContentEncoding": "NONE"}},
    )
    seen = described(firehose, "posted")
    shown = seen["Destinations"][0]["HttpEndpointDestinationDescription"]
    assert (seen["VersionId"], shown["RequestConfiguration"]["ContentEncoding"]) == ("2", "NONE"), seen
    assert shown["EndpointConfiguration"] == {"Url": endpoint["Url"], "Name": "in"}, shown
    assert shown["S3DestinationDescription"]["ErrorOutputPrefix"] == "failed-posted/", shown

    # A table that objects are loaded into; nobody is there, and nothing is put.
    loaded = {
        "RoleARN": "arn:aws:iam::123456789012:role/any",
        "ClusterJDBCURL": "jdbc:redshift://127.0.0.1:1/dev",
        "CopyCommand": {"DataTableName": "public.clicks", "DataTableColumns": "n", "CopyOptions": "JSON 'auto'"},
        "Username": "loader",
        "Password": "Passw0rd",
        "S3Configuration": bucket(Prefix="loaded/"),
    }
    firehose.create_delivery_stream(DeliveryStreamName="loaded", RedshiftDestinationConfiguration=loaded)
    elsewhere = {**loaded, "ClusterJDBCURL": "jdbc:redshift://elsewhere.example:5439/dev"}
    message = refused(
        "InvalidArgumentException",
        firehose.create_delivery_stream,
        DeliveryStreamName="elsewhere",
        RedshiftDestinationConfiguration=elsewhere,
    )
    assert "is not among the hosts" in message, message
    seen = described(firehose, "loaded")
    shown = seen["Destinations"][0]["RedshiftDestinationDescription"]
    assert (shown["CopyCommand"], shown["Username"]) == (loaded["CopyCommand"], "loader"), shown
    assert "Passw0rd" not in json.dumps(seen, default=str), seen
    firehose.update_destination(
        DeliveryStreamName="loaded",
        CurrentDeliveryStreamVersionId="1",
        DestinationId=seen["Destinations"][0]["DestinationId"],
        RedshiftDestinationUpdate={"CopyCommand": {"DataTableName": "public.others"}},
    )
    shown = described(firehose, "loaded")["Destinations"][0]["RedshiftDestinationDescription"]
    assert shown["CopyCommand"] == {"DataTableName": "public.others"}, shown
    assert shown["S3DestinationDescription"]["Prefix"] == "loaded/", shown
    firehose.delete_delivery_stream(DeliveryStreamName="loaded")

    # Update: by version, merged, and refused when it is stale.
    update = dict(
        DeliveryStreamName="clicks",
        CurrentDeliveryStreamVersionId="1",
        DestinationId=seen["Destinations"][0]["DestinationId"],
        ExtendedS3DestinationUpdate={"FileExtension": ".json.gz"},
    )
    firehose.update_destination(**update)
    refused("ConcurrentModificationException", firehose.update_destination, **update)
    seen = described(firehose, "clicks")
    shown = seen["Destinations"][0]["ExtendedS3DestinationDescription"]
    assert (seen["VersionId"], shown["FileExtension"], shown["CompressionFormat"]) == ("2", ".json.gz", "GZIP"), seen
    firehose.put_record(DeliveryStreamName="clicks", Record={"Data": b'{"n":500}\n'})

    # Tags, and what the host does not do.
    firehose.tag_delivery_stream(DeliveryStreamName="clicks", Tags=[{"Key": "env", "Value": "prod"}])
    firehose.untag_delivery_stream(DeliveryStreamName="clicks", TagKeys=["team", "none"])
    tags = firehose.list_tags_for_delivery_stream(DeliveryStreamName="clicks")
    assert tags["Tags"] == [{"Key": "env", "Value": "prod"}] and not tags["HasMoreTags"], tags
    assert described(firehose, "clicks")["VersionId"] == "2"
    message = refused(
        "InvalidArgumentException", firehose.start_delivery_stream_encryption, DeliveryStreamName="clicks"
    )
    assert "does not encrypt" in message, message
    refused("InvalidArgumentException", firehose.tag_delivery_stream, DeliveryStreamName="filed", Tags=[{"Key": "a"}])
    for wrong, part in [
        ({"BucketARN": "arn:aws:s3:::elsewhere"}, "policy"),
        ({"Prefix": "!{timestamp:yyyy}/"}, "ErrorOutputPrefix"),
        ({"S3BackupMode": "Enabled"}, "S3BackupConfiguration"),
    ]:
        message = refused(
            "InvalidArgumentException",
            firehose.create_delivery_stream,
            DeliveryStreamName="wrong",
            ExtendedS3DestinationConfiguration=bucket(**wrong),
        )
        assert part in message, message

    # Others, and pairs that are none.
    other = client(**of("OTHER"))
    refused("ResourceNotFoundException", other.describe_delivery_stream, DeliveryStreamName="clicks")
    assert other.list_delivery_streams()["DeliveryStreamNames"] == []
    wrong = client(aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"], aws_secret_access_key="x" * 40)
    refused("InvalidSignatureException", wrong.list_delivery_streams)
    nobody = client(aws_access_key_id="nobody", aws_secret_access_key="x" * 40)
    refused("UnrecognizedClientException", nobody.list_delivery_streams)

    # The same by the AWS CLI.
    def aws(*words):
        code, out, err = cli(*words)
        assert code == 0, err
        return json.loads(out) if out.strip() else {}

    assert aws("list-delivery-streams")["DeliveryStreamNames"] == [
        "clicks",
        "filed",
        "indexed",
        "plain",
        "posted",
        "searched",
    ]
    stored = aws("put-record", "--delivery-stream-name", "plain", "--record", '{"Data":"YwBk"}')
    assert stored["RecordId"], stored
    aws("delete-delivery-stream", "--delivery-stream-name", "plain")
    assert firehose.list_delivery_streams()["DeliveryStreamNames"] == ["clicks", "filed", "indexed", "posted", "searched"]
    done()


main()
