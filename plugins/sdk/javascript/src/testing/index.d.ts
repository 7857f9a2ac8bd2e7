// Types of the test kit.

import type { Plugin } from "../index.js";
import type { WaitingPlugin } from "../lambda.js";

/** A row that left. */
export interface Row {
  /** Offset of the record that it came from; -1 for fresh rows. */
  offset: number;
  /** Position among the rows of its record. */
  child: number;
  /** Name of the output. */
  output: string;
  key: string | undefined;
  attributes: Record<string, string>;
  partition: Record<string, string>;
  payload: string;
}

export interface Outcome {
  /** The payloads that left. */
  rows: string[];
  emitted: Row[];
  failed: { row: number; reason: string }[];
  dropped: number;
  log: { level: "debug" | "info" | "warn" | "error"; message: string }[];
}

export interface Options {
  files?: Record<string, string | Uint8Array>;
  secrets?: Record<string, string>;
  /** Outputs behind the default one. */
  outputs?: string[];
  /** How many rows a chunk has [default: 500]. */
  chunkRows?: number;
  /** Configures anew for each chunk. */
  fresh?: boolean;
}

/** Arrival of the first record in nanoseconds; each arrives a millisecond after the one before. */
export declare const ARRIVAL: bigint;
/** Runs records through a plugin. A refused config is thrown as a `Refusal`. Of a Lambda function it is a promise. */
export function run(plugin: WaitingPlugin, config: unknown, records: readonly (string | Uint8Array)[], options?: Options): Promise<Outcome>;
export function run(plugin: Plugin, config: unknown, records: readonly (string | Uint8Array)[], options?: Options): Outcome;
/** Why `configure` refuses this config. Throws where it does not. */
export function refusal(plugin: Plugin, config: unknown, options?: Options): string;
/** Runs every case folder below `folder` and throws with all differences; `BLESS=1` writes what came. */
export function cases(plugin: WaitingPlugin, folder: string | URL): Promise<void>;
export function cases(plugin: Plugin, folder: string | URL): void;
export declare class Refusal extends Error {}
