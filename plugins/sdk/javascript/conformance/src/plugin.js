// What `plugins/sdk/conformance/README.md` asks for, in JavaScript.

import { byColumn, byRecord } from "#wasmill";

const raise = byRecord({
  record(record) {
    if (typeof record.text === "string" && record.text.startsWith("boom")) throw new Error(`cannot work on ${record.text}`);
    return record;
  },
});

/** How many Unicode scalar values: a loop, since iterators and patterns are slow where nothing is compiled. */
function scalars(text) {
  let count = text.length;
  for (let at = 1; at < text.length; at++) {
    if ((text.charCodeAt(at) & 0xfc00) === 0xdc00) count--;
  }
  return count;
}

/** What is done at a record whose `text` is `now`. */
function atNow(work) {
  return {
    configure: (setup) => ({ text: setup.field("text") }),
    process(rows, { text }) {
      const texts = rows.text(text);
      for (let row = 0; row < texts.length; row++) if (texts.get(row) === "now") work(rows, text, row);
    },
  };
}

const WORK = {
  pass: { process() {} },

  filter: {
    configure: (setup) => ({ n: setup.field("n") }),
    process(rows, { n }) {
      rows.keep(rows.ints(n).toArray().map((value) => value !== undefined && value % 2n === 0n));
    },
  },

  map: {
    configure: (setup) => ({
      name: setup.field("user", "name"),
      greeting: setup.field("greeting"),
      length: setup.field("length"),
      n: setup.field("n"),
      x: setup.field("x"),
      half: setup.field("half"),
    }),
    process(rows, { name, greeting, length, n, x, half }) {
      const names = rows.text(name);
      rows.setText(greeting, names.map((name) => `hello, ${name}`));
      rows.setNumbers(length, names.map(scalars));
      rows.setInts(n, rows.ints(n).map((value) => value * 2n));
      rows.setNumbers(half, rows.numbers(x).map((value) => value / 2));
    },
  },

  split: {
    configure: (setup) => ({ text: setup.field("text") }),
    process(rows, { text }) {
      const [sources, words] = [[], []];
      const keep = Array.from(rows.text(text), (value, row) => {
        const found = value?.split(" ").filter((word) => word !== "") ?? [];
        for (const word of found) {
          sources.push(row);
          words.push(word);
        }
        // Rows that others come of are replaced; what has no word is dropped.
        return value === undefined || found.length > 0;
      });
      const derived = rows.derive(sources);
      derived.setText(text, words);
      rows.keep(keep);
      rows.emit(derived);
    },
  },

  enrich: {
    configure(setup) {
      const lines = setup.fileText("cities.csv").split("\n").filter((line) => line.includes(","));
      const cities = new Map(lines.map((line) => [line.slice(0, line.indexOf(",")), line.slice(line.indexOf(",") + 1)]));
      return { code: setup.field("code"), city: setup.field("city"), cities };
    },
    process(rows, { code, city, cities }) {
      rows.setText(city, rows.text(code).map((code) => cities.get(code)));
    },
  },

  check: {
    configure: (setup) => ({ n: setup.field("n"), double: setup.field("double") }),
    process(rows, { n, double }) {
      const numbers = rows.ints(n);
      rows.setInts(double, numbers.map((value) => value * 2n));
      for (let row = 0; row < numbers.length; row++) if (numbers.get(row) === undefined) rows.fail(row, "n is no integer");
    },
  },

  raise: { process: (rows) => raise.process(rows) },

  // Nothing in JavaScript aborts, but the host traps whoever writes to a field that was never declared.
  trap: atNow((rows) => rows.setText(1_000_000, new Array(rows.length))),

  loop: atNow(() => {
    for (;;);
  }),

  hoard: atNow(() => {
    const hoard = [];
    for (;;) hoard.push(new Uint8Array(1 << 20).fill(1));
  }),

  flood: atNow((rows, text, row) => {
    const values = new Array(rows.length);
    values[row] = "x".repeat(20 << 20);
    rows.setText(text, values);
  }),
};

export default byColumn({
  configure(config, setup) {
    const work = Object.hasOwn(WORK, config.do) ? WORK[config.do] : undefined;
    if (work === undefined) throw new Error(`do is ${JSON.stringify(config.do)}, which is nothing that this plugin does`);
    return { work, fields: work.configure?.(setup) };
  },
  process(rows, { work, fields }) {
    work.process(rows, fields);
  },
});
