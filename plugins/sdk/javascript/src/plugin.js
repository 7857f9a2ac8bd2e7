// The two ways to write a plugin. Both become one thing with `configure` and `process`, which guest.js runs in a
// host and testing/ without one.

import { isUtf8 } from "./text.js";

/** A plugin over whole columns: `configure(config, setup)` returns what `process(rows, state)` gets. */
export function byColumn(plugin) {
  return { configure: plugin.configure ?? (() => undefined), process: demand(plugin, "process") };
}

/**
 * A plugin over one record at a time: `record(record, meta, state)` returns the new record, `undefined` or `null` to
 * drop it, or an array of records to put in its place. An exception fails that record alone.
 */
export function byRecord(plugin) {
  demand(plugin, "record");
  return {
    configure: plugin.configure ?? (() => undefined),
    process: (rows, state) => eachRecord(plugin, rows, state),
  };
}

function demand(plugin, name) {
  if (typeof plugin?.[name] !== "function") throw new TypeError(`a plugin needs a function ${name}`);
  return plugin[name].bind(plugin);
}

/** What is known of a record besides its payload; `_columns` is what all of a chunk have in common. */
class Meta {
  constructor(rows, columns, row) {
    this.row = row;
    this._rows = rows;
    this._columns = columns;
  }

  get offset() {
    return Number((this._columns.offsets ??= this._rows.offsets())[this.row]);
  }

  get arrivalTime() {
    return (this._columns.times ??= this._rows.arrivalTimes())[this.row];
  }

  get arrivalMs() {
    return Number(this.arrivalTime / 1_000_000n);
  }

  get key() {
    return (this._columns.keys ??= this._rows.keys()).get(this.row);
  }

  attribute(name) {
    const attributes = (this._columns.attributes ??= new Map());
    if (!attributes.has(name)) attributes.set(name, this._rows.attributes(name));
    return attributes.get(name).get(this.row);
  }
}

function eachRecord(plugin, rows, state) {
  const payloads = rows.payloads();
  const made = new Array(rows.length);
  const keep = new Uint8Array(rows.length).fill(1);
  const [sources, children] = [[], []];
  const columns = {};
  let dropped = false;
  for (let row = 0; row < rows.length; row++) {
    try {
      const text = payloads.get(row);
      const record = parsed(text, payloads, row);
      const result = plugin.record(record, new Meta(rows, columns, row), state);
      if (result === undefined || result === null) {
        keep[row] = 0;
        dropped = true;
      } else if (Array.isArray(result) && result !== record) {
        const texts = result.map(written);
        // Without a child the record is dropped; with one it is replaced.
        if (texts.length === 0) [keep[row], dropped] = [0, true];
        for (const child of texts) {
          sources.push(row);
          children.push(child);
        }
      } else {
        const json = written(result);
        if (json !== text) made[row] = json;
      }
    } catch (error) {
      rows.fail(row, error);
    }
  }
  rows.setPayloads(made);
  if (dropped) rows.keep(keep);
  if (sources.length > 0) {
    const derived = rows.derive(sources);
    derived.setPayloads(children);
    rows.emit(derived);
  }
}

/** The payload as a value; what is no JSON in UTF-8 is an error of the record, not of the plugin. */
function parsed(text, payloads, row) {
  if (text.includes("\ufffd") && !isUtf8(payloads.bytes(row))) throw new NoJson("payload: not UTF-8");
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new NoJson(`payload: ${error.message}`);
  }
}

class NoJson extends Error {
  constructor(message) {
    super(message);
    this.stack = "";
  }
}

function written(record) {
  if (typeof record?.then === "function") throw new TypeError("record returned a promise: plugins cannot wait");
  const json = JSON.stringify(record);
  if (json === undefined) throw new TypeError(`record returned a ${typeof record}, which has no JSON`);
  return json;
}
