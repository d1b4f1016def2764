/**
 * The Link field, as far as ACME needs it: where the alternate chains are (RFC 8288, RFC 8555 section
 * 7.4.2).
 *
 * @module
 */

/** More chains than this no CA has. */
const MAX_LINKS = 10;

/** A target and its parameters: names, and values that are tokens or quoted. */
const LINK =
  /\s*<([^<>]*)>((?:\s*;\s*[\w!#$%&'*+.^`|~-]+(?:\s*=\s*(?:"(?:[^"\\]|\\.)*"|[^\s",;]*))?)*)\s*(?:,|$)/y;
const RELATION = /;\s*rel\s*=\s*(?:"([^"]*)"|([^\s",;]+))/i;

/** The targets of links with this relation, as they are written; none behind what is no link. */
export function linksOf(field: string | undefined, relation: string): string[] {
  const targets: string[] = [];
  if (field === undefined) return targets;
  LINK.lastIndex = 0;
  for (let at = 0; at < field.length && targets.length < MAX_LINKS; at = LINK.lastIndex) {
    const link = LINK.exec(field);
    if (link === null) break;
    const [, target, parameters] = link;
    const relations = RELATION.exec(parameters!);
    const names = (relations?.[1] ?? relations?.[2] ?? "").toLowerCase().split(" ");
    if (names.includes(relation)) targets.push(target!);
  }
  return targets;
}
