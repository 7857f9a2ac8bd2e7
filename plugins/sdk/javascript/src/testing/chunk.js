// A chunk in memory, as `wit/plugin.wit` describes the host's: for unit tests, not for speed. Payloads and values are
// latin1 strings here, a character for each byte.

import { integer } from "../wide.js";
import { find, float, parse, quoted, remove, set, unescaped } from "./json.js";

const [MISSING, NULL, OTHER, VALUE] = [0, 1, 2, 3];

const latin1 = (bytes) => Buffer.from(bytes).toString("latin1");

/** A column of latin1 strings. */
export function columnOf(values) {
  const ends = new Uint32Array(values.length);
  let end = 0;
  values.forEach((value, row) => (ends[row] = end += value.length));
  return { data: new Uint8Array(Buffer.from(values.join(""), "latin1")), ends };
}

/** The latin1 strings of a column; a column that is none is an error, as it is a trap on the host. */
export function valuesOf({ data, ends }, rows, what) {
  if (ends.length !== rows) throw new Error(`${what}: ${ends.length} ends for ${rows} rows`);
  let from = 0;
  const values = Array.from(ends, (end) => {
    if (end < from) throw new Error(`${what}: ends fall`);
    const value = latin1(data.subarray(from, end));
    from = end;
    return value;
  });
  if (from !== data.length) throw new Error(`${what}: the last end is ${from}, but there are ${data.length} bytes`);
  return values;
}

function cellsOf({ state, values }, rows, what) {
  const texts = valuesOf(values, rows, what);
  return statesOf(state, rows, what).map((state, row) => ({ state, value: texts[row] }));
}

function statesOf(states, rows, what) {
  if (states.length !== rows) throw new Error(`${what}: ${states.length} states for ${rows} rows`);
  const bad = states.find((state) => state > VALUE);
  if (bad !== undefined) throw new Error(`${what}: ${bad} is no state`);
  return Array.from(states);
}

/** Optional latin1 strings as cells. */
function cells(values) {
  const state = Uint8Array.from(values, (value) => (value === undefined ? MISSING : VALUE));
  return { state, values: columnOf(values.map((value) => value ?? "")) };
}

/** Rows that a plugin reads and writes: the `resource chunk` of the WIT. */
class Rows {
  #chain;

  constructor(chain, rows, parents) {
    this.#chain = chain;
    this.rows = rows;
    /** For derived rows: the row of which each is a copy. */
    this.parents = parents;
    this.base = [];
    this.fields = new Map();
    this.others = new Map();
    this.marks = undefined;
    this.failures = [];
    /** Rows in whose place emitted ones leave. */
    this.replaced = new Set();
  }

  len() {
    return this.rows.length;
  }

  seed() {
    return this.#chain.seed;
  }

  offsets() {
    return BigInt64Array.from(this.rows, (row) => row.offset);
  }

  arrivalTimes() {
    return BigInt64Array.from(this.rows, (row) => row.time);
  }

  payloads() {
    return columnOf(this.rows.map((row) => row.payload));
  }

  keys() {
    return cells(this.rows.map((row) => row.key));
  }

  attributes(name) {
    return cells(this.rows.map((row) => row.attributes.get(name)));
  }

  #read(slot, take) {
    const path = this.#path(slot);
    return this.rows.map((row) => {
      const found = find(parse(row.payload), path);
      if (found === undefined) return [MISSING];
      if (found.kind === "null") return [NULL];
      const value = take(found);
      return value === undefined ? [OTHER] : [VALUE, value];
    });
  }

  #path(slot) {
    const path = this.#chain.fields[slot];
    if (path === undefined) throw new Error(`there is no field with slot ${slot}`);
    return path;
  }

  #texts(slot, take) {
    const read = this.#read(slot, take);
    return { state: Uint8Array.from(read, ([state]) => state), values: columnOf(read.map(([, value]) => value ?? "")) };
  }

  getText(slot) {
    return this.#texts(slot, ({ kind, text }) => (kind === "string" ? unescaped(text) : undefined));
  }

  getRaw(slot) {
    return this.#texts(slot, ({ text }) => text);
  }

  getFloats(slot) {
    const number = ({ kind, text }) => (kind === "number" && Number.isFinite(Number(text)) ? Number(text) : undefined);
    const read = this.#read(slot, number);
    return { state: Uint8Array.from(read, ([state]) => state), values: Float64Array.from(read, ([, value]) => value ?? 0) };
  }

  getInts(slot) {
    const read = this.#read(slot, ({ kind, text }) => (kind === "number" ? integer(text) : undefined));
    return { state: Uint8Array.from(read, ([state]) => state), values: BigInt64Array.from(read, ([, value]) => value ?? 0n) };
  }

  getStrings(slot) {
    const read = this.#read(slot, ({ kind, text }) => (kind === "string" ? unescaped(text) : undefined));
    return read.map(([, value]) => (value === undefined ? undefined : Buffer.from(value, "latin1").toString("utf8")));
  }

  setPayloads(values) {
    const given = cellsOf(values, this.len(), "set-payloads");
    const bad = given.find(({ state }) => state === NULL || state === OTHER);
    if (bad !== undefined) throw new Error(`set-payloads: ${bad.state} is no state here`);
    this.#stageBase("payloads", given.map(({ state, value }) => (state === VALUE ? value : undefined)));
  }

  clear(rows) {
    this.#stageBase("clear", flags(rows, this.len(), "clear").map((marked) => (marked ? "{}" : undefined)));
  }

  #stageBase(name, values) {
    this.base = this.base.filter((staged) => staged.name !== name);
    this.base.push({ name, values });
  }

  #stage(slot, values) {
    this.#path(slot);
    this.fields.set(slot, values);
  }

  setText(slot, values) {
    const written = ({ state, value }) => (state === VALUE ? { state, value: asText(value) } : { state });
    this.#stage(slot, cellsOf(values, this.len(), "set-text").map(written));
  }

  setRaw(slot, values) {
    const written = ({ state, value }) => (state === VALUE ? { state, value: asValue(value) } : { state });
    this.#stage(slot, cellsOf(values, this.len(), "set-raw").map(written));
  }

  setFloats(slot, values) {
    const written = (value) => (Number.isFinite(value) ? { text: float(value) } : { why: `${value} has no JSON` });
    this.#stage(slot, numbers(values, this.len(), "set-floats", written));
  }

  setInts(slot, values) {
    this.#stage(slot, numbers(values, this.len(), "set-ints", (value) => ({ text: value.toString() })));
  }

  setStrings(slot, values) {
    if (values.length !== this.len()) throw new Error(`set-strings: ${values.length} values for ${this.len()} rows`);
    const written = (value) =>
      value === undefined || value === null
        ? { state: MISSING }
        : { state: VALUE, value: asText(Buffer.from(value, "utf8").toString("latin1")) };
    this.#stage(slot, Array.from(values, written));
  }

  setKeys(values) {
    this.others.set("key", { kind: "key", cells: cellsOf(values, this.len(), "set-keys") });
  }

  setAttributes(name, values) {
    this.others.set(`attribute ${name}`, { kind: "attributes", name, cells: cellsOf(values, this.len(), "set-attributes") });
  }

  partition(name, values) {
    this.others.set(`partition ${name}`, { kind: "partition", name, cells: cellsOf(values, this.len(), "partition") });
  }

  route(outputs) {
    if (outputs.length !== this.len()) throw new Error(`route: ${outputs.length} outputs for ${this.len()} rows`);
    const bad = outputs.find((output) => output >= this.#chain.outputs);
    if (bad !== undefined) throw new Error(`route: there is no output ${bad}`);
    this.others.set("route", { kind: "route", outputs: Array.from(outputs) });
  }

  keep(rows) {
    this.marks = flags(rows, this.len(), "keep");
  }

  fail(rows, reasons) {
    const texts = valuesOf(reasons, rows.length, "fail");
    rows.forEach((row, at) => {
      if (row >= this.len()) throw new Error(`fail: row ${row} of a chunk of ${this.len()}`);
      if (this.failures.every((failure) => failure.row !== row)) {
        this.failures.push({ row, reason: Buffer.from(texts[at], "latin1").toString("utf8") });
      }
    });
  }

  derive(sources) {
    const parents = Array.from(sources, (row) => {
      if (row >= this.len()) throw new Error(`derive: row ${row} of a chunk of ${this.len()}`);
      return { rows: this, row };
    });
    const copies = parents.map(({ row }) => copy(this.rows[row]));
    return new Rows(this.#chain, copies, parents);
  }

  [Symbol.dispose ?? Symbol.for("Symbol.dispose")]() {
    this.#chain.disposed++;
  }

  /** Marks the rows that those here are copies of, all the way up: others leave in their place. */
  replace() {
    this.parents?.forEach((_, at) => this.#replaceSource(at));
  }

  #replaceSource(at) {
    const { rows, row } = this.parents[at];
    rows.replaced.add(row);
    if (rows.parents !== undefined) rows.#replaceSource(row);
  }

  /** What a row becomes, or why it cannot. */
  written(at) {
    const row = copy(this.rows[at]);
    for (const { values } of this.base) row.payload = values[at] ?? row.payload;
    const slots = [...this.fields.keys()].sort((a, b) => a - b);
    for (const slot of slots) {
      const { state, value } = this.fields.get(slot)[at];
      const path = this.#path(slot);
      if (state === VALUE && value.why !== undefined) throw value.why;
      if (state === VALUE) row.payload = set(row.payload, path, value.text);
      else if (state === NULL) row.payload = set(row.payload, path, "null");
      else if (state === OTHER) row.payload = remove(row.payload, path);
    }
    for (const { kind, name, cells, outputs } of this.others.values()) {
      if (kind === "route") {
        row.route = outputs[at];
        continue;
      }
      const { state, value } = cells[at];
      if (state === MISSING) continue;
      if (kind === "key") row.key = state === VALUE ? value : undefined;
      else if (state === VALUE) row[kind].set(name, value);
      else row[kind].delete(name);
    }
    return row;
  }
}

function flags(rows, length, what) {
  if (rows.length !== length) throw new Error(`${what}: ${rows.length} bytes for ${length} rows`);
  return Array.from(rows, (flag) => flag !== 0);
}

function numbers({ state, values }, rows, what, written) {
  if (values.length !== rows) throw new Error(`${what}: ${values.length} values for ${rows} rows`);
  return statesOf(state, rows, what).map((state, row) => (state === VALUE ? { state, value: written(values[row]) } : { state }));
}

function asText(value) {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(value, "latin1"));
    return { text: quoted(value) };
  } catch {
    return { why: "the text is not UTF-8" };
  }
}

function asValue(value) {
  const parsed = parse(value);
  return parsed === undefined ? { why: "the value is no JSON" } : { text: parsed.text };
}

const copy = (row) => ({ ...row, attributes: new Map(row.attributes), partition: new Map(row.partition) });

/** The rows of one chunk on their way through transforms. */
export class Chain {
  /**
   * `payloads` are latin1 strings; optional are `keys` (latin1 or undefined for each row), `attributes` (name to the
   * same), `offset` of the first, `time` and `deltas` of arrival in nanoseconds.
   */
  constructor({ payloads, keys = [], attributes = {}, offset = 0n, time = 0n, deltas = [] }) {
    this.time = time;
    this.rows = payloads.map((payload, record) => ({
      record,
      payload,
      key: keys[record],
      attributes: new Map(Object.entries(attributes).flatMap(([name, values]) => (values[record] === undefined ? [] : [[name, values[record]]]))),
      partition: new Map(),
      route: 0,
      offset: offset + BigInt(record),
      time: time + BigInt(deltas[record] ?? 0),
    }));
    this.records = payloads.length;
    this.failed = [];
    this.transform = -1;
    this.disposed = 0;
    this.derived = 0;
  }

  /** The rows as the next transform sees them. `outputs` is how many there are. */
  enter(fields, { outputs = 1, seed = 0n } = {}) {
    Object.assign(this, { fields, outputs, seed, emitted: [] });
    this.transform++;
    this.main = new Rows(this, this.rows, undefined);
    return this.main;
  }

  /** The import `records` of the world. */
  get imports() {
    const row = () => ({ record: -1, payload: "{}", key: undefined, attributes: new Map(), partition: new Map(), route: 0, offset: -1n, time: this.time });
    return {
      Chunk: { fresh: (rows) => new Rows(this, Array.from({ length: rows }, row), undefined) },
      emit: (rows) => this.emitted.push(rows),
    };
  }

  /** Applies what was staged, after process returned. */
  apply() {
    for (const rows of this.emitted) rows.replace();
    const withdrawn = new Set();
    const left = [];
    const all = [this.main, ...this.emitted];
    const fail = (source, at, reason) => {
      const { record } = source.rows[at];
      if (record >= 0 && withdrawn.has(record)) return;
      this.failed.push({ row: record < 0 ? "fresh" : record, transform: this.transform, reason });
      withdrawn.add(record < 0 ? source.rows[at] : record);
    };
    for (const source of all) source.failures.forEach(({ row, reason }) => fail(source, row, reason));
    for (const source of all) {
      source.rows.forEach((row, at) => {
        if (withdrawn.has(row)) return;
        let written;
        try {
          written = source.written(at);
        } catch (reason) {
          if (typeof reason !== "string") throw reason;
          fail(source, at, reason);
          return;
        }
        if (source.replaced.has(at) || source.marks?.[at] === false) return;
        left.push(written);
      });
    }
    this.rows = left.filter((row) => row.record < 0 || !withdrawn.has(row.record));
  }

  /** The rows that leave, with their number among those of their record, what failed, and how many were dropped. */
  finish({ requireJson = false } = {}) {
    if (requireJson) {
      const bad = new Set();
      // A row that no record stands behind fails alone.
      const known = (row) => (row.record < 0 ? row : row.record);
      for (const row of this.rows) {
        if (parse(row.payload) !== undefined || bad.has(known(row))) continue;
        bad.add(known(row));
        const of = row.record < 0 ? "fresh" : row.record;
        this.failed.push({ row: of, transform: this.transform + 1, reason: "the payload is no JSON" });
      }
      this.rows = this.rows.filter((row) => !bad.has(known(row)));
    }
    const children = new Map();
    const rows = this.rows.map((row) => {
      const child = children.get(row.record) ?? 0;
      children.set(row.record, child + 1);
      return { ...row, child };
    });
    const failed = new Set(this.failed.map(({ row }) => row));
    const passed = new Set(rows.map(({ record }) => record));
    let dropped = 0;
    for (let record = 0; record < this.records; record++) if (!failed.has(record) && !passed.has(record)) dropped++;
    return { rows, failed: this.failed, dropped };
  }
}
