"""A stream that one interface makes and another one changes, as Amazon Data Firehose's own client sees it.

ENDPOINT and AWS's own variables come from the environment. The argument says what to do: `create` makes the stream `shared`, and
`changed` looks at it when it was changed by the interface of the host.
"""

import sys

from api import bucket, client, described, done, hints, put, refused

firehose = client()

if sys.argv[1] == "create":
    firehose.create_delivery_stream(
        DeliveryStreamName="shared",
        ExtendedS3DestinationConfiguration=bucket(
            Prefix="shared/", BufferingHints=hints(3, 600), CompressionFormat="GZIP"
        ),
        Tags=[{"Key": "team", "Value": "web"}],
    )
    assert described(firehose, "shared")["VersionId"] == "1"
else:
    seen = described(firehose, "shared")
    # Versions go on, and what it says is what the host was told, as far as Firehose has words for it.
    assert (seen["VersionId"], seen["DeliveryStreamStatus"], seen["DeliveryStreamType"]) == ("2", "ACTIVE", "DirectPut")
    [destination] = seen["Destinations"]
    shown = destination["ExtendedS3DestinationDescription"]
    assert shown["Prefix"] == "changed/" and shown["BufferingHints"] == hints(2, 120), shown
    assert (shown["CompressionFormat"], shown["BucketARN"]) == ("UNCOMPRESSED", "arn:aws:s3:::lake"), shown
    assert firehose.list_delivery_streams()["DeliveryStreamNames"] == ["filed", "shared"]
    # It is changed there from then on, and so are its tags.
    message = refused(
        "InvalidArgumentException",
        firehose.update_destination,
        DeliveryStreamName="shared",
        CurrentDeliveryStreamVersionId="2",
        DestinationId=destination["DestinationId"],
        ExtendedS3DestinationUpdate={"Prefix": "back/"},
    )
    assert message == "Firehose shared was defined by PUT /v1/streams/shared: change it there", message
    tag = [{"Key": "a", "Value": "b"}]
    message = refused("InvalidArgumentException", firehose.tag_delivery_stream, DeliveryStreamName="shared", Tags=tag)
    assert "PUT /v1/streams/shared" in message, message
    put(firehose, "shared", [b'{"n":1}\n'])
done()
