// Integers of 64 bits. What connects QuickJS to a host hands them over as numbers, which are rounded beyond 2^53, and
// takes single ones as numbers alone.

import { converts } from "./text.js";

/** A single one for the host. */
export const u64 = converts ? BigInt : Number;

const rounded = (values) => typeof values[0] === "number";

/** A list of the host's, rounded if it has to be. */
export function wide(values) {
  return rounded(values) ? BigInt64Array.from(values, BigInt) : values;
}

/** The same, exact: `texts` gives the JSON of all values, and is called only if one was rounded. */
export function exact(values, texts) {
  if (!rounded(values)) return values;
  const made = new Array(values.length);
  let written;
  for (let row = 0; row < made.length; row++) {
    const value = values[row];
    if (Number.isSafeInteger(value)) made[row] = BigInt(value);
    else made[row] = integer((written ??= texts())[row]);
  }
  return made;
}

/** A JSON number as an integer of 64 bits, or `undefined` if it is none exactly. */
export function integer(text) {
  const [, sign, whole, fraction = "", exponent = "0"] = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/.exec(text);
  const digits = (whole + fraction).replace(/^0+/, "");
  const bare = digits.replace(/0+$/, "");
  if (bare === "") return 0n;
  const power = Number(exponent) - fraction.length + (digits.length - bare.length);
  if (power < 0 || bare.length + power > 19) return undefined;
  const value = BigInt(sign + bare + "0".repeat(power));
  return BigInt.asIntN(64, value) === value ? value : undefined;
}
