/**
 * The Link field, as far as ACME needs it: where the alternate chains are (RFC 8288, RFC 8555 section
 * 7.4.2).
 *
 * @module
 */

/** More chains than this no CA has. */
const MAX_LINKS = 10;

/** A target, a quoted value, a mark, a word or white space: each begins with another character. */
const TOKEN = /<[^<>]*>|"(?:[^"\\]|\\.)*"|[,;=]|[^\s<>",;=]+|\s+/gy;

/** The targets of links with this relation, as they are written; none behind what is no link. */
export function linksOf(field: string | undefined, relation: string): string[] {
  const targets: string[] = [];
  let target: string | undefined;
  let name = "";
  let isValue = false;
  for (const [token] of (field ?? "").matchAll(TOKEN)) {
    if (token.startsWith("<")) {
      target = token.slice(1, -1);
    } else if (token === "," || token === ";") {
      name = "";
      isValue = false;
      if (token === ",") target = undefined;
    } else if (token === "=") {
      isValue = true;
    } else if (token.trim() !== "") {
      if (!isValue) name = token.toLowerCase();
      else if (target !== undefined && name === "rel" && hasRelation(token, relation)) {
        targets.push(target);
        target = undefined; // the first "rel" counts
        if (targets.length === MAX_LINKS) break;
      }
    }
  }
  return targets;
}

/** Whether a value, quoted or not, is a list of relations with this one. */
function hasRelation(value: string, relation: string): boolean {
  return value.toLowerCase().replaceAll('"', "").split(" ").includes(relation);
}
