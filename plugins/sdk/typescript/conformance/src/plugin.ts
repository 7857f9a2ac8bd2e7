// What `plugins/sdk/conformance/README.md` asks for, in TypeScript.

import { type Chunk, type Field, type Setup, byColumn, byRecord } from "#wasmill";

type Work = (rows: Chunk) => void;

interface Conformance {
  do: string;
}

interface Spoken {
  text?: unknown;
}

const raise = byRecord<Spoken, Spoken>({
  record(record) {
    if (typeof record.text === "string" && record.text.startsWith("boom")) throw new Error(`cannot work on ${record.text}`);
    return record;
  },
});

/** How many Unicode scalar values: a loop, since iterators and patterns are slow where nothing is compiled. */
function scalars(text: string): number {
  let count = text.length;
  for (let at = 1; at < text.length; at++) {
    if ((text.charCodeAt(at) & 0xfc00) === 0xdc00) count--;
  }
  return count;
}

/** What is done at a record whose `text` is `now`. */
function atNow(work: (rows: Chunk, text: Field, row: number) => void): (setup: Setup) => Work {
  return (setup) => {
    const text = setup.field("text");
    return (rows) => rows.text(text).toArray().forEach((value, row) => {
      if (value === "now") work(rows, text, row);
    });
  };
}

const WORKS: Record<string, (setup: Setup) => Work> = {
  pass: () => () => {},

  filter(setup) {
    const n = setup.field("n");
    return (rows) => rows.keep(rows.ints(n).toArray().map((value) => value !== undefined && value % 2n === 0n));
  },

  map(setup) {
    const [name, greeting, length] = [setup.field("user", "name"), setup.field("greeting"), setup.field("length")];
    const [n, x, half] = [setup.field("n"), setup.field("x"), setup.field("half")];
    return (rows) => {
      const names = rows.text(name);
      rows.setText(greeting, names.map((name) => `hello, ${name}`));
      rows.setNumbers(length, names.map(scalars));
      rows.setInts(n, rows.ints(n).map((value) => value * 2n));
      rows.setNumbers(half, rows.numbers(x).map((value) => value / 2));
    };
  },

  split(setup) {
    const text = setup.field("text");
    return (rows) => {
      const sources: number[] = [];
      const words: string[] = [];
      const keep = rows.text(text).toArray().map((value, row) => {
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
    };
  },

  enrich(setup) {
    const lines = setup.fileText("cities.csv").split("\n").filter((line) => line.includes(","));
    const cities = new Map(lines.map((line): [string, string] => [line.slice(0, line.indexOf(",")), line.slice(line.indexOf(",") + 1)]));
    const [code, city] = [setup.field("code"), setup.field("city")];
    return (rows) => rows.setText(city, rows.text(code).map((code) => cities.get(code)));
  },

  check(setup) {
    const [n, double] = [setup.field("n"), setup.field("double")];
    return (rows) => {
      const numbers = rows.ints(n);
      rows.setInts(double, numbers.map((value) => value * 2n));
      numbers.toArray().forEach((value, row) => {
        if (value === undefined) rows.fail(row, "n is no integer");
      });
    };
  },

  raise: () => (rows) => raise.process(rows, undefined as never),

  // Nothing in JavaScript aborts, but the host traps whoever writes to a field that was never declared.
  trap: atNow((rows) => rows.setText(1_000_000 as Field, new Array<undefined>(rows.length))),

  loop: atNow(() => {
    for (;;);
  }),

  hoard: atNow(() => {
    const hoard: Uint8Array[] = [];
    for (;;) hoard.push(new Uint8Array(1 << 20).fill(1));
  }),

  flood: atNow((rows, text, row) => {
    const values = new Array<string | undefined>(rows.length);
    values[row] = "x".repeat(20 << 20);
    rows.setText(text, values);
  }),
};

export default byColumn<Work>({
  configure(config: Conformance, setup) {
    const work = Object.hasOwn(WORKS, config.do) ? WORKS[config.do] : undefined;
    if (work === undefined) throw new Error(`do is ${JSON.stringify(config.do)}, which is nothing that this plugin does`);
    return work(setup);
  },
  process: (rows, work) => work(rows),
});
