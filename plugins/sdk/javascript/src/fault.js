// Exceptions as texts for people: message, where in the author's own files, and at which row.

/** The longest reason that a host keeps is 1 KiB; frames beyond these help nobody. */
const FRAMES = 8;

/** A record that makes no sense: it fails with exactly this reason, without a traceback. */
export class BadRecord extends Error {
  constructor(reason) {
    super(reason);
    this.name = "BadRecord";
  }
}

/** Frames of the author's code, innermost first, as `function (file:line:column)`. */
export function frames(stack) {
  const found = [];
  for (const line of String(stack ?? "").split("\n")) {
    const frame = /^\s*at (?:(.*?) \()?(?:file:\/\/)?([^()\s]+:\d+(?::\d+)?)\)?\s*$/.exec(line) ?? /^(.*?)@(.+:\d+:\d+)$/.exec(line);
    if (frame === null) continue;
    const place = located(frame[2]);
    if (place === undefined) continue;
    const name = (frame[1] ?? "").replace(/^.*[/$]/, "").replace(/<$/, "");
    found.push(name === "" || name === "<anonymous>" ? place : `${name} (${place})`);
    if (found.length === FRAMES) break;
  }
  return found;
}

let table;

/**
 * A build says which lines of the one module that it made came from where: as JSON, `files` and for each run of lines
 * the first, the number of the file (-1: not the author's), and the line there.
 */
export function setTable(json) {
  table = json;
}

/** Where that is in the author's files; `undefined` in the SDK's own and the engine's. */
function located(place) {
  const [, file, line] = /^(.*?):(\d+)(?::\d+)?$/.exec(place);
  if (table === undefined) return /\/(vendor\/wasmill|sdk\/javascript\/src)\/|^node:|^</.test(file) ? undefined : place;
  if (!file.endsWith("plugin.js")) return undefined;
  if (typeof table === "string") table = JSON.parse(table);
  const run = table.runs.findLast(([first]) => first <= line);
  if (run === undefined || run[1] < 0) return undefined;
  return `${table.files[run[1]]}:${run[2] + Number(line) - run[0]}`;
}

/** `error` as a text: its message, `where` it happened, and the frames. */
export function described(error, where) {
  if (error instanceof BadRecord) return error.message;
  let message;
  if (error instanceof Error) message = error.name === "Error" ? error.message : `${error.name}: ${error.message}`;
  else message = typeof error === "string" ? error : `thrown: ${String(error)}`;
  const trace = error instanceof Error ? frames(error.stack) : [];
  const place = trace.length === 0 ? "" : ` at ${trace.join(" < ")}`;
  return where === undefined ? message + place : `${message} [${where}]${place}`;
}
