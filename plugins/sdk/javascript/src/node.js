// What functions that were written for Node use without importing it: `Buffer`, `process.env`, `atob` and `btoa`. Only
// what is not there yet is made.

import { decodeBase64, decodeLeniently, encodeBase64 } from "./base64.js";
import { decode, encode, latin1 } from "./text.js";

const ENCODINGS = {
  utf8: [encode, decode],
  base64: [decodeLeniently, encodeBase64],
  base64url: [decodeLeniently, (bytes) => encodeBase64(bytes).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "")],
  latin1: [fromLatin1, latin1],
  ascii: [fromLatin1, (bytes) => latin1(bytes.map((byte) => byte & 127))],
  hex: [fromHex, (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("")],
};
const SAME = { "utf-8": "utf8", binary: "latin1" };

function coder(encoding = "utf8") {
  const name = String(encoding).toLowerCase();
  const found = ENCODINGS[SAME[name] ?? name];
  if (found === undefined) throw new TypeError(`Unknown encoding: ${encoding}; here there are ${Object.keys(ENCODINGS).join(", ")}`);
  return found;
}

/** The part of Node's Buffer that functions use to decode and encode. */
export class Buffer extends Uint8Array {
  static from(value, encoding, length) {
    if (typeof value === "string") return view(coder(encoding)[0](value));
    if (value instanceof ArrayBuffer) return new Buffer(value, encoding, length);
    if (value?.type === "Buffer" && Array.isArray(value.data)) return Buffer.from(value.data);
    if (typeof value?.length !== "number") throw new TypeError(`Buffer.from takes a string, bytes or an array, not ${typeof value}`);
    const made = new Buffer(value.length);
    made.set(value);
    return made;
  }

  static alloc(size, fill = 0) {
    const made = new Buffer(size);
    return typeof fill === "number" ? made.fill(fill) : made.map((_, at) => Buffer.from(fill).at(at % fill.length));
  }

  static concat(list, length = list.reduce((sum, bytes) => sum + bytes.length, 0)) {
    const made = new Buffer(length);
    let at = 0;
    for (const bytes of list) {
      made.set(bytes.subarray(0, length - at), at);
      at = Math.min(length, at + bytes.length);
    }
    return made;
  }

  static isBuffer(value) {
    return value instanceof Buffer;
  }

  static byteLength(value, encoding) {
    return typeof value === "string" ? Buffer.from(value, encoding).length : value.byteLength;
  }

  toString(encoding, start = 0, end = this.length) {
    return coder(encoding)[1](this.subarray(start, end));
  }

  toJSON() {
    return { type: "Buffer", data: Array.from(this) };
  }

  equals(other) {
    return this.length === other.length && this.every((byte, at) => byte === other[at]);
  }

  /** A view, as Node's is. */
  slice(start, end) {
    return this.subarray(start, end);
  }
}

const view = (bytes) => new Buffer(bytes.buffer, bytes.byteOffset, bytes.length);

function fromLatin1(text) {
  return Uint8Array.from({ length: text.length }, (_, at) => text.charCodeAt(at));
}

/** As far as it is hexadecimal. */
function fromHex(text) {
  const digits = /^(?:[0-9a-f]{2})*/i.exec(text)[0];
  return Uint8Array.from({ length: digits.length / 2 }, (_, at) => parseInt(digits.slice(2 * at, 2 * at + 2), 16));
}

globalThis.Buffer ??= Buffer;
globalThis.process ??= { env: {} };
globalThis.btoa ??= (text) => encodeBase64(fromLatin1(String(text)));
globalThis.atob ??= (text) => {
  const bytes = decodeBase64(String(text));
  if (bytes === undefined) throw new TypeError("atob: this is not base64");
  return latin1(bytes);
};
