// JSON texts with the places of their values, and edits of them that leave every other byte alone. Texts are latin1
// strings here: a character for each byte.

const DEPTH_MAX = 127;

/** `undefined` if it is no JSON in UTF-8. */
export function parse(text) {
  try {
    new TextDecoder("utf-8", { fatal: true }).decode(Buffer.from(text, "latin1"));
    const reader = new Reader(text);
    const value = reader.value(0);
    reader.space();
    return reader.at === text.length ? value : undefined;
  } catch (error) {
    if (error instanceof SyntaxError || error instanceof TypeError) return undefined;
    throw error;
  }
}

class Reader {
  constructor(text) {
    this.text = text;
    this.at = 0;
  }

  space() {
    this.#take(/[ \t\n\r]*/y);
  }

  #take(pattern) {
    pattern.lastIndex = this.at;
    const found = pattern.exec(this.text);
    if (found === null) throw new SyntaxError("no JSON");
    this.at = pattern.lastIndex;
    return found[0];
  }

  value(depth) {
    this.space();
    const start = this.at;
    const done = (kind, more) => ({ kind, start, end: this.at, text: this.text.slice(start, this.at), ...more });
    switch (this.text[this.at]) {
      case "{":
        return done("object", { members: this.#members(depth + 1) });
      case "[":
        this.#items(depth + 1);
        return done("array");
      case '"':
        this.#string();
        return done("string");
      case "t":
      case "f":
      case "n":
        return done(this.#take(/true|false|null/y) === "null" ? "null" : "boolean");
      default:
        this.#take(/-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?/y);
        return done("number");
    }
  }

  #string() {
    return this.#take(/"(?:[^"\\\x00-\x1f]|\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4}))*"/y);
  }

  #members(depth) {
    if (depth > DEPTH_MAX) throw new SyntaxError("too deep");
    const members = [];
    this.at++;
    this.space();
    if (this.text[this.at] === "}") {
      this.at++;
      return members;
    }
    for (;;) {
      this.space();
      const start = this.at;
      const key = unescaped(this.#string());
      this.space();
      this.#take(/:/y);
      const value = this.value(depth);
      members.push({ key, start, end: this.at, value });
      this.space();
      if (this.#take(/[,}]/y) === "}") return members;
    }
  }

  #items(depth) {
    if (depth > DEPTH_MAX) throw new SyntaxError("too deep");
    this.at++;
    this.space();
    if (this.text[this.at] === "]") {
      this.at++;
      return;
    }
    for (;;) {
      this.value(depth);
      this.space();
      if (this.#take(/[,\]]/y) === "]") return;
    }
  }
}

/** The UTF-8 (as latin1) of a JSON string; lone surrogates become U+FFFD. */
export function unescaped(json) {
  const text = JSON.parse(Buffer.from(json, "latin1").toString("utf8"));
  return Buffer.from(text, "utf8").toString("latin1");
}

/** The value at a path, by the last occurrence of each key. */
export function find(root, path) {
  let value = root;
  for (const key of path) {
    if (value?.kind !== "object") return undefined;
    value = last(value, key)?.value;
  }
  return value;
}

const last = (object, key) => object.members.findLast((member) => member.key === key);

/** The text with the value at the path set; throws a string that says why it cannot be. */
export function set(text, path, value) {
  const root = parse(text);
  if (root?.kind !== "object") throw "the payload is no JSON object";
  let object = root;
  for (let level = 0; ; level++) {
    const member = last(object, path[level]);
    if (member === undefined) {
      const inside = path.slice(level + 1).reduceRight((inner, key) => `{${quoted(key)}:${inner}}`, value);
      return deep(append(without(root, text, path, undefined, object), `${quoted(path[level])}:${inside}`));
    }
    if (level === path.length - 1) {
      const { text: rest, mark } = without(root, text, path, member, undefined);
      return deep(rest.slice(0, mark) + value + rest.slice(mark + member.value.text.length));
    }
    object = member.value;
    if (object.kind !== "object") throw `a value on the way to ${path.join(".")} is no object`;
  }
}

function deep(text) {
  if (parse(text) === undefined) throw "the value makes the payload no JSON";
  return text;
}

function append({ text, mark, empty }, member) {
  return `${text.slice(0, mark)}${empty ? "" : ","}${member}${text.slice(mark)}`;
}

/** The text without every member that the path reaches. */
export function remove(text, path) {
  const root = parse(text);
  return root?.kind === "object" ? without(root, text, path).text : text;
}

/**
 * The text without the members that the path reaches, but `kept`. `mark` is where in the new text the value of
 * `kept` begins, or where a member may be appended to `object`.
 */
function without(root, text, path, kept, object) {
  const cuts = [];
  let marked = kept?.value.start;
  let empty = false;
  const visit = (value, level) => {
    if (value.kind !== "object") return;
    const { members } = value;
    const gone = (member) => level === path.length - 1 && member.key === path[level] && member !== kept;
    const first = members.findIndex((member) => !gone(member));
    if (members.length > 0 && first < 0) cuts.push([members[0].start, members.at(-1).end]);
    if (first > 0) cuts.push([members[0].start, members[first].start]);
    for (let at = first + 1; first >= 0 && at < members.length; at++) {
      if (gone(members[at])) cuts.push([members[at - 1].end, members[at].end]);
    }
    if (value === object) {
      empty = first < 0;
      marked = members.length === 0 ? value.start + 1 : members.at(-1).end;
    }
    for (const member of members) {
      if (level < path.length - 1 && member.key === path[level]) visit(member.value, level + 1);
    }
  };
  visit(root, 0);
  cuts.sort((a, b) => a[0] - b[0]);
  let [rest, from, mark] = ["", 0, marked];
  for (const [start, end] of cuts) {
    rest += text.slice(from, start);
    if (end <= marked) mark -= end - start;
    from = end;
  }
  return { text: rest + text.slice(from), mark, empty };
}

const SHORT = { '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** A JSON string of UTF-8 (as latin1). */
export function quoted(text) {
  const escape = (byte) => SHORT[byte] ?? `\\u${byte.charCodeAt(0).toString(16).padStart(4, "0")}`;
  return `"${text.replace(/["\\\x00-\x1f]/g, escape)}"`;
}

/** The shortest text that reads as the same float: with a point or an exponent. */
export function float(value) {
  if (Object.is(value, -0)) return "-0.0";
  if (value === 0) return "0.0";
  const [, sign, first, rest = "", exponent] = /^(-?)(\d)(?:\.(\d+))?e([+-]\d+)$/.exec(value.toExponential());
  const [digits, power] = [first + rest, Number(exponent)];
  if (power >= 16 || power < -5) {
    return `${sign}${first}${rest === "" ? "" : `.${rest}`}e${power < 0 ? "-" : "+"}${Math.abs(power)}`;
  }
  if (power < 0) return `${sign}0.${"0".repeat(-power - 1)}${digits}`;
  if (digits.length <= power + 1) return `${sign}${digits.padEnd(power + 1, "0")}.0`;
  return `${sign}${digits.slice(0, power + 1)}.${digits.slice(power + 1)}`;
}
