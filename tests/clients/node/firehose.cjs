// AWS's SDK for JavaScript against a Wasmill host.
//
// What a host is started with comes from the environment: ENDPOINT, OTHER and SLOW (pairs of other tenants), and AWS's own
// variables. Each check says what it is about; the first that fails ends the program with its text.

const assert = require("node:assert/strict");
const firehose = require("@aws-sdk/client-firehose");

const { ENDPOINT, OTHER, SLOW } = process.env;

function client(pair, more = {}) {
  const credentials = {
    accessKeyId: pair.aws_access_key_id,
    secretAccessKey: pair.aws_secret_access_key,
  };
  const sdk = new firehose.FirehoseClient({ endpoint: ENDPOINT, region: "eu-west-1", credentials, ...more });
  // As `call("PutRecord", {...})`.
  return (operation, input) => sdk.send(new firehose[`${operation}Command`](input));
}

async function refused(name, call) {
  try {
    await call;
  } catch (error) {
    assert.equal(error.name, name, `${error}`);
    return error;
  }
  throw new Error(`expected ${name}`);
}

const bytes = (text) => new TextEncoder().encode(text);
const bucket = (more = {}) => ({
  RoleARN: "arn:aws:iam::123456789012:role/any",
  BucketARN: "arn:aws:s3:::lake",
  BufferingHints: { SizeInMBs: 1, IntervalInSeconds: 1 },
  ...more,
});

async function main() {
  const call = client(JSON.parse(OTHER), { maxAttempts: 1 });

  // Create, describe, list in pages.
  for (const name of ["clicks", "clicks.again", "orders"]) {
    const made = await call("CreateDeliveryStream", {
      DeliveryStreamName: name,
      ExtendedS3DestinationConfiguration: bucket(),
      Tags: [{ Key: "team", Value: "web" }],
    });
    assert.equal(made.DeliveryStreamARN, `arn:aws:firehose:eu-west-1:123456789012:deliverystream/${name}`);
  }
  const seen = [];
  let start;
  for (;;) {
    const page = await call("ListDeliveryStreams", { Limit: 1, ExclusiveStartDeliveryStreamName: start });
    seen.push(...page.DeliveryStreamNames);
    if (!page.HasMoreDeliveryStreams) break;
    start = page.DeliveryStreamNames.at(-1);
  }
  assert.deepEqual(seen, ["clicks", "clicks.again", "orders"]);
  const described = async (name) =>
    (await call("DescribeDeliveryStream", { DeliveryStreamName: name })).DeliveryStreamDescription;
  const first = await described("clicks");
  assert.equal(first.DeliveryStreamStatus, "ACTIVE");
  assert.ok(first.CreateTimestamp instanceof Date && Number.isFinite(first.CreateTimestamp.getTime()));

  // Puts.
  const stored = await call("PutRecord", { DeliveryStreamName: "clicks", Record: { Data: bytes("0\n") } });
  assert.ok(stored.RecordId);
  const records = Array.from({ length: 499 }, (_, n) => ({ Data: bytes(`${n + 1}\n`) }));
  const batch = await call("PutRecordBatch", { DeliveryStreamName: "clicks", Records: records });
  assert.equal(batch.FailedPutCount, 0);
  assert.equal(batch.RequestResponses.length, 499);
  await refused(
    "ResourceNotFoundException",
    call("PutRecord", { DeliveryStreamName: "nowhere", Record: { Data: bytes("x") } }),
  );

  // Update, by version.
  const update = {
    DeliveryStreamName: "clicks",
    CurrentDeliveryStreamVersionId: first.VersionId,
    DestinationId: first.Destinations[0].DestinationId,
    ExtendedS3DestinationUpdate: { CompressionFormat: "GZIP" },
  };
  await call("UpdateDestination", update);
  await refused("ConcurrentModificationException", call("UpdateDestination", update));
  const second = await described("clicks");
  assert.equal(second.VersionId, "2");
  assert.equal(second.Destinations[0].ExtendedS3DestinationDescription.CompressionFormat, "GZIP");

  // Tags and removal.
  await call("TagDeliveryStream", { DeliveryStreamName: "clicks", Tags: [{ Key: "env", Value: "prod" }] });
  const tags = await call("ListTagsForDeliveryStream", { DeliveryStreamName: "clicks" });
  assert.deepEqual(tags.Tags, [
    { Key: "env", Value: "prod" },
    { Key: "team", Value: "web" },
  ]);
  await call("DeleteDeliveryStream", { DeliveryStreamName: "orders" });
  await refused("ResourceNotFoundException", call("DescribeDeliveryStream", { DeliveryStreamName: "orders" }));

  // Over a quota of five records a second: a batch is stored in part, and a record comes again by itself.
  const slow = client(JSON.parse(SLOW), { maxAttempts: 12 });
  await slow("CreateDeliveryStream", { DeliveryStreamName: "slow", S3DestinationConfiguration: bucket() });
  let attempts = 1;
  for (let round = 0; round < 20 && attempts === 1; round += 1) {
    const part = await slow("PutRecordBatch", { DeliveryStreamName: "slow", Records: records.slice(0, 100) });
    const failed = part.RequestResponses.filter((entry) => entry.ErrorCode);
    assert.equal(part.FailedPutCount, failed.length);
    assert.ok(failed.length > 0 && failed.every((entry) => entry.ErrorCode === "ServiceUnavailableException"));
    const alone = await slow("PutRecord", { DeliveryStreamName: "slow", Record: { Data: bytes("x") } });
    attempts = alone.$metadata.attempts;
  }
  assert.ok(attempts > 1, "no put was ever too much");

  // Pairs that are none.
  const wrong = client({ ...JSON.parse(OTHER), aws_secret_access_key: "x".repeat(40) });
  const error = await refused("InvalidSignatureException", wrong("ListDeliveryStreams", {}));
  assert.equal(error.$metadata.httpStatusCode, 400);
  const nobody = client({ aws_access_key_id: "nobodyhas1it", aws_secret_access_key: "x".repeat(40) });
  await refused("UnrecognizedClientException", nobody("ListDeliveryStreams", {}));
  console.log("all is as expected");
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
