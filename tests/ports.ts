/**
 * Ports for programs that have to be given one: those listen later, in a process of their own.
 *
 * @module
 */
import net from "node:net";

/**
 * Below those that a system gives to sockets that ask for any, 32768 and up on Linux: one of these
 * could be another test's before the program listens.
 */
const RANGE = { from: 10_000, to: 20_000 };

/** Ports of 127.0.0.1 that are free now, one behind the other. */
export async function freePorts(count: number): Promise<number[]> {
  const { from, to } = RANGE;
  for (;;) {
    const first = from + Math.floor(Math.random() * (to - from));
    const holds = [];
    for (let port = first; port < first + count; port++) holds.push(await hold(port));
    await Promise.all(holds.map(({ release }) => release()));
    if (holds.every(({ isHeld }) => isHeld)) return holds.map(({ port }) => port);
  }
}

/** A port that a test may have. */
export interface Hold {
  readonly port: number;
  /** Whether the test has it: otherwise another program had it already, and may release it. */
  readonly isHeld: boolean;
  /** Resolves when the test has it no more. */
  release(): Promise<void>;
}

/** Listens on a port of 127.0.0.1, so that nothing else can. */
export async function hold(port: number): Promise<Hold> {
  const server = net.createServer((socket) => socket.destroy()).listen(port, "127.0.0.1");
  const isHeld = await new Promise<boolean>((resolve) => {
    server.once("listening", () => resolve(true)).once("error", () => resolve(false));
  });
  return {
    port,
    isHeld,
    release: () =>
      new Promise((resolve) => {
        if (isHeld) server.close(() => resolve());
        else resolve();
      }),
  };
}
