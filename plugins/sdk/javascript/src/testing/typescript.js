// Runs a project's tests that are written in TypeScript: `node vendor/wasmill/testing/typescript.js test`. Node strips
// types itself from 22.18 on; before, esbuild makes modules of them: of node_modules, of the path, or the one that
// `wasmill plugin build --install` has fetched.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readdirSync, rmSync } from "node:fs";
import { homedir } from "node:os";
import { delimiter, join } from "node:path";

const dir = process.argv[2] ?? "test";
const sources = readdirSync(dir, { recursive: true }).filter((name) => name.endsWith(".test.ts")).map((name) => join(dir, name));
if (sources.length === 0) fail(`no *.test.ts in ${dir}`);

if (process.features.typescript) {
  run(process.execPath, ["--test", ...sources]);
} else {
  const out = join("build", "test");
  rmSync(out, { recursive: true, force: true });
  mkdirSync(out, { recursive: true });
  const flags = ["--bundle", "--platform=node", "--format=esm", "--sourcemap=inline", "--log-level=warning"];
  run(esbuild(), [...sources, ...flags, `--outdir=${out}`, "--out-extension:.js=.mjs"]);
  const made = readdirSync(out, { recursive: true }).filter((name) => name.endsWith(".mjs"));
  run(process.execPath, ["--enable-source-maps", "--test", ...made.map((name) => join(out, name))]);
}

function esbuild() {
  const cache = join(process.env.XDG_CACHE_HOME || join(homedir(), ".cache"), "wasmill", "tools");
  const fetched = existsSync(cache) ? readdirSync(cache).filter((name) => name.startsWith("esbuild-")).sort() : [];
  const places = [
    join("node_modules", ".bin"),
    ...(process.env.PATH ?? "").split(delimiter),
    ...fetched.reverse().map((name) => join(cache, name, "node_modules", ".bin")),
  ];
  const found = places.map((place) => join(place, "esbuild")).find((file) => existsSync(file));
  return found ?? fail(`Node ${process.version} cannot read TypeScript and there is no esbuild: \`wasmill plugin build --install\` fetches it, or use Node 22.18 or newer`);
}

function run(program, parameters) {
  const { status, error } = spawnSync(program, parameters, { stdio: "inherit" });
  if (error) fail(`${program}: ${error.message}`);
  if (status !== 0) process.exit(status ?? 1);
}

function fail(message) {
  console.error(message);
  process.exit(1);
}
