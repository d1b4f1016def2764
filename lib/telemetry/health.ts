/**
 * What orchestrators and load balancers ask a server: `/livez`, whether it works at all, and
 * `/readyz`, whether it should get requests.
 *
 * @example
 * ```ts
 * import { serve } from "@httpsd/httpsd";
 * import { health } from "@httpsd/httpsd/health";
 *
 * const server = await serve({ cert, key, port: 8443 }, () => new Response("hello\n"));
 * const state = health(server);
 * await serve({ transportMode: "insecure", hostname: "127.0.0.1", port: 8081 }, state);
 * process.on("SIGTERM", () => void state.stop({ noticeMs: 5_000 }));
 * ```
 *
 * @module
 */
import * as v from "valibot";
import { within } from "../contain/within.ts";
import type { ServerHandle, StopOptions } from "../http/server_handle.ts";
import {
  adviceFrom,
  checkOptions,
  duration,
  flag,
  isPlain,
  members,
  milliseconds,
  optionError,
  shown,
} from "../options.ts";

/** Whether something that the program needs is there: only `true` counts. */
export type HealthCheck = () => boolean | PromiseLike<boolean>;

/** The options of {@linkcode health}. */
export interface HealthOptions {
  /**
   * What has to hold besides for the server to be ready, by name: a check that returns anything but
   * `true`, that throws, or that does not settle in time fails. Default: none.
   */
  readonly checks?: Readonly<Record<string, HealthCheck>>;
  /** How long a check may take, in ms. Default: 1,000. */
  readonly checkMs?: number;
  /**
   * Whether a server that speaks TLS needs a certificate in force that has not expired. Turn it off
   * where `certSelect` has them all. Default: `true`.
   */
  readonly certificate?: boolean;
}

/** How to stop a server that is watched. */
export interface HealthStopOptions extends StopOptions {
  /** How long the server says that it is not ready before it stops to accept, in ms. Default: 0. */
  readonly noticeMs?: number;
}

/** What is known of a server's health. */
export interface Health {
  /**
   * Answers GET and HEAD for `/livez` and `/readyz` with 200 or 503, and 404 for anything else. The
   * body has a line for each thing that was looked at.
   */
  readonly fetch: (request: Request) => Promise<Response>;
  /** Answers whether the process works at all: always 200, since it can answer. For a route. */
  live(): Response;
  /** Answers whether the server should get requests: 200 or 503. For a route. */
  ready(): Promise<Response>;
  /** Says from now on that the server is not ready, or no longer says so. */
  setReady(ready: boolean): void;
  /**
   * Says that the server is not ready, waits for `noticeMs` so that no load balancer sends it more,
   * and stops it.
   *
   * @throws {ConfigError} `INVALID_CONFIG` (as a rejection) naming the option
   */
  stop(options?: HealthStopOptions): Promise<void>;
}

const SCHEMA = members({
  checks: v.optional(
    v.custom<Readonly<Record<string, HealthCheck>>>(
      (value) => isPlain(value) && Object.values(value).every((it) => typeof it === "function"),
      "must be an object of functions",
    ),
    {},
  ),
  checkMs: duration(1_000),
  certificate: flag(true),
}, {
  advice: adviceFrom({
    timeout: "write checkMs",
    check: "write checks: { name: () => … }",
    path: "leave it out: the paths are /livez and /readyz, or make routes of live() and ready()",
  }),
});

const STOP_SCHEMA = members({
  noticeMs: duration(0, 0),
  drainMs: v.optional(milliseconds(0)),
}, { advice: adviceFrom({ timeout: "write drainMs", delay: "write noticeMs" }) });

/**
 * Watches the health of a server.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function health(server: ServerHandle, options: HealthOptions = {}): Health {
  if (typeof (Object(server) as Partial<ServerHandle>).stats !== "function") {
    throw optionError("health()", "server", `is ${shown(server)}: give a server of httpsd`);
  }
  const { checks, checkMs, certificate } = checkOptions("health()", SCHEMA, options);
  let isReady = true;

  async function ready(): Promise<Response> {
    const facts = [
      ["running", server.state === "running"],
      ["accepting", isReady],
      ...(certificate && server.stats().secure ? [["certificate", hasCertificate(server)]] : []),
    ] as [name: string, holds: boolean][];
    const named = Object.entries(checks).map(async ([name, check]) =>
      [name, await holds(check, checkMs)] as [string, boolean]
    );
    return answer([...facts, ...await Promise.all(named)]);
  }

  return {
    async fetch({ method, url }) {
      const { pathname } = new URL(url);
      if (pathname !== "/livez" && pathname !== "/readyz") return text(404, "Not found\n");
      if (method !== "GET" && method !== "HEAD") {
        return text(405, "Use GET\n", { allow: "GET, HEAD" });
      }
      return pathname === "/livez" ? answer([["live", true]]) : await ready();
    },
    live: () => answer([["live", true]]),
    ready,
    setReady(ready) {
      isReady = ready;
    },
    async stop(stop = {}) {
      const { noticeMs, drainMs } = checkOptions("stop()", STOP_SCHEMA, stop);
      isReady = false;
      if (noticeMs > 0 && server.state === "running") {
        await new Promise((resolve) => setTimeout(resolve, noticeMs));
      }
      await server.stop(drainMs === undefined ? {} : { drainMs });
    },
  };
}

/** Whether a certificate in force is valid now. */
function hasCertificate(server: ServerHandle): boolean {
  const now = Date.now();
  return server.stats().certificates.some(({ validFrom, validTo }) =>
    validFrom.getTime() <= now && now < validTo.getTime()
  );
}

async function holds(check: HealthCheck, ms: number): Promise<boolean> {
  try {
    return await within(ms, check) === true;
  } catch {
    return false; // why is the program's own to report: it may be a secret
  }
}

/** 200 where all holds, 503 where something does not. */
function answer(facts: readonly (readonly [name: string, holds: boolean])[]): Response {
  const good = facts.every(([, holds]) => holds);
  const lines = facts.map(([name, holds]) => `${holds ? "ok" : "failed"} ${name}\n`);
  return text(good ? 200 : 503, lines.join(""));
}

function text(status: number, body: string, fields: Record<string, string> = {}): Response {
  const headers = { "content-type": "text/plain; charset=utf-8", "cache-control": "no-store" };
  return new Response(body, { status, headers: { ...headers, ...fields } });
}
