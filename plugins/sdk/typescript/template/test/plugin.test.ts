import assert from "node:assert/strict";
import test from "node:test";

import { cases, refusal, run } from "#wasmill/testing";
import plugin from "../src/plugin.ts";

test("who has a name is greeted", () => {
  const outcome = run(plugin, { word: "good day" }, ['{"name":"Ada"}', "{}", '{"name":7}']);
  assert.deepEqual(outcome.rows, ['{"name":"Ada","greeting":"good day, Ada"}', "{}"]);
  assert.deepEqual(outcome.failed, [{ row: 2, reason: "name is no text" }]);
});

test("a word that is misspelt is refused", () => {
  assert.match(refusal(plugin, { wrod: "x" }), /wrod.*word/);
});

test("cases", () => cases(plugin, "cases"));
