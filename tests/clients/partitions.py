"""A delivery stream of thousands of partitions, by Amazon Data Firehose's own client.

ENDPOINT and AWS's own variables come from the environment. The argument says what to do: `create` makes the stream `orders`;
`put FROM TO CUSTOMERS` puts the records of these numbers, which belong to so many customers in turn.
"""

import json
import sys

from api import bucket, client, done, function, hints, processors, put, query

firehose = client()

if sys.argv[1] == "create":
    firehose.create_delivery_stream(
        DeliveryStreamName="orders",
        ExtendedS3DestinationConfiguration=bucket(
            Prefix="orders/!{partitionKeyFromLambda:area}/!{partitionKeyFromQuery:customer}/",
            ErrorOutputPrefix="bad/!{firehose:error-output-type}/",
            # Nothing is due before the end.
            BufferingHints=hints(64, 900),
            DynamicPartitioningConfiguration={"Enabled": True},
            ProcessingConfiguration=processors(function("clean"), query("{customer:.customer}")),
        ),
    )
else:
    first, last, customers = map(int, sys.argv[2:])
    areas = ("north", "east", "south", "west")
    numbers = range(first, last)
    records = [{"n": n, "customer": f"c{n % customers}", "area": areas[n % customers % 4]} for n in numbers]
    put(firehose, "orders", [json.dumps(record).encode() for record in records])
done()
