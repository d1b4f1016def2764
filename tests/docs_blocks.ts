/**
 * The blocks of code in README.md and docs/. Those of `ts` run by themselves; those of `js` need
 * another program, or are started again in processes of their own.
 *
 * @module
 */
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("..", import.meta.url));

/** A block, as it can be pasted. */
export interface Block {
  /** The page and the heading above, for messages. */
  readonly name: string;
  readonly code: string;
  readonly language: "ts" | "js";
}

/** The pages that users read. */
export const pages: readonly string[] = [
  "README.md",
  ...readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"))
    .map((name) => `docs/${name}`),
];

/** The blocks of all pages. */
export function readBlocks(): Block[] {
  return pages.flatMap(blocksOf);
}

function blocksOf(page: string): Block[] {
  const counts = new Map<string, number>();
  let heading = "";
  const found: Block[] = [];
  const text = readFileSync(join(root, page), "utf8");
  for (const match of text.matchAll(/^#+ (.*)$|^```(\w*)\n([^]*?)^```$/gm)) {
    const [, title, language, code] = match;
    if (title !== undefined) heading = title.replaceAll("`", "");
    if (language !== "ts" && language !== "js") continue;
    const count = (counts.get(heading) ?? 0) + 1;
    counts.set(heading, count);
    const name = `${page}: ${heading}${count > 1 ? ` ${count}` : ""}`;
    found.push({ name, code: code!, language });
  }
  return found;
}
