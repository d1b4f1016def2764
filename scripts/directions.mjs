/**
 * Holds the rooms of lib/ to one direction: `node scripts/directions.mjs`. Reads every import, those
 * of types too, and fails on a circle of files or on an arrow that the table of rooms in
 * CONTRIBUTING.md forbids. There a room may import from the rooms below its own line, and from
 * itself; rooms on one line do not know each other.
 */
import { readdirSync, readFileSync } from "node:fs";
import { dirname, join, normalize } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const complaints = checkDirections();
  for (const complaint of complaints) console.error(complaint);
  if (complaints.length === 0) console.log("Every import goes down, and none goes round");
  process.exitCode = complaints.length === 0 ? 0 : 1;
}

/**
 * What is wrong with the imports of the files; nothing when all go down.
 *
 * @param {Map<string, string[]>} imports what each file imports, as {@linkcode readImports} has it
 * @param {string[][]} lines the rooms, top to bottom, as {@linkcode readRooms} has them
 * @returns {string[]}
 */
export function checkDirections(imports = readImports(), lines = readRooms()) {
  const files = [...imports.keys()];
  const homeless = files.filter((file) => lineOf(file, lines) === -1);
  const climbing = files.flatMap((file) =>
    (imports.get(file) ?? []).filter((target) => climbs(file, target, lines)).map((target) =>
      `${file} imports ${target}, which the table in CONTRIBUTING.md does not allow`
    )
  );
  return [
    ...homeless.map((file) => `${file} is in no room of the table in CONTRIBUTING.md`),
    ...climbing,
    ...circles(imports).map((circle) => `A circle: ${circle.join(" → ")}`),
  ];
}

/**
 * The rooms of the table in CONTRIBUTING.md, top to bottom; a line may hold several.
 *
 * @returns {string[][]}
 */
export function readRooms() {
  const text = readFileSync(join(root, "CONTRIBUTING.md"), "utf8");
  const table = text.slice(text.indexOf("<!-- rooms -->"), text.indexOf("<!-- end of rooms -->"));
  const rows = table.split("\n").filter((row) => row.startsWith("| `"));
  return rows.map((row) => {
    const names = row.split("|")[1] ?? "";
    return [...names.matchAll(/`([^`]+)`/g)].map(([, name = ""]) => name);
  });
}

/**
 * What each source file imports of the others, by their paths from the root.
 *
 * @returns {Map<string, string[]>}
 */
export function readImports() {
  const below = readdirSync(join(root, "lib"), { recursive: true, encoding: "utf8" });
  const files = ["mod.ts", ...below.map((name) => `lib/${name.replaceAll("\\", "/")}`)];
  return new Map(
    files.filter((file) => file.endsWith(".ts")).sort().map((file) => [file, importsOf(file)]),
  );
}

/** @param {string} file */
function importsOf(file) {
  const source = readFileSync(join(root, file), "utf8").replace(/\/\*[^]*?\*\//g, "");
  const targets = [...source.matchAll(/(?:\bfrom|\bimport)\s*\(?\s*"(\.[^"]+)"/g)];
  return [...new Set(targets.map(([, target = ""]) => normalize(join(dirname(file), target))))];
}

/**
 * The line of the table that a file's room stands on; -1 for none. The longest name that fits wins:
 * `lib/server.ts` goes before `lib/`.
 *
 * @param {string} file
 * @param {string[][]} lines
 */
function lineOf(file, lines) {
  const room = roomOf(file, lines);
  return lines.findIndex((rooms) => room !== undefined && rooms.includes(room));
}

/**
 * @param {string} file
 * @param {string[][]} lines
 */
function roomOf(file, lines) {
  const fitting = lines.flat().filter((room) => room === file || file.startsWith(room));
  return fitting.sort((a, b) => b.length - a.length)[0];
}

/**
 * @param {string} file
 * @param {string} target
 * @param {string[][]} lines
 */
function climbs(file, target, lines) {
  if (roomOf(file, lines) === roomOf(target, lines)) return false;
  return lineOf(target, lines) <= lineOf(file, lines);
}

/**
 * The circles that files import each other in: each strongly connected set of more than one.
 *
 * @param {Map<string, string[]>} imports
 * @returns {string[][]}
 */
function circles(imports) {
  /** @type {Map<string, Set<string>>} */
  const reached = new Map();
  for (const start of imports.keys()) {
    const seen = new Set();
    const open = [...imports.get(start) ?? []];
    for (let file = open.pop(); file !== undefined; file = open.pop()) {
      if (seen.has(file)) continue;
      seen.add(file);
      open.push(...imports.get(file) ?? []);
    }
    reached.set(start, seen);
  }
  const found = new Set();
  return [...imports.keys()].flatMap((file) => {
    if (found.has(file) || !reached.get(file)?.has(file)) return [];
    const circle = [...imports.keys()].filter((other) =>
      reached.get(file)?.has(other) && reached.get(other)?.has(file)
    );
    for (const member of circle) found.add(member);
    return [circle];
  });
}
