/**
 * Makes the npm package: `node scripts/build.mjs [folder]`, dist/ if no folder is named. What is in
 * the folder before is deleted. It gets JavaScript and declarations, one file for each source, and
 * a package.json for publication, and the pages with the examples; members marked `@internal` are not in the declarations.
 */
import { spawnSync } from "node:child_process";
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import process from "node:process";
import { ensureInstalled, root } from "./runtimes.mjs";

/** What links of the pages lead to, besides the code. */
const DOCUMENTS = [
  ...["README.md", "LICENSE", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"],
  ...["docs", "examples", "certs/README.md"],
];

const folder = resolve(process.argv[2] ?? join(root, "dist"));

ensureInstalled();
rmSync(folder, { recursive: true, force: true });
const { status } = spawnSync(
  process.execPath,
  ["node_modules/typescript/bin/tsc", "-p", "tsconfig.build.json", "--outDir", folder],
  { cwd: root, stdio: "inherit" },
);
if (status !== 0) {
  console.error("Cannot build: correct what tsc says");
  process.exit(1);
}
for (const file of DOCUMENTS) cpSync(join(root, file), join(folder, file), { recursive: true });
for (const file of readdirSync(join(folder, "examples"), { recursive: true, encoding: "utf8" })) {
  if (file.endsWith(".ts")) runBesideTheBuild(join(folder, "examples", file));
}
writeFileSync(join(folder, "package.json"), `${JSON.stringify(publishedManifest(), null, 2)}\n`);
console.log(`Built ${folder}`);

/** package.json as users get it: with exports of what was built, without what is for development. */
function publishedManifest() {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  for (const own of ["private", "scripts", "devDependencies", "allowScripts"]) delete manifest[own];
  for (const [entry, source] of Object.entries(manifest.exports)) {
    const built = source.replace(/\.ts$/, "");
    manifest.exports[entry] = { types: `${built}.d.ts`, default: `${built}.js` };
  }
  for (const [name, source] of Object.entries(manifest.bin)) {
    manifest.bin[name] = source.replace(/\.ts$/, ".js");
  }
  manifest.exports["./package.json"] = "./package.json";
  return manifest;
}

/**
 * Has an example import what was built where it imports sources.
 *
 * @param {string} file
 */
function runBesideTheBuild(file) {
  const text = readFileSync(file, "utf8");
  writeFileSync(
    file,
    text.replaceAll(/ from "((?:\.\.\/)+(?:lib\/.*|mod))\.ts"/g, ' from "$1.js"'),
  );
}
