// Base64 (RFC 4648, section 4) between bytes and text, by what the engine has for it.

import { latin1 } from "./text.js";

const ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const OTHERS = /[^A-Za-z0-9+/]/;

export function encodeBase64(bytes) {
  if (typeof bytes.toBase64 === "function") return bytes.toBase64();
  if (typeof btoa === "function") return btoa(latin1(bytes));
  const pieces = [];
  for (let at = 0; at < bytes.length; at += 3) {
    const [a, b, c] = [bytes[at], bytes[at + 1], bytes[at + 2]];
    pieces.push(ALPHABET[a >> 2], ALPHABET[((a & 3) << 4) | ((b ?? 0) >> 4)]);
    pieces.push(b === undefined ? "=" : ALPHABET[((b & 15) << 2) | ((c ?? 0) >> 6)], c === undefined ? "=" : ALPHABET[c & 63]);
  }
  return pieces.join("");
}

/** The bytes; `undefined` where the text is no base64 with all of its padding. */
export function decodeBase64(text) {
  if (text.length % 4 !== 0) return undefined;
  const padding = text.endsWith("==") ? 2 : text.endsWith("=") ? 1 : 0;
  const body = text.slice(0, text.length - padding);
  if (OTHERS.test(body)) return undefined;
  if (typeof Uint8Array.fromBase64 === "function") return Uint8Array.fromBase64(text);
  const bytes = new Uint8Array((text.length / 4) * 3 - padding);
  if (typeof atob === "function") {
    const characters = atob(text);
    for (let at = 0; at < bytes.length; at++) bytes[at] = characters.charCodeAt(at);
    return bytes;
  }
  let [bits, held, to] = [0, 0, 0];
  for (const character of body) {
    bits = (bits << 6) | ALPHABET.indexOf(character);
    held += 6;
    if (held < 8) continue;
    held -= 8;
    bytes[to++] = (bits >> held) & 255;
  }
  return bytes;
}

/** As Node reads it: either alphabet, with or without padding, whatever else stands in between. */
export function decodeLeniently(text) {
  const body = text.split("=", 1)[0].replaceAll("-", "+").replaceAll("_", "/").replace(/[^A-Za-z0-9+/]/g, "");
  const whole = body.length % 4 === 1 ? body.slice(0, -1) : body;
  return decodeBase64(whole + "=".repeat((4 - (whole.length % 4)) % 4));
}
