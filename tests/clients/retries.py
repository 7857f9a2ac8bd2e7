"""Amazon Data Firehose's own client where it puts too much: it waits and sends again by itself, in both of its modes.

ENDPOINT, SLOW (the pair of a tenant that may put five records a second) and AWS's own variables come from the environment.
"""

from botocore.exceptions import ClientError

from api import bucket, client, done, hints, of, refused

once = client(**of("SLOW"))
once.create_delivery_stream(
    DeliveryStreamName="slow", S3DestinationConfiguration=bucket(Prefix="slow/", BufferingHints=hints(1, 900))
)


def drain():
    """Takes what there is of the quota: how many were stored, as it is told entry by entry."""
    try:
        stored = once.put_record_batch(DeliveryStreamName="slow", Records=[{"Data": b"drained\n"}] * 100)
    except ClientError as error:
        # There is nothing at all.
        slow_down(error)
        return 0
    failed = [entry for entry in stored["RequestResponses"] if "ErrorCode" in entry]
    assert {entry["ErrorCode"] for entry in failed} == {"ServiceUnavailableException"}, failed
    assert stored["FailedPutCount"] == len(failed), stored
    return 100 - len(failed)


def slow_down(error):
    told = error.response["Error"]
    assert told["Code"] == "ServiceUnavailableException" and told["Message"].startswith("Slow down."), told


drained, counts = 0, {"once": 0, "standard": 0, "legacy": 0}


def until(mode, firehose, is_done):
    """Puts until a put was too much. The quota fills up again while a machine is busy: as often as it takes."""
    global drained
    for _ in range(20):
        drained += drain()
        if is_done(firehose, {"DeliveryStreamName": "slow", "Record": {"Data": mode.encode() + b"\n"}}):
            return
        counts[mode] += 1
    raise AssertionError(f"no put was ever too much: {mode}")


def is_refused(firehose, put):
    try:
        firehose.put_record(**put)
    except ClientError as error:
        slow_down(error)
        return True
    return False


def is_repeated(firehose, put):
    stored = firehose.put_record(**put)
    assert stored["RecordId"], stored
    return stored["ResponseMetadata"]["RetryAttempts"] > 0


# Without tries of its own it is told so.
until("once", once, is_refused)
for mode in ("standard", "legacy"):
    until(mode, client(retries={"mode": mode, "max_attempts": 12}, **of("SLOW")), is_repeated)
    # The last one was stored, too.
    counts[mode] += 1

# Nothing that another try would mend is tried again.
for pair, code in [
    ({**of("SLOW"), "aws_secret_access_key": "x" * 40}, "InvalidSignatureException"),
    ({"aws_access_key_id": "nobody", "aws_secret_access_key": "x" * 40}, "UnrecognizedClientException"),
]:
    patient = client(retries={"mode": "standard", "max_attempts": 12}, **pair)
    sent = []
    patient.meta.events.register("before-send.firehose.*", lambda **_told: sent.append(1))
    refused(code, patient.list_delivery_streams)
    assert len(sent) == 1, (code, sent)

print("stored", drained, *counts.values())
done()
