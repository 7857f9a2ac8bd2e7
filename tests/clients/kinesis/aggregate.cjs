// Records as the Kinesis Producer Library aggregates them, by Amazon's own library. Reads texts from standard input, one a
// line; prints one aggregate of each `size` of them, as base64, one a line.

const { RecordAggregator } = require("aws-kinesis-agg");

const size = Number(process.argv[2]);
const texts = require("node:fs").readFileSync(0, "utf8").split("\n").filter(Boolean);
const aggregator = new RecordAggregator();
texts.forEach((text, index) => {
  aggregator.addUserRecord({ partitionKey: text.slice(0, 6), data: Buffer.from(text) });
  if ((index + 1) % size === 0 || index + 1 === texts.length) {
    console.log(aggregator.build().data.toString("base64"));
  }
});
