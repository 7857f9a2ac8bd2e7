// The plugin's log. Outside a host it goes to `console`.

let sink = (level, message) => globalThis.console?.[level === "info" ? "log" : level]?.(message);

/** For guest.js and tests: where lines go. */
export function setLog(write) {
  sink = write;
}

const shown = (part) => {
  if (typeof part === "string") return part;
  if (part instanceof Error) return `${part.name}: ${part.message}`;
  try {
    return JSON.stringify(part) ?? String(part);
  } catch {
    return String(part);
  }
};
const at = (level) => (...parts) => sink(level, parts.map(shown).join(" "));

export const log = { debug: at("debug"), info: at("info"), warn: at("warn"), error: at("error") };
