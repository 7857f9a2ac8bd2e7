// Types of Firehose's Lambda functions. They have the names and shapes that authors of such functions know.

import type { Plugin } from "./index.js";

export interface FirehoseTransformationEvent {
  /** The same for every attempt at this chunk. */
  invocationId: string;
  deliveryStreamArn: string;
  sourceKinesisStreamArn?: string;
  region: string;
  records: FirehoseTransformationEventRecord[];
}

export interface FirehoseTransformationEventRecord {
  recordId: string;
  /** Milliseconds since the epoch. */
  approximateArrivalTimestamp: number;
  /** Base64. */
  data: string;
  /** Never there: records come from no Kinesis stream. */
  kinesisRecordMetadata?: {
    shardId: string;
    partitionKey: string;
    approximateArrivalTimestamp: number;
    sequenceNumber: string;
    subsequenceNumber: string;
  };
}

export type FirehoseRecordTransformationStatus = "Ok" | "Dropped" | "ProcessingFailed";

export interface FirehoseTransformationMetadata {
  /** They become the row's partition values. */
  partitionKeys: { [name: string]: string };
}

export interface FirehoseTransformationResultRecord {
  recordId: string;
  result: FirehoseRecordTransformationStatus;
  /** Base64; wanted where the result is `Ok`. */
  data?: string;
  metadata?: FirehoseTransformationMetadata;
}

export interface FirehoseTransformationResult {
  records: FirehoseTransformationResultRecord[];
}

export interface Context {
  callbackWaitsForEmptyEventLoop: boolean;
  functionName: string;
  functionVersion: string;
  invokedFunctionArn: string;
  memoryLimitInMB: string;
  /** The event's `invocationId`. */
  awsRequestId: string;
  logGroupName: string;
  logStreamName: string;
  /** Always the same: there is no clock. */
  getRemainingTimeInMillis(): number;
  done(error?: Error | string | null, result?: any): void;
  fail(error: Error | string): void;
  succeed(result: any): void;
}

export type Callback<Result = any> = (error?: Error | string | null, result?: Result) => void;
export type Handler<Event = any, Result = any> = (event: Event, context: Context, callback: Callback<Result>) => void | Promise<Result>;
export type FirehoseTransformationHandler = Handler<FirehoseTransformationEvent, FirehoseTransformationResult>;

/** A plugin that may wait in `process`: tests wait for it. */
export interface WaitingPlugin extends Plugin {
  readonly waits: true;
}

type Answer = FirehoseTransformationResult | null | undefined | void;
type LambdaFunction = (event: FirehoseTransformationEvent, context: Context, callback: Callback<FirehoseTransformationResult>) => Answer | Promise<Answer>;

/** The plugin that a function is, or the module that exports it as `handler`. */
export function lambda(handler: LambdaFunction | { readonly handler: LambdaFunction }): WaitingPlugin;

declare global {
  /** Of Node's, what is there. */
  interface Buffer extends Uint8Array {
    toString(encoding?: string, start?: number, end?: number): string;
    equals(other: Uint8Array): boolean;
  }
  interface BufferConstructor {
    from(text: string, encoding?: string): Buffer;
    from(bytes: ArrayBuffer | ArrayLike<number>): Buffer;
    alloc(size: number, fill?: string | number): Buffer;
    concat(list: readonly Uint8Array[], length?: number): Buffer;
    isBuffer(value: unknown): value is Buffer;
    byteLength(value: string | Uint8Array, encoding?: string): number;
  }
  interface Console {
    debug(...parts: any[]): void;
    log(...parts: any[]): void;
    info(...parts: any[]): void;
    warn(...parts: any[]): void;
    error(...parts: any[]): void;
  }
  var Buffer: BufferConstructor;
  var console: Console;
}
