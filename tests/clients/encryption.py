"""Encryption of delivery streams by Amazon Data Firehose's own client, on a host whose disk is said to be encrypted.

ENDPOINT and AWS's own variables come from the environment. The argument says what to do: `start`, or `stop` what was started.
"""

import sys

from api import bucket, client, described, done, hints, refused

firehose = client()


def state(name):
    return described(firehose, name)["DeliveryStreamEncryptionConfiguration"]["Status"]


def stored(name):
    """Whether what is put is said to be encrypted, by both ways to put."""
    one = firehose.put_record(DeliveryStreamName=name, Record={"Data": b"one\n"})
    more = firehose.put_record_batch(DeliveryStreamName=name, Records=[{"Data": b"more\n"}])
    assert one["Encrypted"] is more["Encrypted"], (one, more)
    return one["Encrypted"]


destination = bucket(Prefix="kept/", BufferingHints=hints(1, 900))
if sys.argv[1] == "start":
    firehose.create_delivery_stream(DeliveryStreamName="kept", S3DestinationConfiguration=destination)
    assert (state("kept"), stored("kept")) == ("DISABLED", False)
    firehose.start_delivery_stream_encryption(DeliveryStreamName="kept")
    assert (state("kept"), stored("kept")) == ("ENABLED", True)
    # The definition that runs is the same.
    assert described(firehose, "kept")["VersionId"] == "1"
    # Or from the beginning; keys of KMS are nobody's here.
    owned = {"KeyType": "AWS_OWNED_CMK"}
    firehose.create_delivery_stream(
        DeliveryStreamName="born",
        S3DestinationConfiguration=destination,
        DeliveryStreamEncryptionConfigurationInput=owned,
    )
    assert (state("born"), stored("born")) == ("ENABLED", True)
    refused(
        "ResourceNotFoundException",
        firehose.start_delivery_stream_encryption,
        DeliveryStreamName="nowhere",
        DeliveryStreamEncryptionConfigurationInput=owned,
    )
else:
    assert (state("kept"), stored("kept")) == ("ENABLED", True)
    firehose.stop_delivery_stream_encryption(DeliveryStreamName="kept")
    assert (state("kept"), stored("kept")) == ("DISABLED", False)
    # Starts and stops are bounded: two were done.
    for n in range(23):
        call = firehose.start_delivery_stream_encryption if n % 2 == 0 else firehose.stop_delivery_stream_encryption
        call(DeliveryStreamName="kept")
    assert state("kept") == "ENABLED"
    refused("LimitExceededException", firehose.stop_delivery_stream_encryption, DeliveryStreamName="kept")
    assert (state("kept"), state("born")) == ("ENABLED", "ENABLED")
done()
