// Between strings and UTF-8 bytes, a whole column at a time. It knows nothing of states or chunks.
//
// A call into the engine costs more than the bytes that it moves, so a column is converted at once where it can be:
// what is all ASCII has one byte for each character, and pieces of the one string are found by their byte offsets.
// QuickJS has neither TextDecoder nor TextEncoder; there the work is left to what it has in native code.

const NOT_ASCII = /[^\x00-\x7f]/;
const PIECE = 8192;

const native = typeof TextDecoder === "function" && typeof TextEncoder === "function";
const decoder = native ? new TextDecoder("utf-8", { ignoreBOM: true }) : undefined;
const strict = native ? new TextDecoder("utf-8", { ignoreBOM: true, fatal: true }) : undefined;
const encoder = native ? new TextEncoder() : undefined;

/** Whether the engine itself converts strings. */
export const converts = native;

export const decode = native ? (bytes) => decoder.decode(bytes) : decodeSlowly;
export const encode = native ? (text) => encoder.encode(text) : encodeSlowly;

export function isUtf8(bytes) {
  try {
    if (native) strict.decode(bytes);
    else decodeURIComponent(escape(latin1(bytes)));
    return true;
  } catch {
    return false;
  }
}

/** A column as the host gives it. */
export class Strings {
  constructor({ data, ends }) {
    this.data = data;
    this.ends = ends;
  }

  bytes(row) {
    return this.data.subarray(row === 0 ? 0 : this.ends[row - 1], this.ends[row]);
  }

  /** The strings of all rows; with `states`, of those with a value (3). */
  texts(states) {
    const { data, ends } = this;
    const length = ends.length;
    const made = new Array(length);
    // One string for all, where bytes and characters are the same.
    const whole = native ? decode(data) : latin1(data);
    const ascii = native ? whole.length === data.length : !NOT_ASCII.test(whole);
    let start = 0;
    for (let row = 0; row < length; row++) {
      const end = ends[row];
      const there = states === undefined || states[row] === 3;
      made[row] = !there ? undefined : ascii ? whole.substring(start, end) : decode(data.subarray(start, end));
      start = end;
    }
    return made;
  }
}

/** The column of these strings and byte arrays; whatever is neither has no bytes. */
export function column(values) {
  const length = values.length;
  const texts = new Array(length);
  for (let row = 0; row < length; row++) {
    const value = values[row];
    if (typeof value === "string") texts[row] = value;
    else if (value instanceof Uint8Array) return piecewise(values);
    else texts[row] = "";
  }
  const joined = texts.join("");
  const data = encode(joined);
  const ascii = data.length === joined.length;
  const ends = new Uint32Array(length);
  let end = 0;
  for (let row = 0; row < length; row++) {
    const text = texts[row];
    end += ascii || !NOT_ASCII.test(text) ? text.length : encode(text).length;
    ends[row] = end;
  }
  // Halves of a surrogate pair in neighbouring values would have become one character.
  return end === data.length ? { data, ends } : piecewise(values);
}

function piecewise(values) {
  const nothing = new Uint8Array(0);
  const pieces = new Array(values.length);
  const ends = new Uint32Array(values.length);
  let end = 0;
  for (let row = 0; row < values.length; row++) {
    const value = values[row];
    pieces[row] = typeof value === "string" ? encode(value) : value instanceof Uint8Array ? value : nothing;
    ends[row] = end += pieces[row].length;
  }
  const data = new Uint8Array(end);
  for (let row = 0; row < pieces.length; row++) data.set(pieces[row], row === 0 ? 0 : ends[row - 1]);
  return { data, ends };
}

/** A character for each byte. */
export function latin1(bytes) {
  if (bytes.length <= PIECE) return String.fromCharCode.apply(null, bytes);
  const pieces = [];
  for (let start = 0; start < bytes.length; start += PIECE) {
    pieces.push(String.fromCharCode.apply(null, bytes.subarray(start, start + PIECE)));
  }
  return pieces.join("");
}

function decodeSlowly(bytes) {
  const text = latin1(bytes);
  if (!NOT_ASCII.test(text)) return text;
  try {
    return decodeURIComponent(escape(text));
  } catch {
    return decodeReplacing(bytes);
  }
}

/** As TextDecoder does: each longest beginning of a sequence that cannot go on becomes U+FFFD. */
function decodeReplacing(bytes) {
  let text = "";
  for (let at = 0; at < bytes.length; ) {
    const first = bytes[at++];
    if (first < 0x80) {
      text += String.fromCharCode(first);
      continue;
    }
    let more = first >= 0xc2 && first <= 0xdf ? 1 : first >= 0xe0 && first <= 0xef ? 2 : 0;
    if (first >= 0xf0 && first <= 0xf4) more = 3;
    let low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80;
    let high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf;
    let point = more === 0 ? -1 : first & (0x3f >> more);
    for (let left = more; left > 0; left--) {
      const next = bytes[at];
      if (!(next >= low && next <= high)) {
        point = -1;
        break;
      }
      point = (point << 6) | (next & 0x3f);
      at++;
      low = 0x80;
      high = 0xbf;
    }
    text += point < 0 ? "\ufffd" : String.fromCodePoint(point);
  }
  return text;
}

function encodeSlowly(text) {
  const bytes = NOT_ASCII.test(text) ? unescape(encodeURIComponent(text.toWellFormed())) : text;
  if (typeof Uint8Array.fromBase64 === "function" && typeof btoa === "function") {
    return Uint8Array.fromBase64(btoa(bytes));
  }
  const data = new Uint8Array(bytes.length);
  for (let at = 0; at < bytes.length; at++) data[at] = bytes.charCodeAt(at);
  return data;
}
