// Connects a plugin to its host: what a build puts around the author's module. Every exception becomes a text, since
// engines lose the message of anything else at this border.

import { Call, Chunk, Setup } from "./chunk.js";
import { BadConfig } from "./config.js";
import { described, setTable } from "./fault.js";
import { setLog } from "./log.js";
import { AtRow } from "./read.js";
import { generator } from "./random.js";

/** The export `transform` of the world. `host` has the imports `records`, `setup` and `log`; `table` says where lines came from. */
export function guest(plugin, host, table) {
  setTable(table);
  connectLog(host.log);
  let state;
  return {
    configure(text) {
      check(plugin);
      const setup = new Setup(host.setup);
      try {
        state = told(() => settled(plugin.configure(text === "" ? {} : JSON.parse(text), setup), "configure"));
      } finally {
        setup.close();
      }
    },
    process(raw) {
      return told(() => run(plugin, raw, host.records, state));
    },
  };
}

/**
 * One call over the rows of `raw`; the reasons of failed rows are handed on at its end. Also what tests run. Of a plugin
 * that `waits` it may be a promise, which the engine sees to its end before the call returns.
 */
export function run(plugin, raw, records, state) {
  const call = new Call(records);
  const rows = new Chunk(raw, call);
  const random = Math.random;
  Math.random = generator(rows.seed);
  const failed = (error) => {
    // By its offset: rows have other numbers in every other chunk.
    if (error instanceof AtRow) error.where = `offset ${raw.offsets()[error.row]}`;
    throw error;
  };
  const close = () => {
    Math.random = random;
    rows.abandon();
    call.close();
  };
  let waits = false;
  try {
    const result = plugin.process(rows, state);
    waits = plugin.waits && isPromise(result);
    if (waits) return result.then(() => void rows.release()).catch(failed).finally(close);
    settled(result, "process");
    rows.release();
    return undefined;
  } catch (error) {
    return failed(error);
  } finally {
    if (!waits) close();
  }
}

const isPromise = (result) => typeof result?.then === "function";

export function check(plugin) {
  if (typeof plugin?.configure !== "function" || typeof plugin?.process !== "function") {
    throw "the plugin's module has to `export default byColumn({...})`, byRecord({...}) or lambda(handler)";
  }
}

function settled(result, what) {
  if (isPromise(result)) throw new TypeError(`${what} returned a promise: plugins cannot wait`);
  return result;
}

/** Throws nothing but strings, nor does what it promises. */
export function told(work) {
  const tell = (error) => {
    if (error instanceof BadConfig) throw error.message;
    if (error instanceof AtRow) throw described(error.error, error.where);
    throw described(error);
  };
  try {
    const result = work();
    return isPromise(result) ? result.catch(tell) : result;
  } catch (error) {
    return tell(error);
  }
}

function connectLog(log) {
  setLog((level, message) => log.write(level, message));
  const at = (level) => (...parts) => {
    const texts = parts.map((part) => (typeof part === "string" ? part : shown(part)));
    log.write(level, texts.join(" "));
  };
  globalThis.console = { debug: at("debug"), log: at("info"), info: at("info"), warn: at("warn"), error: at("error") };
}

function shown(value) {
  if (value instanceof Error) return described(value);
  try {
    return JSON.stringify(value) ?? String(value);
  } catch {
    return String(value);
  }
}
