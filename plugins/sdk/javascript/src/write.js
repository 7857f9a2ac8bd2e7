// Columns to write, from arrays with one entry per row: a value sets it, `null` sets JSON's null, `REMOVE` takes it
// away, and `undefined` leaves the row alone.

import { column } from "./text.js";

/** In place of a value: takes the field, key, attribute or partition value away. */
export const REMOVE = Symbol("REMOVE");

/** Refuses what is no array with an entry for each row. */
function checked(values, rows, what) {
  if (!Array.isArray(values) && !ArrayBuffer.isView(values)) {
    throw new TypeError(`${what} takes an array with an entry for each row, not ${shown(values)}`);
  }
  if (values.length !== rows) {
    throw new RangeError(`${what} takes ${rows} entries, one for each row, and got ${values.length}`);
  }
  return values;
}

/** The state of an entry that is neither `undefined` nor of the type that is wanted. */
function stateOf(value, row, what) {
  if (value === null) return 1;
  if (value === REMOVE) return 2;
  throw new TypeError(`${what} cannot take ${shown(value)} (row ${row})`);
}

function shown(value) {
  const text = typeof value === "string" ? JSON.stringify(value) : String(value);
  return `${typeof value} ${text.length > 40 ? `${text.slice(0, 40)}…` : text}`;
}

/** Whether these are the strings, and `undefined`, of all rows, which a host can take as they are. */
export function strings(values, rows) {
  if (!Array.isArray(values) || values.length !== rows) return false;
  for (let row = 0; row < rows; row++) {
    const value = values[row];
    // What is not well-formed has no UTF-8, and would be a trap.
    if (value !== undefined && !(typeof value === "string" && value.isWellFormed())) return false;
  }
  return true;
}

export function textCells(values, rows, what) {
  checked(values, rows, what);
  const state = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) {
    const value = values[row];
    if (typeof value === "string" || value instanceof Uint8Array) state[row] = 3;
    else if (value !== undefined) state[row] = stateOf(value, row, what);
  }
  return { state, values: column(values) };
}

/** Payloads are set or left alone: there is no null and nothing to remove. */
export function payloadCells(values, rows, what) {
  const cells = textCells(values, rows, what);
  const bad = cells.state.findIndex((state) => state === 1 || state === 2);
  if (bad >= 0) throw new TypeError(`${what} takes strings, byte arrays or undefined (row ${bad})`);
  return cells;
}

const SAFE = Number.MAX_SAFE_INTEGER;

export function intCells(values, rows, what) {
  checked(values, rows, what);
  const state = new Uint8Array(rows);
  const ints = new BigInt64Array(rows);
  const words = new Int32Array(ints.buffer);
  for (let row = 0; row < rows; row++) {
    const value = values[row];
    if (value === undefined) continue;
    if (typeof value === "number" && value % 1 === 0 && value <= SAFE && value >= -SAFE) {
      // Without a bigint, which would be an object to make and to throw away. The store takes the lowest 32 bits.
      words[2 * row] = value;
      words[2 * row + 1] = Math.floor(value / 0x100000000);
      state[row] = 3;
    } else if (typeof value === "bigint") {
      if (BigInt.asIntN(64, value) !== value) throw new RangeError(`${what}: ${value} needs more than 64 bits (row ${row})`);
      ints[row] = value;
      state[row] = 3;
    } else {
      state[row] = stateOf(value, row, what);
    }
  }
  return { state, values: ints };
}

/**
 * Numbers as JSON.stringify writes them (2, not 2.0): the call that takes them fastest and what to give it. NaN and
 * the infinities fail their rows.
 */
export function numberCells(values, rows, what) {
  checked(values, rows, what);
  const state = new Uint8Array(rows);
  const floats = new Float64Array(rows);
  let ints = 0;
  let others = 0;
  for (let row = 0; row < rows; row++) {
    const value = values[row];
    if (value === undefined) continue;
    if (typeof value !== "number") {
      state[row] = stateOf(value, row, what);
      continue;
    }
    state[row] = 3;
    floats[row] = value;
    if (value % 1 === 0 && value <= SAFE && value >= -SAFE) ints++;
    else others++;
  }
  if (others === 0) return ["setInts", intCells(values, rows, what)];
  if (ints === 0) return ["setFloats", { state, values: floats }];
  const texts = new Array(rows);
  for (let row = 0; row < rows; row++) if (state[row] === 3) texts[row] = String(floats[row]);
  return ["setRaw", { state, values: column(texts) }];
}

/** Any values, as JSON. */
export function jsonCells(values, rows, what) {
  checked(values, rows, what);
  const state = new Uint8Array(rows);
  const texts = new Array(rows);
  for (let row = 0; row < rows; row++) {
    const value = values[row];
    if (value === undefined) continue;
    if (value === null || value === REMOVE) {
      state[row] = stateOf(value, row, what);
      continue;
    }
    state[row] = 3;
    texts[row] = JSON.stringify(value);
    if (texts[row] === undefined) throw new TypeError(`${what}: ${shown(value)} has no JSON (row ${row})`);
  }
  return { state, values: column(texts) };
}

/** A byte for each row, of booleans or numbers. */
export function marks(values, rows, what) {
  if (checked(values, rows, what) instanceof Uint8Array) return values;
  const bytes = new Uint8Array(rows);
  for (let row = 0; row < rows; row++) bytes[row] = values[row] ? 1 : 0;
  return bytes;
}
