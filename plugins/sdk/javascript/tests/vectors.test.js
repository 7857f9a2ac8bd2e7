// Runs every case of `wit/vectors.json` through the chunk of the test kit, by the SDK's own face: what a plugin sees and
// does in a unit test must be what the host does. The format is described in that file.

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import test from "node:test";

import { REMOVE } from "../src/index.js";
import { run } from "../src/guest.js";
import { column } from "../src/text.js";
import { exact, wide } from "../src/wide.js";
import { strings } from "../src/write.js";
import { Chain } from "../src/testing/chunk.js";

const vectors = JSON.parse(exactly(readFileSync(new URL("../../../../wit/vectors.json", import.meta.url), "utf8")));

/** Integers that a number would round become strings with a mark. */
function exactly(text) {
  return text.replace(/("(?:[^"\\]|\\.)*")|(-?\d{16,})(?![\d.eE])/g, (_, string, number) => string ?? `"bigint ${number}"`);
}

const bytes = (value) => (typeof value === "string" ? Buffer.from(value, "utf8") : Buffer.from(value.hex, "hex"));
const latin1 = (value) => bytes(value).toString("latin1");
const shown = (found) => {
  const text = Buffer.from(found).toString("utf8");
  return Buffer.from(text, "utf8").equals(Buffer.from(found)) ? text : { hex: Buffer.from(found).toString("hex") };
};
const FLOATS = { NaN, inf: Infinity, "-inf": -Infinity };
const int = (value) => BigInt(String(value).replace("bigint ", ""));
const float = (value) => (typeof value === "string" ? (FLOATS[value] ?? Number(value.replace("bigint ", ""))) : value);

/** An entry of the arrays that the SDK writes. */
const entry = (read) => ([state, value]) => (state === 3 ? read(value) : [undefined, null, REMOVE][state]);

function cellsRead(columnRead, show) {
  return Array.from({ length: columnRead.length }, (_, row) => {
    if (columnRead.isMissing(row)) return [0];
    if (columnRead.isNull(row)) return [1];
    return columnRead.isOther(row) ? [2] : [3, show(row)];
  });
}

const texts = (read) => cellsRead(read, (row) => shown(read.bytes(row)));

function call(chunk, name, op) {
  const cells = (read) => op.cells.map(entry(read));
  switch (name) {
    case "len":
      return chunk.length;
    case "offsets":
      return Array.from(chunk.offsets(), Number);
    case "arrival-times":
      return Array.from(chunk.arrivalTimes(), Number);
    case "keys":
      return texts(chunk.keys());
    case "attributes":
      return texts(chunk.attributes(op.name));
    case "payloads":
      return texts(chunk.payloads()).map(([, value]) => value);
    case "get-text":
      return texts(chunk.text(op.slot));
    case "get-raw":
      return texts(chunk.raw(op.slot));
    case "get-strings": {
      return Array.from(chunk.text(op.slot), (value) => value ?? null);
    }
    case "get-floats": {
      const read = chunk.numbers(op.slot);
      return cellsRead(read, (row) => read.get(row));
    }
    case "get-ints": {
      const read = chunk.ints(op.slot);
      return cellsRead(read, (row) => read.get(row));
    }
    case "set-payloads":
      return chunk.setPayloads(cells(bytes));
    case "set-text":
      return chunk.setText(op.slot, cells(bytes));
    case "set-raw":
      return chunk.setRaw(op.slot, cells(bytes));
    case "set-strings":
      return chunk.setText(op.slot, op.cells.map((value) => value ?? undefined));
    case "set-ints":
      return chunk.setInts(op.slot, cells(int));
    case "set-keys":
      return chunk.setKeys(cells(bytes));
    case "set-attributes":
      return chunk.setAttributes(op.name, cells(bytes));
    case "partition":
      return chunk.partition(op.name, cells(bytes));
    case "clear":
    case "keep":
      return chunk[name](op.marks);
    case "route":
      return chunk.route(op.outputs);
    case "fail":
      return op.rows.forEach((row, at) => chunk.fail(row, op.reasons[at]));
    default:
      throw new Error(`unknown call ${name}`);
  }
}

/** Calls that the SDK's face does not have in this form go to the chunk beneath it. */
function floats(raw, op) {
  const values = op.cells.map(([, value]) => float(value ?? 0));
  raw.setFloats(op.slot, { state: Uint8Array.from(op.cells, ([state]) => state), values: Float64Array.from(values) });
}

function steps(transform, main) {
  return {
    process(rows) {
      const named = new Map();
      for (const op of transform.ops) {
        const on = op.on === undefined ? rows : named.get(op.on);
        if (op.call === "emit") rows.emit(on);
        else if (op.call === "derive") named.set(op.as, on.derive(op.sources));
        else if (op.call === "fresh") named.set(op.as, rows.fresh(op.rows));
        else if (op.call === "drop") named.delete(op.on);
        else if (op.call === "set-floats") {
          assert.equal(op.on, undefined, "set-floats only on the chunk itself");
          floats(main, op);
        } else {
          const got = call(on, op.call, op);
          if (op.expect !== undefined) assert.deepEqual(normal(got), normal(op.expect), JSON.stringify(op));
        }
      }
    },
  };
}

/** Numbers by value. */
function normal(value) {
  if (Array.isArray(value)) return value.map(normal);
  if (typeof value === "bigint") return `number ${value}`;
  if (typeof value === "number") return Object.is(value, -0) ? "number 0" : `number ${Number.isInteger(value) ? BigInt(value) : value}`;
  return typeof value === "string" && value.startsWith("bigint ") ? `number ${int(value)}` : value;
}

const optional = (cells) => cells?.map(([state, value]) => (state === 3 ? latin1(value) : undefined));

for (const vector of vectors.cases) {
  test(`vector ${vector.name}`, () => {
    const { input } = vector;
    const attributes = Object.entries(input.attributes ?? {}).map(([name, cells]) => [name, optional(cells)]);
    const chain = new Chain({
      payloads: input.payloads.map(latin1),
      keys: optional(input.keys),
      attributes: Object.fromEntries(attributes),
      offset: BigInt(input.first_offset ?? 0),
      time: BigInt(input.arrival ?? 0),
      deltas: input.arrival_deltas,
    });
    for (const transform of vector.transforms) {
      if (chain.rows.length === 0) break;
      const fields = transform.fields.map((path) => path.map(latin1));
      const raw = chain.enter(fields, { outputs: transform.outputs?.length ?? 1 });
      run(steps(transform, raw), raw, chain.imports, undefined);
      chain.apply();
    }
    const { rows, failed, dropped } = chain.finish({ requireJson: vector.require_json });
    const left = rows.map((row) => ({
      payload: shown(Buffer.from(row.payload, "latin1")),
      offset: Number(row.offset),
      ...(row.child > 0 && { child: row.child }),
      ...(row.route > 0 && { route: row.route }),
      ...(row.key !== undefined && { key: shown(Buffer.from(row.key, "latin1")) }),
      ...(row.partition.size > 0 && { partition: [...row.partition] }),
    }));
    assert.deepEqual(left, vector.output);
    const wanted = vector.failed ?? [];
    const fates = failed.map(({ row, transform, reason }, at) => ({
      row,
      ...(transform > 0 && { transform }),
      ...(wanted[at]?.reason !== undefined && { reason }),
    }));
    assert.deepEqual(fates, wanted.map(({ child: _, payload: _kept, ...rest }) => rest));
    assert.equal(dropped, vector.dropped ?? 0);
  });
}

test("vectors are many", () => assert.ok(vectors.cases.length > 30));

test("a column of strings with halves of surrogate pairs keeps them apart", () => {
  const { ends } = column(["\ud83d", "\ude00", "é"]);
  assert.deepEqual([...ends], [3, 6, 8]);
});

test("integers that an engine rounded are read from their texts", () => {
  const texts = () => ["1", "9007199254740993", "-9.223372036854775808e18", ""];
  assert.deepEqual(exact([1, 2 ** 53, -(2 ** 63), 0], texts), [1n, 9007199254740993n, -(2n ** 63n), 0n]);
  assert.deepEqual(exact([1, 2], () => assert.fail("nothing was rounded")), [1n, 2n]);
  assert.deepEqual(wide([-1, 2 ** 53]), BigInt64Array.of(-1n, 2n ** 53n));
});

test("only columns that a host can take as they are count as strings", () => {
  assert.ok(strings(["a", undefined, ""], 3));
  for (const value of [null, REMOVE, 1, new Uint8Array(1), "\ud83d"]) assert.ok(!strings(["a", value], 2));
  assert.ok(!strings(["a"], 2) && !strings("ab", 2));
});
