// A test kit for plugins: records in, rows and verdicts out, on a chunk in memory. For node:test or any other runner.
//
// As on the host, an exception of `process` costs one record: the chunk is run again record by record, each time
// configured anew. `cases` runs a folder of cases three ways (at once, anew for every chunk, cut to single records) and
// compares.

import { Setup } from "../chunk.js";
import { check, run as runCall, told } from "../guest.js";
import { setLog } from "../log.js";
import { Chain } from "./chunk.js";
import { driven } from "./driven.js";

export { cases } from "./case.js";

/** Arrival of the first record: 2026-11-22T00:00:00Z in nanoseconds. Each arrives a millisecond after the one before. */
export const ARRIVAL = 1_795_305_600_000_000_000n;
const ARRIVAL_STEP = 1_000_000n;
const SEED = 0x9e3779b97f4a7c15n;
const LOG_LINES = 1000;

const utf8 = (text) => Buffer.from(text, "utf8").toString("latin1");
const shown = (text) => Buffer.from(text, "latin1").toString("utf8");
const bytesOf = (record) => (typeof record === "string" ? utf8(record) : Buffer.from(record).toString("latin1"));

/** A plugin that was configured, and the fields that it declared. */
class Configured {
  constructor(plugin, config, { files = {}, secrets = {}, outputs = [] }) {
    this.fields = [];
    this.outputs = ["default", ...outputs];
    const granted = (kind, all, name) => {
      if (!Object.hasOwn(all, name)) throw new Error(`no ${kind} ${JSON.stringify(name)} is granted`);
      return all[name];
    };
    const setup = new Setup({
      field: (path) => {
        const key = path.map(utf8);
        const same = this.fields.findIndex((known) => JSON.stringify(known) === JSON.stringify(key));
        return same >= 0 ? same : this.fields.push(key) - 1;
      },
      output: (name) => {
        const number = this.outputs.indexOf(name);
        if (number < 0) throw new Error(`there is no output ${JSON.stringify(name)}`);
        return number;
      },
      secret: (name) => granted("secret", secrets, name),
      file: (name, offset, length) => {
        const content = Buffer.from(granted("file", files, name));
        return new Uint8Array(content.subarray(Number(offset), Number(offset) + length));
      },
    });
    told(() => check(plugin));
    try {
      // A copy, as on the host: what a plugin changes in its config is not seen by the next.
      this.state = told(() => plugin.configure(structuredClone(config), setup));
    } finally {
      setup.close();
    }
    this.plugin = plugin;
  }

  /** What became of these records, the first of which has the offset `first`; a promise where the plugin waits. */
  chunk(records, first) {
    const chain = new Chain({
      payloads: records.map(bytesOf),
      offset: BigInt(first),
      time: ARRIVAL + BigInt(first) * ARRIVAL_STEP,
      deltas: records.map((_, row) => BigInt(row) * ARRIVAL_STEP),
    });
    const raw = chain.enter(this.fields, { outputs: this.outputs.length, seed: SEED ^ BigInt(first) });
    const finish = () => {
      chain.apply();
      return chain.finish();
    };
    const ended = told(() => runCall(this.plugin, raw, chain.imports, this.state));
    return ended === undefined ? finish() : ended.then(finish);
  }
}

/**
 * Runs records (strings or bytes) through a plugin. `options`: `files`, `secrets` and `outputs` that are granted,
 * `chunkRows` (500), `fresh` to configure anew for each chunk. A refused config is thrown. Of a plugin that waits it is a
 * promise.
 */
export function run(plugin, config, records, options = {}) {
  return driven(plugin, runs(plugin, config, records, options));
}

function* runs(plugin, config, records, options) {
  const { chunkRows = 500, fresh = false } = options;
  const logged = [];
  setLog((level, message) => logged.length < LOG_LINES && logged.push({ level, message }));
  let configured = configure(plugin, config, options);
  const outcome = { rows: [], emitted: [], failed: [], dropped: 0, log: logged };
  const take = function* (chunk, first) {
    let result;
    try {
      result = yield configured.chunk(chunk, first);
    } catch (reason) {
      if (typeof reason !== "string") throw reason;
      if (chunk.length === 1) {
        outcome.failed.push({ row: first, reason });
        return;
      }
      for (const [row, record] of chunk.entries()) {
        configured = configure(plugin, config, options);
        yield* take([record], first + row);
      }
      return;
    }
    for (const { row, reason } of result.failed) {
      if (row !== "fresh") outcome.failed.push({ row: first + row, reason });
    }
    for (const row of result.rows) outcome.emitted.push(left(row, configured.outputs));
    outcome.dropped += result.dropped;
  };
  for (let first = 0; first < records.length; first += chunkRows) {
    if (fresh && first > 0) configured = configure(plugin, config, options);
    yield* take(records.slice(first, first + chunkRows), first);
  }
  outcome.failed.sort((a, b) => a.row - b.row);
  outcome.rows = outcome.emitted.map(({ payload }) => payload);
  return outcome;
}

function configure(plugin, config, options) {
  try {
    return new Configured(plugin, config, options);
  } catch (reason) {
    throw typeof reason === "string" ? new Refusal(reason) : reason;
  }
}

/** `configure` refused its config. */
export class Refusal extends Error {}

/** Why `configure` refuses this config. Throws where it does not. */
export function refusal(plugin, config, options = {}) {
  try {
    configure(plugin, config, options);
  } catch (error) {
    if (error instanceof Refusal) return error.message;
    throw error;
  }
  throw new Error(`the plugin accepted the config ${JSON.stringify(config)}`);
}

function left(row, outputs) {
  return {
    offset: Number(row.offset),
    child: row.child,
    output: outputs[row.route],
    key: row.key === undefined ? undefined : shown(row.key),
    attributes: Object.fromEntries([...row.attributes].map(([name, value]) => [name, shown(value)])),
    partition: Object.fromEntries([...row.partition].map(([name, value]) => [name, shown(value)])),
    payload: shown(row.payload),
  };
}
