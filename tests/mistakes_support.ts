/**
 * How mistakes are made and looked at in tests.
 *
 * @module
 */
import { HttpsServer } from "../lib/server.ts";

export const idle = (): HttpsServer => new HttpsServer({ transportMode: "insecure" });

export const request = new Request("https://a.example/");

/** The error that a function throws or rejects with; none when it takes what it is given. */
export async function failureOf(run: () => unknown): Promise<unknown> {
  try {
    const result = await run();
    if (result instanceof HttpsServer) await result.stop({ drainMs: 0 });
    return undefined;
  } catch (error) {
    return error;
  }
}

/** What valibot says by itself. */
export const VALIBOT =
  /Invalid|Expected|received|\b(?:string|strict)_?object\b|never|undefined but/;
