"use strict";
// A function as most are: decode, change, encode. Nothing in it knows of Wasmill.

const lookUp = async (country) => ({ de: "Germany", fr: "France" })[country];

exports.handler = async (event, context) => {
  console.log(`${context.functionName} got ${event.records.length} records of ${event.deliveryStreamArn}`);
  const records = await Promise.all(
    event.records.map(async (record) => {
      const { recordId, data } = record;
      let payload;
      try {
        payload = JSON.parse(Buffer.from(data, "base64").toString("utf8"));
      } catch {
        return { recordId, result: "ProcessingFailed", data };
      }
      if (payload.internal) return { recordId, result: "Dropped", data };
      payload.country = (await lookUp(payload.country)) ?? "elsewhere";
      payload.mode = process.env.MODE ?? "plain";
      return {
        recordId,
        result: "Ok",
        data: Buffer.from(`${JSON.stringify(payload)}\n`).toString("base64"),
        metadata: { partitionKeys: { country: payload.country } },
      };
    }),
  );
  return { records };
};
