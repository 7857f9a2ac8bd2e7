// Case folders: reads one, runs it in three ways that must agree, and compares what came with what is expected.
// It refuses what the runner of `wasmill plugin test` refuses, and takes what that takes.

import { existsSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { fileURLToPath } from "node:url";

import { told } from "../guest.js";
import { driven } from "./driven.js";
import { Refusal, run } from "./index.js";

const ROWS = "expected.ndjson";
const LETTERS = "dead-letters.ndjson";
const REFUSAL = "error.txt";

/** Why a case has failed. */
class Fault extends Error {}

/**
 * Runs every case folder below `folder` (a path or URL) and throws with all differences. A case is `config.json`, the
 * input (`input.ndjson` or `input.txt`, one record per line) and either `expected.ndjson` (the rows that leave, in the
 * order of their records) with `dead-letters.ndjson` (for each record that fails `{"offset":2,"reason":"…"}`;
 * `reason_contains` asks for a part, neither for any reason), or `error.txt` (the refusal; after a `~`, a part of it).
 * Files under `files/` are granted by their name. With `BLESS=1`, what came is written as what is expected, where it does
 * not fit. `wasmill plugin test` runs the same folders through the component. Of a plugin that waits it is a promise.
 */
export function cases(plugin, folder) {
  return driven(plugin, checks(plugin, folder));
}

function* checks(plugin, folder) {
  const root = folder instanceof URL ? fileURLToPath(folder) : folder;
  const names = readdirSync(root, { withFileTypes: true }).filter((entry) => entry.isDirectory());
  if (names.length === 0) throw new Error(`no case in ${root}`);
  const faults = [];
  for (const { name } of names.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    try {
      yield* check(plugin, `${root}/${name}`);
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      faults.push(`${name}: ${fault.message}`);
    }
  }
  if (faults.length > 0) throw new Error(faults.join("\n\n"));
}

function* check(plugin, dir) {
  const came = yield* runCase(plugin, dir);
  try {
    compare(dir, came);
  } catch (fault) {
    // What fits stays as it is written: it may ask for a part of a reason.
    if (!process.env.BLESS || !(fault instanceof Fault)) throw fault;
    bless(dir, came);
  }
}

/** What came: `refusal`, or `rows` and `letters` in the order of their records. */
function* runCase(plugin, dir) {
  const config = read(dir, "config.json");
  if (config === undefined) throw new Fault("no config.json");
  const [ndjson, txt] = [read(dir, "input.ndjson"), read(dir, "input.txt")];
  if (ndjson !== undefined && txt !== undefined) throw new Fault("input.ndjson and input.txt; only one can be");
  const records = lines(ndjson ?? txt);
  const files = {};
  if (existsSync(`${dir}/files`)) {
    for (const name of readdirSync(`${dir}/files`)) files[name] = readFileSync(`${dir}/files/${name}`);
  }
  const came = yield* outcome(plugin, config, records, { files });
  const ways = { "cut to single records": { chunkRows: 1 }, fresh: { chunkRows: 3, fresh: true } };
  for (const [way, options] of Object.entries(ways)) {
    const other = yield* outcome(plugin, config, records, { files, ...options });
    if (shown(other) !== shown(came)) {
      throw new Fault(`${way} differs\n--- at once\n${shown(came)}--- ${way}\n${shown(other)}`);
    }
  }
  return came;
}

function* outcome(plugin, config, records, options) {
  let came;
  try {
    came = yield run(plugin, parsed(config), records, options);
  } catch (error) {
    if (!(error instanceof Refusal)) throw error;
    return { refusal: error.message };
  }
  const rows = came.emitted.toSorted((a, b) => a.offset - b.offset || a.child - b.child);
  return { rows: rows.map(({ payload }) => payload), letters: came.failed };
}

/** The config as the component reads it; what is no JSON is refused there too. */
function parsed(config) {
  try {
    return told(() => (config === "" ? {} : JSON.parse(config)));
  } catch (reason) {
    throw new Refusal(reason);
  }
}

function compare(dir, came) {
  const [rows, letters, refusal] = [ROWS, LETTERS, REFUSAL].map((name) => read(dir, name));
  if (refusal !== undefined) {
    if (rows !== undefined || letters !== undefined) {
      throw new Fault(`${REFUSAL}, and expects records too; only one can be`);
    }
    if (came.refusal === undefined) throw new Fault(`the config must be refused (${refusal.trimEnd()}), and was taken`);
    const fits = refusal.startsWith("~")
      ? came.refusal.includes(refusal.slice(1).trim())
      : refusal.trimEnd() === came.refusal.trimEnd();
    if (!fits) throw differs(REFUSAL, refusal, `${came.refusal}\n`);
    return;
  }
  if (rows === undefined && letters === undefined) {
    throw new Fault(`none of ${ROWS}, ${LETTERS}, ${REFUSAL}; BLESS=1 writes them`);
  }
  if (came.refusal !== undefined) throw new Fault(`the config was refused: ${came.refusal}`);
  const wanted = lines(rows);
  if (wanted.length !== came.rows.length || wanted.some((row, at) => row !== came.rows[at])) {
    throw differs(ROWS, rows ?? "", text(came.rows));
  }
  const expected = lines(letters).map(readLetter);
  if (expected.length !== came.letters.length || !expected.every((letter, at) => fitsLetter(letter, came.letters[at]))) {
    throw differs(LETTERS, letters ?? "", written(came.letters));
  }
}

const differs = (name, wanted, got) => new Fault(`${name}\n--- expected\n${wanted}--- got\n${got}`);

const isText = (value) => value === undefined || value === null || typeof value === "string";

/** A record that is expected to fail. */
function readLetter(line, at) {
  const wrong = new Fault(`${LETTERS}:${at + 1}: a line is {"offset":2,"reason":"…"}`);
  let letter;
  try {
    letter = JSON.parse(line);
  } catch {
    throw wrong;
  }
  const { offset, reason, reason_contains: part, ...others } = letter ?? {};
  if (!Number.isInteger(offset) || !isText(reason) || !isText(part) || Object.keys(others).length > 0) throw wrong;
  return { offset, reason: reason ?? undefined, part: part ?? undefined };
}

const fitsLetter = (letter, { row, reason }) =>
  letter.offset === row &&
  (letter.reason === undefined || letter.reason === reason) &&
  (letter.part === undefined || reason.includes(letter.part));

function bless(dir, { refusal, rows, letters }) {
  const files = {
    // Rows are written down also where there are none: then it is said that none must come.
    [ROWS]: rows && text(rows),
    [LETTERS]: letters?.length > 0 ? written(letters) : undefined,
    [REFUSAL]: refusal === undefined ? undefined : `${refusal.trimEnd()}\n`,
  };
  for (const [name, content] of Object.entries(files)) {
    if (content === undefined) rmSync(`${dir}/${name}`, { force: true });
    else writeFileSync(`${dir}/${name}`, content);
  }
}

/** A file's text; `undefined` if there is no file. */
function read(dir, name) {
  const file = `${dir}/${name}`;
  if (!existsSync(file)) return undefined;
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(readFileSync(file));
  } catch (error) {
    throw new Fault(`read ${name}: ${error.message}`);
  }
}

/** Lines end with `\n` or `\r\n`. */
function lines(content = "") {
  const found = content.split("\n");
  const last = found.pop();
  return [...found.map((line) => (line.endsWith("\r") ? line.slice(0, -1) : line)), ...(last === "" ? [] : [last])];
}

const text = (lines) => lines.map((line) => `${line}\n`).join("");

const written = (letters) => text(letters.map(({ row, reason }) => JSON.stringify({ offset: row, reason })));

const shown = ({ refusal, rows, letters }) =>
  refusal === undefined ? text(rows) + written(letters) : `refused: ${refusal}\n`;
