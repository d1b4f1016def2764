/**
 * Lines of which the first goes next, and that any member can leave or join in constant time, as
 * sessions do with each request.
 *
 * @module
 */

/** What a member keeps of its place in a line; it is in one line at a time, or in none. */
export class LineEntry<T> {
  /** The member whose place it is. */
  owner: T;
  /** Since when it is there, in the unit of the code that put it there. */
  since = 0;
  line: Line<T> | undefined;
  before: LineEntry<T> | undefined;
  after: LineEntry<T> | undefined;

  /** Makes an entry that is in no line. */
  constructor(owner: T) {
    this.owner = owner;
  }

  /** Leaves the line, if it is in one. */
  leave(): void {
    const { line, before, after } = this;
    if (line === undefined) return;
    if (before === undefined) line.first = after;
    else before.after = after;
    if (after === undefined) line.last = before;
    else after.before = before;
    line.size--;
    this.line = this.before = this.after = undefined;
  }

  /** Joins a line as its last, and leaves the one that it was in. */
  join(line: Line<T>): void {
    if (line === this.line && this.after === undefined) return;
    this.leave();
    const before = this.before = line.last;
    if (before === undefined) line.first = this;
    else before.after = this;
    line.last = this;
    line.size++;
    this.line = line;
  }
}

/** A line, from its first entry on. */
export class Line<T> {
  /** How many entries there are; this and the ends are kept by the entries. */
  size = 0;
  first: LineEntry<T> | undefined;
  last: LineEntry<T> | undefined;

  /** Goes from the first to the last. The entry that was given last may leave. */
  *[Symbol.iterator](): Generator<LineEntry<T>, void, undefined> {
    for (let entry = this.first; entry !== undefined;) {
      const { after } = entry;
      yield entry;
      entry = after;
    }
  }
}
