// A transform's config, read strictly: an unknown key or a value of another type is an error that says what would be
// right.

const REQUIRED = new Map([[String, "string"], [Number, "number"], [Boolean, "boolean"]]);

/**
 * The config with what it lacks filled in. `shape` has for each key its default value, whose type the config's value
 * must have too, or one of `String`, `Number`, `Boolean` for a key that must be there. `undefined` takes anything.
 */
export function readConfig(config, shape) {
  if (kind(config) !== "object") throw new BadConfig(`the config is no object but ${kind(config)}`);
  const known = Object.keys(shape);
  for (const key of Object.keys(config)) {
    if (known.includes(key)) continue;
    const near = nearest(key, known);
    const hint = near === undefined ? `there are ${known.join(", ")}` : `did you mean ${JSON.stringify(near)}?`;
    throw new BadConfig(`unknown key ${JSON.stringify(key)}; ${known.length === 0 ? "there are none" : hint}`);
  }
  const read = {};
  for (const key of known) {
    const wanted = REQUIRED.get(shape[key]) ?? kind(shape[key]);
    const value = Object.hasOwn(config, key) ? config[key] : undefined;
    if (value === undefined) {
      if (REQUIRED.has(shape[key])) throw new BadConfig(`${JSON.stringify(key)} is missing: a ${wanted}`);
      read[key] = shape[key];
    } else {
      if (wanted !== "undefined" && kind(value) !== wanted) {
        throw new BadConfig(`${JSON.stringify(key)} is ${JSON.stringify(value)}, but must be a ${wanted}`);
      }
      read[key] = value;
    }
  }
  return read;
}

/** A config that is wrong: told as it is, without a traceback. */
export class BadConfig extends Error {}

function kind(value) {
  if (value === null) return "null";
  return Array.isArray(value) ? "array" : typeof value;
}

/** The closest of the known names, if it is close enough to be meant. */
function nearest(name, known) {
  let best;
  let least = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const distance = edits(name, candidate);
    if (distance < least) [best, least] = [candidate, distance];
  }
  return best;
}

/** Insertions, deletions, substitutions and swaps of neighbours from one to the other. */
function edits(from, to) {
  const table = [Array.from({ length: to.length + 1 }, (_, at) => at)];
  for (let i = 1; i <= from.length; i++) {
    table.push([i]);
    for (let j = 1; j <= to.length; j++) {
      const same = from[i - 1] === to[j - 1] ? 0 : 1;
      let least = Math.min(table[i - 1][j] + 1, table[i][j - 1] + 1, table[i - 1][j - 1] + same);
      if (i > 1 && j > 1 && from[i - 1] === to[j - 2] && from[i - 2] === to[j - 1]) {
        least = Math.min(least, table[i - 2][j - 2] + 1);
      }
      table[i].push(least);
    }
  }
  return table[from.length][to.length];
}
