/**
 * Entries by the paths that they are for, found without trying each: whole paths in a map, prefixes
 * in a tree of their common beginnings. A search takes time by the length of the path, not by the
 * number of entries.
 *
 * @module
 */

/** The paths that a template is for. */
export interface Pattern {
  /** Whole paths. */
  readonly paths: readonly string[];
  /** What every other path begins with; `undefined`: there are no others. */
  readonly prefix: string | undefined;
}

/** A node of the tree: prefixes that share a beginning continue below it. */
interface Branch<T> {
  /** What comes after the branch above. */
  readonly label: string;
  /** The values whose prefix ends here. */
  readonly values: T[];
  /** What follows, by its first UTF-16 code unit. */
  readonly next: Map<number, Branch<T>>;
}

/** Values under patterns, in the order of addition. */
export class PathTable<T> {
  readonly #whole = new Map<string, T[]>();
  readonly #root: Branch<T> = branch("");
  /** The place of each value in the order of addition. */
  readonly #ranks = new Map<T, number>();

  /** Adds a value after all others. */
  add({ paths, prefix }: Pattern, value: T): void {
    this.#ranks.set(value, this.#ranks.size);
    for (const path of paths) {
      const values = this.#whole.get(path);
      if (values === undefined) this.#whole.set(path, [value]);
      else values.push(value);
    }
    if (prefix !== undefined) this.#branchOf(prefix).values.push(value);
  }

  /** The values whose pattern has `path`, in the order of addition. */
  find(path: string): readonly T[] {
    let first: readonly T[] = this.#whole.get(path) ?? NONE;
    let all: T[] | undefined; // where one list does for most, which is given away as it is
    let at = 0;
    let here: Branch<T> | undefined = this.#root;
    while (here !== undefined && path.startsWith(here.label, at)) {
      const { label, values, next }: Branch<T> = here;
      if (first.length === 0) first = values;
      else if (values.length > 0) {
        all ??= [...first];
        for (const value of values) all.push(value);
      }
      at += label.length;
      here = next.get(path.charCodeAt(at));
    }
    return all?.sort((one, other) => this.#ranks.get(one)! - this.#ranks.get(other)!) ?? first;
  }

  /** The branch where `prefix` ends; makes it, and splits another where the two part. */
  #branchOf(prefix: string): Branch<T> {
    let here = this.#root;
    let rest = prefix;
    while (rest !== "") {
      const first = rest.charCodeAt(0);
      const next: Branch<T> = here.next.get(first) ?? branch(rest);
      const shared = sharedLength(next.label, rest);
      const reached = shared === next.label.length ? next : branch<T>(rest.slice(0, shared));
      if (reached !== next) {
        const label = next.label.slice(shared);
        reached.next.set(label.charCodeAt(0), { ...next, label });
      }
      here.next.set(first, reached);
      here = reached;
      rest = rest.slice(shared);
    }
    return here;
  }
}

const NONE: readonly never[] = [];

function branch<T>(label: string): Branch<T> {
  return { label, values: [], next: new Map() };
}

/** How many leading characters two texts have in common. */
function sharedLength(one: string, other: string): number {
  let length = 0;
  while (length < one.length && one[length] === other[length]) length++;
  return length;
}
