// Case folders mean to this runner what they mean to the others: the folders of plugins/sdk/conformance/format.

import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

import { byColumn } from "../src/index.js";
import { cases } from "../src/testing/index.js";

const FORMAT = fileURLToPath(new URL("../../conformance/format", import.meta.url));

/** What the cases of the format are run through. */
const format = byColumn({
  configure(config, setup) {
    if (config.refuse !== undefined) throw config.refuse;
    if (config.file !== undefined) throw setup.fileText(config.file);
    return { remembers: false };
  },
  process(rows, state) {
    const remembered = state.remembers;
    const records = rows.payloads().toArray();
    records.forEach((record, row) => {
      if (record.startsWith("fail ")) rows.fail(row, record.slice("fail ".length));
      if (record !== "remember") return;
      state.remembers = true;
      if (remembered) rows.fail(row, "there was one in an earlier call");
    });
    rows.keep(records.map((record) => record !== "drop"));
  },
});

test("folders mean what the format says", () => {
  cases(format, join(FORMAT, "pass"));
  const failing = readdirSync(join(FORMAT, "fail"));
  assert.ok(failing.length > 30);
  for (const name of failing) {
    const dir = join(FORMAT, "fail", name);
    const says = readFileSync(join(dir, "says.txt"), "utf8").trim();
    assert.throws(() => cases(format, dir), (error) => error.message.includes(says), `${name}, wanted ${says}`);
  }
});

test("what is blessed fits from then on, and what fits stays", () => {
  const dir = mkdtempSync(join(tmpdir(), "wasmill-cases-"));
  const file = (name) => join(dir, "one", name);
  const bless = () => {
    process.env.BLESS = "1";
    try {
      cases(format, dir);
    } finally {
      delete process.env.BLESS;
    }
  };
  try {
    mkdirSync(join(dir, "one"));
    for (const [config, records] of [["{}", 'a\r\nfail "so"\n'], ['{"refuse":"never"}', "a\n"], ["{}", "drop\n"]]) {
      writeFileSync(file("config.json"), config);
      writeFileSync(file("input.txt"), records);
      bless();
      cases(format, dir);
    }
    assert.deepEqual(readdirSync(join(dir, "one")).sort(), ["config.json", "expected.ndjson", "input.txt"]);
    writeFileSync(file("input.txt"), "fail odd\n");
    writeFileSync(file("dead-letters.ndjson"), '{"offset":0}\n');
    bless();
    assert.equal(readFileSync(file("dead-letters.ndjson"), "utf8"), '{"offset":0}\n');
  } finally {
    rmSync(dir, { recursive: true });
  }
});
