/**
 * The list of all that is used of a runtime without being documented. Each has a file in this
 * directory, with its trial and its fallback, and an entry here; docs/internals.md describes them.
 *
 * @module
 */
import { runtime } from "./current.ts";

/**
 * The state of an undocumented dependence: `"in force"`: its trial succeeded; `"fallback"`: it failed,
 * and public API does the work; `"untried"`: nothing has needed it yet; `"not needed"`: this runtime
 * has a public way.
 */
export type InternalState = "in force" | "fallback" | "untried" | "not needed";

/** What is loaded with TLS, or with the first WebSocket, has no entry of its own before. */
const LATER: Readonly<Record<string, InternalState>> = {
  bunSockets: runtime.name === "bun" ? "untried" : "not needed",
  tlsParent: "untried",
  zlibStates: "untried",
};

const states = new Map<string, () => InternalState>();

/** Adds an entry; `state` is called each time that the list is read. */
export function declareInternal(name: string, state: () => InternalState): void {
  states.set(name, state);
}

/** The state of each entry now, by its name. */
export function internals(): Readonly<Record<string, InternalState>> {
  const names = [...new Set([...states.keys(), ...Object.keys(LATER)])].sort();
  const stateOf = (name: string) => states.get(name)?.() ?? LATER[name]!;
  return Object.freeze(Object.fromEntries(names.map((name) => [name, stateOf(name)])));
}
