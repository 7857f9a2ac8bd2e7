// What a plugin imports: how to define it, and the words that its columns are written with.
// It never touches the host: guest.js connects it, testing/ does without one.

export { byColumn, byRecord } from "./plugin.js";
export { Chunk, Setup } from "./chunk.js";
export { REMOVE } from "./write.js";
export { BadRecord } from "./fault.js";
export { readConfig } from "./config.js";
export { log } from "./log.js";
