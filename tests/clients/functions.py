"""A Lambda function behind a delivery stream, told by Amazon Data Firehose's own client.

ENDPOINT and AWS's own variables come from the environment. The plugin `clean` answers what a record's field `answer` says.
"""

import json

from api import bucket, client, described, done, function, hints, processors, put, refused

firehose = client()


def destination(*each):
    return bucket(
        Prefix="cleaned/!{partitionKeyFromLambda:area}/",
        ErrorOutputPrefix="bad/!{firehose:error-output-type}/",
        BufferingHints=hints(64, 900),
        DynamicPartitioningConfiguration={"Enabled": True},
        ProcessingConfiguration=processors(*each),
    )


firehose.create_delivery_stream(
    DeliveryStreamName="cleaned", ExtendedS3DestinationConfiguration=destination(function("clean"))
)
shown = described(firehose, "cleaned")["Destinations"][0]["ExtendedS3DestinationDescription"]
[processor] = shown["ProcessingConfiguration"]["Processors"]
told = {parameter["ParameterName"]: parameter["ParameterValue"] for parameter in processor["Parameters"]}
assert told["LambdaArn"].endswith(":function:clean:$LATEST") and told["NumberOfRetries"] == "3", told

message = refused(
    "InvalidArgumentException",
    firehose.create_delivery_stream,
    DeliveryStreamName="nowhere",
    ExtendedS3DestinationConfiguration=destination(function("absent")),
)
assert "absent" in message, message
# Keys of a function need one.
refused(
    "InvalidArgumentException",
    firehose.create_delivery_stream,
    DeliveryStreamName="without",
    ExtendedS3DestinationConfiguration=destination(("AppendDelimiterToRecord", {})),
)

records = [{"area": "north" if n % 2 else "south/east"} for n in range(20)]
records += [{"answer": answer} for answer in ("Dropped", "ProcessingFailed", "nothing", "twice", "surprise")]
# A failure does not take its neighbours with it.
records += [{"area": "north"} for _ in range(5)]
records = [json.dumps({"n": n, **record}).encode() for n, record in enumerate(records)]
put(firehose, "cleaned", records + [b"no object"])
done()
