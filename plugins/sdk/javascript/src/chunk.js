// The face that authors see of a chunk and of configure. It owns the handles of the rows that were derived: whatever
// was not emitted when the call ends is given back.

import { described } from "./fault.js";
import { HostStrings, Numbers, Texts, Values } from "./read.js";
import { Strings, column, converts, decode } from "./text.js";
import { exact, u64, wide } from "./wide.js";
import { intCells, jsonCells, marks, numberCells, payloadCells, strings, textCells } from "./write.js";

/** What configure may ask for. */
export class Setup {
  #raw;
  #open = true;

  constructor(raw) {
    this.#raw = raw;
  }

  /** The field at this path of object keys. The same in every run, in the same order. */
  field(...path) {
    return this.#host(() => this.#raw.field(path.flat()));
  }

  /** The number of an output, for `route`. */
  output(name) {
    return this.#host(() => this.#raw.output(name));
  }

  secret(name) {
    return this.#host(() => this.#raw.secret(name));
  }

  /** The bytes of a granted file. */
  file(name) {
    const pieces = [];
    let offset = 0;
    for (;;) {
      const piece = this.#host(() => this.#raw.file(name, u64(offset), FILE_PIECE));
      if (piece.length > 0) pieces.push(piece);
      offset += piece.length;
      if (piece.length < FILE_PIECE) break;
    }
    if (pieces.length === 1) return Uint8Array.from(pieces[0]);
    const whole = new Uint8Array(offset);
    let at = 0;
    for (const piece of pieces) {
      whole.set(piece, at);
      at += piece.length;
    }
    return whole;
  }

  /** A granted file that is UTF-8. */
  fileText(name) {
    return decode(this.file(name));
  }

  close() {
    this.#open = false;
  }

  #host(call) {
    if (!this.#open) throw new Error("setup is used after configure has returned");
    try {
      return call();
    } catch (error) {
      // Engines differ in how they hand on what the host refused.
      throw typeof error?.payload === "string" ? new Error(error.payload) : error;
    }
  }
}

const FILE_PIECE = 1 << 20;

/** Rows of the call, or rows derived from them. */
export class Chunk {
  #raw;
  #call;
  #failed = [];
  #reasons = [];
  #offsets;

  /** `call` is what the chunks of one call have in common. */
  constructor(raw, call) {
    this.#raw = raw;
    this.#call = call;
    this.length = raw.len();
  }

  #host() {
    if (this.#raw === undefined) throw new Error("these rows are used after they were emitted, or after process has returned");
    return this.#raw;
  }

  /** The same on every attempt at this chunk. */
  get seed() {
    return BigInt(this.#host().seed());
  }

  /** Offsets in the stream; -1n for fresh rows. */
  offsets() {
    return wide(this.#host().offsets());
  }

  /** Nanoseconds since the epoch. */
  arrivalTimes() {
    return wide(this.#host().arrivalTimes());
  }

  payloads() {
    return new Texts(undefined, new Strings(this.#host().payloads()), this.length);
  }

  keys() {
    return this.#texts(this.#host().keys());
  }

  attributes(name) {
    return this.#texts(this.#host().attributes(name));
  }

  /** Strings of JSON. */
  text(field) {
    const raw = this.#host();
    if (converts) return this.#texts(raw.getText(field));
    return new HostStrings(raw.getStrings(field), () => this.#host().getText(field).state);
  }

  /** Any value as the JSON text that it has. */
  raw(field) {
    return this.#texts(this.#host().getRaw(field));
  }

  /** Any value, parsed. */
  values(field) {
    return new Values(this.raw(field));
  }

  numbers(field) {
    return new Numbers(this.#host().getFloats(field));
  }

  /** Exact, as bigints; a number that is no 64-bit integer is of another type. */
  ints(field) {
    const { state, values } = this.#host().getInts(field);
    return new Numbers({ state, values: exact(values, () => this.raw(field).toArray()) });
  }

  #texts({ state, values }) {
    return new Texts(state, new Strings(values), this.length);
  }

  setText(field, values) {
    if (!converts && strings(values, this.length)) {
      this.#host().setStrings(field, values);
      return;
    }
    this.#host().setText(field, textCells(values, this.length, "setText"));
  }

  /** JSON texts. */
  setRaw(field, values) {
    this.#host().setRaw(field, textCells(values, this.length, "setRaw"));
  }

  /** Anything that has JSON. */
  setValues(field, values) {
    this.#host().setRaw(field, jsonCells(values, this.length, "setValues"));
  }

  setNumbers(field, values) {
    const [call, cells] = numberCells(values, this.length, "setNumbers");
    this.#host()[call](field, cells);
  }

  setInts(field, values) {
    this.#host().setInts(field, intCells(values, this.length, "setInts"));
  }

  setPayloads(values) {
    this.#host().setPayloads(payloadCells(values, this.length, "setPayloads"));
  }

  /** Marked rows start from `{}` and get only the fields that are set. */
  clear(rows) {
    this.#host().clear(marks(rows, this.length, "clear"));
  }

  setKeys(values) {
    this.#host().setKeys(textCells(values, this.length, "setKeys"));
  }

  setAttributes(name, values) {
    this.#host().setAttributes(name, textCells(values, this.length, "setAttributes"));
  }

  partition(name, values) {
    this.#host().partition(name, textCells(values, this.length, "partition"));
  }

  /** The number of an output for each row. */
  route(outputs) {
    this.#host().route(Uint32Array.from(outputs));
  }

  /** Rows that are not marked are dropped. */
  keep(rows) {
    this.#host().keep(marks(rows, this.length, "keep"));
  }

  /** Fails one row with a reason: a string, or an exception. */
  fail(row, reason) {
    if (this.#raw === undefined) this.#host();
    if (!(Number.isInteger(row) && row >= 0 && row < this.length)) {
      throw new RangeError(`fail: there is no row ${row} among ${this.length}`);
    }
    this.#failed.push(row);
    this.#reasons.push(typeof reason === "string" ? reason : described(reason, `offset ${(this.#offsets ??= this.offsets())[row]}`));
  }

  /** New rows, each a copy of the row whose number stands in `sources`; `emit` lets them leave in their place. */
  derive(sources) {
    return this.#call.own(this.#host().derive(Uint32Array.from(sources)));
  }

  /** Rows without a source: `{}`. */
  fresh(rows) {
    return this.#call.own(this.#call.records.Chunk.fresh(rows));
  }

  /** Lets derived or fresh rows leave; they cannot be used afterwards. */
  emit(rows) {
    this.#host();
    const raw = rows.release();
    this.#call.disown(rows);
    this.#call.records.emit(raw);
  }

  /** Hands on what was failed, and gives the handle to whoever lets it go. */
  release() {
    const raw = this.#host();
    if (this.#failed.length > 0) raw.fail(Uint32Array.from(this.#failed), column(this.#reasons));
    this.#raw = undefined;
    return raw;
  }

  /** Forgets the handle without another word to the host. */
  abandon() {
    const raw = this.#raw;
    this.#raw = undefined;
    return raw;
  }
}

/** One call of process: its rows and what was derived from them. */
export class Call {
  #owned = new Set();

  constructor(records) {
    this.records = records;
  }

  own(raw) {
    const chunk = new Chunk(raw, this);
    this.#owned.add(chunk);
    return chunk;
  }

  disown(chunk) {
    this.#owned.delete(chunk);
  }

  /** Gives back every handle that was not emitted. */
  close() {
    for (const chunk of this.#owned) chunk.abandon()?.[Symbol.dispose]?.();
    this.#owned.clear();
  }
}
