// Columns as read: one value per row, and where there is none, why.
//
// Engines here interpret: what is done once for each row has to be a plain loop over plain arrays. So values are made all
// at once when the first is asked for, and there are no private fields (they cost several times as much to read).
// Properties that begin with an underscore are nobody's but this file's.

const MISSING = 0;
const NULL = 1;
const OTHER = 2;
const VALUE = 3;

/** One value per row; `undefined` where there is none of the type that was asked for. */
class Column {
  constructor(length, make) {
    this.length = length;
    this._make = make;
    this._values = undefined;
  }

  /** All values. The array is the column's own: not to be changed. */
  toArray() {
    return this._values === undefined ? (this._values = this._make()) : this._values;
  }

  get(row) {
    return (this._values === undefined ? this.toArray() : this._values)[row];
  }

  /** What `work` makes of each value; `undefined` where there is none. An exception is told with its row. */
  map(work) {
    const values = this.toArray();
    const length = values.length;
    const made = new Array(length);
    let row = 0;
    try {
      for (; row < length; row++) {
        const value = values[row];
        made[row] = value === undefined ? undefined : work(value, row);
      }
    } catch (error) {
      throw new AtRow(row, error);
    }
    return made;
  }

  [Symbol.iterator]() {
    return this.toArray()[Symbol.iterator]();
  }

  /** Nothing is there. */
  isMissing(row) {
    return this.states()[row] === MISSING;
  }

  isNull(row) {
    return this.states()[row] === NULL;
  }

  /** There is a value, but of another type. */
  isOther(row) {
    return this.states()[row] === OTHER;
  }
}

/** An exception and the row at which it was thrown; `where` is for whoever reads of it. */
export class AtRow {
  constructor(row, error) {
    this.row = row;
    this.error = error;
  }
}

/** Strings of JSON, or any bytes. Without states every row has a value. */
export class Texts extends Column {
  constructor(states, strings, length) {
    super(length, () => strings.texts(states));
    this._states = states;
    this._strings = strings;
  }

  states() {
    return this._states === undefined ? (this._states = new Uint8Array(this.length).fill(VALUE)) : this._states;
  }

  /** Without a look at whether it is UTF-8. */
  bytes(row) {
    return this.states()[row] === VALUE ? this._strings.bytes(row) : undefined;
  }
}

/** Strings that the host made; states are asked for only when somebody wants to know. */
export class HostStrings extends Column {
  constructor(values, ask) {
    // Engines differ in what stands for none.
    super(values.length, () => values.map((value) => (value === null ? undefined : value)));
    this._ask = ask;
    this._states = undefined;
  }

  states() {
    return this._states === undefined ? (this._states = this._ask()) : this._states;
  }
}

/** Numbers, or of `ints` bigints. */
export class Numbers extends Column {
  constructor({ state, values }) {
    super(state.length, () => {
      const made = new Array(state.length);
      for (let row = 0; row < made.length; row++) made[row] = state[row] === VALUE ? values[row] : undefined;
      return made;
    });
    this._states = state;
  }

  states() {
    return this._states;
  }
}

/** Any JSON value, parsed. `null` is a value here. */
export class Values extends Column {
  constructor(raw) {
    super(raw.length, () => {
      const made = raw.map((json) => JSON.parse(json));
      const states = raw.states();
      for (let row = 0; row < made.length; row++) if (states[row] === NULL) made[row] = null;
      return made;
    });
    this._raw = raw;
  }

  states() {
    return this._raw.states();
  }
}
