// Lambda functions of Firehose: the cases that all SDKs share, and functions as they are written everywhere.

import assert from "node:assert/strict";
import { mkdtempSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";

import { handler as upper } from "../functions/upper.mjs";
import { decodeBase64, decodeLeniently, encodeBase64 } from "../src/base64.js";
import { guest } from "../src/guest.js";
import { lambda } from "../src/lambda.js";
import { Buffer as Shim } from "../src/node.js";
import { Promises } from "../src/promise.js";
import { Chain } from "../src/testing/chunk.js";
import { Refusal, cases, refusal, run } from "../src/testing/index.js";

const table = JSON.parse(readFileSync(new URL("../../conformance/lambda.json", import.meta.url), "utf8"));
const clean = createRequire(import.meta.url)("../functions/clean.cjs");

/** With the ids that stand for `#0` and so on. */
function withIds(value, ids) {
  return JSON.parse(JSON.stringify(value), (_, text) => (typeof text === "string" && text.startsWith("#") ? ids[Number(text.slice(1))] : text));
}

const tick = () => new Promise((resolve) => setImmediate(resolve));

/** The function of a case in the ways in which functions are written. */
const WAYS = {
  "that returns": (work) => (event) => work(event),
  "that is async": (work) => async (event) => {
    await tick();
    return work(event);
  },
  "with a callback": (work) => (event, _, callback) => {
    setImmediate(() => {
      try {
        callback(null, work(event));
      } catch (error) {
        callback(error);
      }
    });
  },
};

for (const [way, made] of Object.entries(WAYS)) {
  for (const one of table.cases) {
    test(`${one.name}, by a function ${way}`, async () => {
      const events = [];
      const handler = made((event) => {
        events.push(structuredClone(event));
        if (one.throws_at === undefined) return withIds(one.answer, event.records.map(({ recordId }) => recordId));
        for (const { data } of event.records) if (atob(data) === one.throws_at) throw new TypeError(`cannot work on ${one.throws_at}`);
        return { records: event.records.map((record) => ({ ...record, result: "Ok" })) };
      });
      const outcome = await run(lambda(handler), one.config ?? {}, one.records, { chunkRows: one.chunk_rows });
      if (one.events !== undefined) assert.deepEqual(events, one.events);
      const rows = outcome.emitted.map(({ offset, payload, partition }) =>
        Object.keys(partition).length === 0 ? [offset, payload] : [offset, payload, partition],
      );
      assert.deepEqual(rows, one.rows ?? []);
      const failed = Object.entries(one.failed ?? {}).map(([row, reason]) => ({ row: Number(row), reason }));
      assert.deepEqual(outcome.failed.map(({ row }) => row), failed.map(({ row }) => row));
      failed.forEach(({ reason }, at) => {
        const came = outcome.failed[at].reason;
        if (!reason.endsWith("...")) assert.equal(came, reason);
        else assert.ok(came.startsWith(`${reason.slice(0, -3)}TypeError: cannot work on ${one.throws_at}`), came);
      });
    });
  }
}

test("a module of Node's own kind runs unchanged", async () => {
  const records = ['{"id":1,"country":"de"}', '{"internal":true}', "nonsense", '{"id":2,"country":"ü"}'];
  const outcome = await run(lambda(clean), { function_name: "clean" }, records);
  assert.deepEqual(outcome.rows, [
    '{"id":1,"country":"Germany","mode":"plain"}\n',
    '{"id":2,"country":"elsewhere","mode":"plain"}\n',
  ]);
  assert.deepEqual(outcome.emitted.map(({ partition }) => partition), [{ country: "Germany" }, { country: "elsewhere" }]);
  assert.deepEqual(outcome.failed, [{ row: 2, reason: "Lambda.ProcessingFailedStatus: ProcessingFailed status set for record" }]);
  assert.equal(outcome.dropped, 1);
});

test("a function with a callback runs unchanged", async () => {
  assert.deepEqual((await run(lambda(upper), {}, ["a", "b"])).rows, ["A", "B"]);
});

test("a context has what functions ask for", async () => {
  const seen = [];
  const handler = (event, context) => {
    seen.push([context.awsRequestId === event.invocationId, context.functionName, context.getRemainingTimeInMillis()]);
    context.succeed({ records: [] });
  };
  await run(lambda(handler), { function_name: "f" }, ["a"]);
  assert.deepEqual(seen, [[true, "f", 300000]]);
  const failing = (_, context) => context.fail("no use");
  assert.equal((await run(lambda(failing), {}, ["a"])).failed[0].reason, "Lambda.FunctionError: no use");
});

test("what is no function, and a config that is none, are refused", async () => {
  assert.throws(() => lambda({ handle() {} }), /exports it as `handler`/);
  assert.equal(refusal(lambda(clean), { stream_anr: "x" }), 'unknown key "stream_anr"; did you mean "stream_arn"?');
  await assert.rejects(run(lambda(clean), { region: 7 }, ["a"]), Refusal);
});

test("an error names the line of the function", async () => {
  const handler = async (event) => {
    await tick();
    return event.nothing.length;
  };
  const { failed } = await run(lambda(handler), {}, ["a"]);
  assert.match(failed[0].reason, /^Lambda\.FunctionError: TypeError: .* at (?:handler )?\(?.*lambda\.test\.js:\d+/);
});

test("in a host a call ends when what it promises does, and everything that it throws is a string", async () => {
  const console = globalThis.console;
  try {
    const setup = { field: () => 0, output: () => 0, secret: () => "", file: () => new Uint8Array(0) };
    const chain = new Chain({ payloads: ["a"] });
    const raw = chain.enter([]);
    const host = { records: chain.imports, setup, log: { write() {} } };
    const random = Math.random;
    const plugin = guest(lambda(async ({ records }) => ({ records: [{ ...records[0], result: "Ok", data: "QQ==" }] })), host);
    plugin.configure("{}");
    assert.equal(await plugin.process(raw), undefined);
    assert.equal(Math.random, random);
    chain.apply();
    assert.deepEqual(chain.finish().rows.map(({ payload }) => payload), ["A"]);
    const failing = guest(lambda(() => Promise.reject(new RangeError("too far"))), host);
    failing.configure("{}");
    await assert.rejects(failing.process(chain.enter([])), (error) => /^Lambda\.FunctionError: RangeError: too far/.test(error));
  } finally {
    globalThis.console = console;
  }
});

test("case folders are waited for", async () => {
  const root = mkdtempSync(join(tmpdir(), "wasmill-lambda-"));
  mkdirSync(join(root, "one"));
  writeFileSync(join(root, "one/config.json"), "{}");
  writeFileSync(join(root, "one/input.ndjson"), "a\nb\n");
  writeFileSync(join(root, "one/expected.ndjson"), "A\nB\n");
  await cases(lambda(upper), root);
  writeFileSync(join(root, "one/expected.ndjson"), "A\nX\n");
  await assert.rejects(async () => cases(lambda(upper), root), /one: expected\.ndjson/);
});

test("what is made of Node is as Node's, where an engine has nothing", () => {
  const bytes = Uint8Array.from({ length: 256 }, (_, at) => at);
  const texts = ["", "a", "ab", "abc", "é€😀\ud800", "//8=", "__8", "Q Q=\n=", "QUJD", "0aff", "0af"];
  for (const encoding of ["utf8", "base64", "base64url", "hex", "latin1", "ascii", "binary", "UTF-8"]) {
    for (const text of texts) assert.deepEqual([...Shim.from(text, encoding)], [...Buffer.from(text, encoding)], `${encoding} ${text}`);
    for (let length = 0; length < 8; length++) {
      const some = bytes.subarray(97, 97 + length);
      assert.equal(Shim.from(some).toString(encoding), Buffer.from(some).toString(encoding));
    }
    assert.equal(Shim.from(bytes).toString(encoding), Buffer.from(bytes).toString(encoding));
  }
  const whole = Shim.concat([Shim.from("ab"), Shim.alloc(2), Shim.alloc(3, "xy")]);
  assert.deepEqual([whole.toString("hex"), whole.length, Shim.isBuffer(whole)], ["61620000787978", 7, true]);
  assert.equal(JSON.stringify(Shim.from(JSON.parse(JSON.stringify(whole)))), JSON.stringify(Buffer.from("61620000787978", "hex")));
  assert.deepEqual([whole.slice(0, 2).toString(), whole.subarray(4).toString(), Shim.byteLength("é")], ["ab", "xyx", 2]);
  assert.ok(whole.equals(Buffer.from(whole)) && !whole.equals(bytes));
  assert.throws(() => Shim.from("a", "utf7"), /Unknown encoding: utf7/);
  assert.throws(() => Shim.from(7), /number/);
});

test("base64 is the same by whatever an engine has", () => {
  const bytes = Uint8Array.from({ length: 300 }, (_, at) => (at * 7) % 256);
  const [to, from] = [globalThis.btoa, globalThis.atob];
  const results = [];
  try {
    for (const has of [true, false]) {
      [globalThis.btoa, globalThis.atob] = has ? [to, from] : [undefined, undefined];
      results.push(
        [0, 1, 2, 3, 300].map((length) => {
          const text = encodeBase64(bytes.subarray(0, length));
          assert.deepEqual(decodeBase64(text), bytes.slice(0, length));
          return text;
        }),
      );
      for (const wrong of ["A", "AA", "AAA", "AA=A", "====", "A===", "AA==AA==", "AA= ", "A-_A", "ÄAAA"]) {
        assert.equal(decodeBase64(wrong), undefined, wrong);
      }
      assert.deepEqual(decodeLeniently("-_-_A"), decodeBase64("+/+/"));
    }
  } finally {
    [globalThis.btoa, globalThis.atob] = [to, from];
  }
  assert.deepEqual(results[0], results[1]);
});

// What a program does is written down as it happens; on both kinds of promises it must be the same.
const PROGRAMS = {
  order: (P, say) => {
    say("a");
    P.resolve(1).then((value) => say(value)).then(() => say("c"));
    new P((resolve) => resolve(P.resolve(2))).then(say);
    P.resolve(3).then(say).finally(() => say("f"));
    say("b");
  },
  failing: (P, say) => {
    const error = new Error("no");
    P.reject(error).catch((came) => say(came === error)).then(say);
    new P(() => { throw error; }).finally(() => 7).then(say, (came) => say(came.message));
    P.resolve(1).then(() => { throw error; }).then(say).catch((came) => say(came.message));
    P.resolve(1).finally(() => { throw error; }).catch((came) => say(`finally ${came.message}`));
    P.reject(1).finally(5).then(undefined, say);
  },
  once: (P, say) => {
    new P((resolve, reject) => { resolve(1); reject(2); resolve(3); throw 4; }).then(say, say);
    new P((resolve) => resolve({ then(resolve, reject) { resolve("thenable"); reject("x"); throw 1; } })).then(say);
    P.resolve({ get then() { throw "bad then"; } }).catch(say);
    let self;
    (self = new P((resolve) => P.resolve().then(() => resolve(self)))).catch((error) => say(error.constructor.name));
  },
  many: (P, say) => {
    const shown = (value) => say(JSON.stringify(value));
    P.all([1, P.resolve(2), { then: (resolve) => resolve(3) }]).then(shown);
    P.all([]).then(shown);
    P.all([P.reject("r"), 2]).catch(say);
    P.allSettled([1, P.reject("r")]).then(shown);
    P.any([P.reject("r"), 5]).then(say);
    P.any([P.reject("r"), P.reject("s")]).catch((error) => shown(error.errors));
    P.race([new P(() => {}), 6, 7]).then(say);
    P.all(7).catch((error) => say(error.constructor.name));
  },
};

test("promises of the SDK's own are as those of the language", async () => {
  for (const [name, program] of Object.entries(PROGRAMS)) {
    const [theirs, ours] = [[], []];
    program(Promise, (value) => void theirs.push(value));
    program(Promises, (value) => void ours.push(value));
    await tick();
    Promises.ended(undefined);
    assert.ok(theirs.length > 3);
    assert.deepEqual(ours, theirs, name);
  }
  assert.throws(() => new Promises(7), TypeError);
  assert.equal(Promises.ended(Promises.try((value) => value + 1, 1).then((value) => value * 2)), 4);
  const { promise, resolve } = Promises.withResolvers();
  assert.throws(() => Promises.ended(promise), /never comes/);
  resolve(P(5));
  assert.equal(Promises.ended(promise), 5);
  assert.throws(() => Promises.ended(Promises.reject(new RangeError("x"))), RangeError);
  assert.equal(String(promise), "[object Promise]");
});

const P = (value) => Promises.resolve(value);
