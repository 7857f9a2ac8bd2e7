// Lambda functions of Amazon Data Firehose as plugins: a chunk is an invocation. Event and answer are those of "Transform
// source data in Amazon Data Firehose" in its developer guide. Everything in an event comes from the chunk, so that a
// chunk that is run again gives the function the same.
//
// A module of its own, since it makes what functions expect of Node: other plugins do without.

import "./node.js";
import { decodeBase64, encodeBase64 } from "./base64.js";
import { readConfig } from "./config.js";
import { BadRecord, described } from "./fault.js";
import { Stuck, waited } from "./promise.js";

/** What Firehose lets a function run at most. There is no clock: it never becomes less. */
const REMAINING_MS = 300_000;
const MEMORY_MB = "64";

const MISSING = "Lambda.MissingRecordId: the function answered nothing with the recordId of this record";
const DUPLICATED = "Lambda.DuplicatedRecordId: the function answered more than once with the recordId of this record";
const PROCESSING_FAILED = "Lambda.ProcessingFailedStatus: ProcessingFailed status set for record";
const NO_DATA = "Lambda.JsonProcessingException: The data field cannot be null when the SourceType is DirectPut";
const NO_RESULT = "Lambda.JsonProcessingException: result is none of Ok, Dropped and ProcessingFailed";
const NO_BASE64 = "Lambda.JsonProcessingException: data is not base64";
const NO_KEYS = "Lambda.JsonProcessingException: metadata.partitionKeys is not an object of texts";
const FUNCTION_ERROR = "Lambda.FunctionError: ";

/**
 * The plugin that a function `handler(event, context, callback)` is, or the module that exports one as `handler`. What
 * it promises is waited for within the call.
 */
export function lambda(handler) {
  const call = typeof handler === "function" ? handler : (handler?.handler ?? handler?.default?.handler);
  if (typeof call !== "function") {
    throw new TypeError("lambda takes a function handler(event, context, callback), or the module that exports it as `handler`");
  }
  return { configure, process: (rows, settings) => process(call, rows, settings), waits: true };
}

function configure(config) {
  const given = readConfig(config, { stream_arn: "", region: "", function_name: "function" });
  const region = given.region || given.stream_arn.split(":")[3] || "us-east-1";
  const arn = given.stream_arn || `arn:aws:firehose:${region}:000000000000:deliverystream/unknown`;
  return { arn, region, name: given.function_name };
}

function process(call, rows, settings) {
  if (rows.length === 0) return undefined;
  const event = eventOf(rows, settings);
  // The function may do with its event what it likes.
  const ids = event.records.map(({ recordId }) => recordId);
  const failed = (error) => {
    throw new BadRecord(FUNCTION_ERROR + described(error));
  };
  let answer;
  try {
    answer = invoked(call, event, contextOf(event.invocationId, settings));
  } catch (error) {
    failed(error);
  }
  if (typeof answer?.then !== "function") return apply(rows, ids, answer);
  try {
    return waited(answer.then((answer) => apply(rows, ids, answer), failed));
  } catch (error) {
    if (error instanceof Stuck) failed(error);
    throw error;
  }
}

const hex = (number) => BigInt.asUintN(64, number).toString(16).padStart(16, "0");

function eventOf(rows, { arn, region }) {
  const [offsets, times, payloads] = [rows.offsets(), rows.arrivalTimes(), rows.payloads()];
  const number = hex(BigInt(rows.seed)) + hex(offsets[0]);
  const records = new Array(rows.length);
  for (let row = 0; row < records.length; row++) {
    records[row] = {
      // Rows that were derived share an offset.
      recordId: BigInt.asUintN(64, offsets[row]).toString().padStart(20, "0") + String(row).padStart(10, "0"),
      approximateArrivalTimestamp: Number(times[row] / 1_000_000n),
      data: encodeBase64(payloads.bytes(row)),
    };
  }
  return { invocationId: number.replace(/^(.{8})(.{4})(.{4})(.{4})/, "$1-$2-$3-$4-"), deliveryStreamArn: arn, region, records };
}

function contextOf(awsRequestId, { name, region }) {
  return {
    awsRequestId,
    functionName: name,
    functionVersion: "$LATEST",
    invokedFunctionArn: `arn:aws:lambda:${region}:000000000000:function:${name}`,
    memoryLimitInMB: MEMORY_MB,
    logGroupName: `/aws/lambda/${name}`,
    logStreamName: "wasmill",
    callbackWaitsForEmptyEventLoop: true,
    /** Always the five minutes that Firehose gives a function; the transform's deadline is what ends a call. */
    getRemainingTimeInMillis: () => REMAINING_MS,
  };
}

/** What the function returns, promises, or hands to its callback, whichever comes first. */
function invoked(call, event, context) {
  let settled;
  let settle;
  const callback = (error, answer) => {
    settled ??= error === null || error === undefined ? { answer } : { error };
    settle?.();
  };
  context.done = callback;
  context.succeed = (answer) => callback(null, answer);
  context.fail = (error) => callback(error ?? new Error("context.fail was called"));
  const returned = call(event, context, callback);
  if (typeof returned?.then === "function") return returned;
  const ended = () => {
    if ("error" in settled) throw settled.error;
    return settled.answer;
  };
  if (settled !== undefined) return ended();
  // A function that takes no callback has said all that it will.
  if (returned !== undefined || call.length < 3) return returned;
  return new Promise((resolve) => (settle = resolve)).then(ended);
}

function apply(rows, ids, answer) {
  const results = resultsOf(answer);
  const payloads = new Array(rows.length);
  const keep = new Uint8Array(rows.length).fill(1);
  const partitions = new Map();
  for (let row = 0; row < rows.length; row++) {
    const made = madeOf(results.get(ids[row]) ?? []);
    if (typeof made === "string") {
      rows.fail(row, made);
    } else if (made === null) {
      keep[row] = 0;
    } else {
      payloads[row] = made.payload;
      for (const [name, value] of Object.entries(made.keys)) {
        if (!partitions.has(name)) partitions.set(name, new Array(rows.length));
        partitions.get(name)[row] = value;
      }
    }
  }
  rows.setPayloads(payloads);
  rows.keep(keep);
  for (const [name, values] of partitions) rows.partition(name, values);
}

/** What was answered, by recordId. Whatever has none answers nothing. */
function resultsOf(answer) {
  const found = new Map();
  if (!Array.isArray(answer?.records)) return found;
  for (const result of answer.records) {
    if (typeof result?.recordId !== "string") continue;
    if (!found.has(result.recordId)) found.set(result.recordId, []);
    found.get(result.recordId).push(result);
  }
  return found;
}

/** The new payload and its partition keys; null drops the record, and a text is why it fails. */
function madeOf(results) {
  if (results.length !== 1) return results.length === 0 ? MISSING : DUPLICATED;
  const [{ result, data, metadata }] = results;
  if (result === "Dropped") return null;
  if (result === "ProcessingFailed") return PROCESSING_FAILED;
  if (result !== "Ok") return NO_RESULT;
  if (data === undefined || data === null) return NO_DATA;
  const payload = typeof data === "string" ? decodeBase64(data) : undefined;
  if (payload === undefined) return NO_BASE64;
  const keys = keysOf(metadata);
  return keys === undefined ? NO_KEYS : { payload, keys };
}

function keysOf(metadata) {
  if (metadata === undefined || metadata === null) return {};
  if (typeof metadata !== "object") return undefined;
  const keys = metadata.partitionKeys ?? {};
  if (typeof keys !== "object" || Array.isArray(keys)) return undefined;
  return Object.values(keys).every((value) => typeof value === "string") ? keys : undefined;
}
