// What the SDK promises beside the chunk: errors, records, config.

import assert from "node:assert/strict";
import test from "node:test";

import { BadRecord, REMOVE, byColumn, byRecord, log, readConfig } from "../src/index.js";
import { guest, run as call } from "../src/guest.js";
import { Chain } from "../src/testing/chunk.js";
import { Refusal, refusal, run } from "../src/testing/index.js";

test("a record that throws fails alone, with message, offset and the author's frame", () => {
  const plugin = byRecord({
    record(record) {
      if (record.n === 2) record.missing.field;
      return record;
    },
  });
  const outcome = run(plugin, {}, ['{"n":1}', '{"n":2}', '{"n":3}']);
  assert.deepEqual(outcome.rows, ['{"n":1}', '{"n":3}']);
  assert.equal(outcome.failed.length, 1);
  assert.match(outcome.failed[0].reason, /^TypeError: .*\[offset 1\] at .*record \(.*plugin\.test\.js:\d+:\d+\)/);
});

test("a record can be dropped, refused, split and left as it is", () => {
  const plugin = byRecord({
    record(record) {
      if (record === null) return null;
      if (Array.isArray(record)) return record;
      if (record.bad) throw new BadRecord("it is bad");
      return record.parts ?? { ...record, seen: true };
    },
  });
  const input = ["null", "[1, 2]", '{"bad":1}', '{"parts":[{"a":1},{"a":2}]}', '{"parts":[]}', "x", Buffer.from([0x22, 0xff, 0x22])];
  const outcome = run(plugin, {}, input);
  assert.deepEqual(outcome.emitted.map(({ offset, child, payload }) => [offset, child, payload]), [
    [1, 0, "[1,2]"],
    [3, 0, '{"a":1}'],
    [3, 1, '{"a":2}'],
  ]);
  assert.deepEqual(outcome.failed.map(({ row, reason }) => [row, reason.slice(0, 19)]), [
    [2, "it is bad"],
    [5, "payload: Unexpected"],
    [6, "payload: not UTF-8 "],
  ]);
  assert.equal(outcome.dropped, 2);
});

test("an exception over columns costs the record at which it was thrown", () => {
  const plugin = byColumn({
    configure: (_, setup) => setup.field("a"),
    process: (rows, a) => rows.setText(a, rows.text(a).map((text) => text.repeat(text === "x" ? -1 : 2))),
  });
  const outcome = run(plugin, {}, ['{"a":"b"}', '{"a":"x"}', "{}"]);
  assert.deepEqual(outcome.rows, ['{"a":"bb"}', "{}"]);
  assert.match(outcome.failed[0].reason, /^RangeError: .*\[offset 1\]/);
});

test("numbers are written as JSON.stringify writes them", () => {
  const written = (value) => {
    const plugin = byColumn({
      configure: (_, setup) => setup.field("a"),
      process: (rows, a) => rows.setNumbers(a, value),
    });
    return run(plugin, {}, value.map(() => "{}"));
  };
  assert.deepEqual(written([1, -7, 2 ** 53 - 1, -(2 ** 40) - 1]).rows, ['{"a":1}', '{"a":-7}', '{"a":9007199254740991}', '{"a":-1099511627777}']);
  assert.deepEqual(written([0.5, undefined, null, REMOVE]).rows, ['{"a":0.5}', "{}", '{"a":null}', "{}"]);
  assert.deepEqual(written([2, 0.25]).rows, ['{"a":2}', '{"a":0.25}']);
  assert.deepEqual(written([2, NaN]).failed.map(({ row }) => row), [1]);
  assert.deepEqual(written([0.5, Infinity]).failed.map(({ row }) => row), [1]);
});

test("what is written in the wrong shape is refused with what would be right", () => {
  const failing = (process) => run(byColumn({ configure: (_, setup) => setup.field("a"), process }), {}, ["{}"]).failed[0].reason;
  assert.match(failing((rows, a) => rows.setText(a, [])), /setText takes 1 entries.* got 0/);
  assert.match(failing((rows, a) => rows.setText(a, [7])), /setText cannot take number 7 \(row 0\)/);
  assert.match(failing((rows, a) => rows.setInts(a, [1.5])), /setInts cannot take number 1.5/);
  assert.match(failing((rows, a) => rows.setInts(a, [2n ** 63n])), /64 bits/);
  assert.match(failing((rows) => rows.fail(1, "x")), /no row 1/);
  assert.match(failing(async () => {}), /promise/);
});

test("a config is read strictly", () => {
  const plugin = byColumn({ configure: (config) => readConfig(config, { word: "x", times: Number }), process() {} });
  assert.equal(refusal(plugin, { wrod: "a", times: 1 }), 'unknown key "wrod"; did you mean "word"?');
  assert.equal(refusal(plugin, {}), '"times" is missing: a number');
  assert.equal(refusal(plugin, { times: "3" }), '"times" is "3", but must be a number');
  assert.throws(() => run(plugin, { zzzzzz: 1 }, []), Refusal);
  assert.throws(() => refusal(plugin, { times: 3 }), /accepted/);
});

test("rows cannot be used after the call, and what was not emitted is given back", () => {
  let kept;
  const chain = new Chain({ payloads: ["{}"] });
  const raw = chain.enter([]);
  const plugin = {
    process(rows) {
      kept = rows.derive([0, 0]);
      rows.emit(rows.derive([0]));
    },
  };
  call(plugin, raw, chain.imports, undefined);
  assert.equal(chain.disposed, 1);
  assert.throws(() => kept.payloads(), /after they were emitted/);
});

test("in a host everything that is thrown is a string, and console goes to the log", () => {
  const lines = [];
  const console = globalThis.console;
  const fields = { field: () => 0, output: () => 0, secret: () => "", file: () => new Uint8Array(0) };
  const host = { records: {}, setup: fields, log: { write: (level, message) => lines.push([level, message]) } };
  try {
    const thrown = (plugin) => {
      try {
        guest(plugin, host).configure("{}");
      } catch (reason) {
        return reason;
      }
      return undefined;
    };
    assert.equal(typeof thrown(byColumn({ configure() { throw new Error("no"); }, process() {} })), "string");
    assert.equal(thrown(byColumn({ configure() { throw "plain"; }, process() {} })), "plain");
    assert.match(thrown({}), /export default/);
    assert.equal(thrown(byColumn({ configure() { globalThis.console.warn("a", { b: 1 }); log.info(2n); }, process() {} })), undefined);
    assert.deepEqual(lines, [["warn", 'a {"b":1}'], ["info", "2"]]);
  } finally {
    globalThis.console = console;
  }
});

test("random numbers are the same on every attempt", () => {
  const plugin = byColumn({
    configure: (_, setup) => setup.field("r"),
    process: (rows, r) => rows.setNumbers(r, Array.from({ length: rows.length }, Math.random)),
  });
  const once = run(plugin, {}, ["{}", "{}"]).rows;
  assert.deepEqual(run(plugin, {}, ["{}", "{}"]).rows, once);
  assert.notEqual(once[0], once[1]);
  for (const row of once) assert.ok(JSON.parse(row).r >= 0 && JSON.parse(row).r < 1);
});
