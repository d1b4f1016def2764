/**
 * A live page of what a server does: its sessions in the order in which they would be closed, failed
 * handshakes, charts of requests, certificates, caps. Read-only, and never there by itself.
 *
 * @example
 * ```ts
 * import { serve } from "@httpsd/httpsd";
 * import { inspect } from "@httpsd/httpsd/inspector";
 *
 * const server = await serve({ cert, key, port: 8443 }, () => new Response("hello\n"));
 * const { url } = await inspect(server); // on a port of its own, which only this machine reaches
 * console.log(`Inspector on ${url}`);
 * ```
 *
 * @module
 */
import * as v from "valibot";
import { adviceFrom, checkOptions, members, number, optionError, shown } from "../options.ts";
import { HttpsServer } from "../server.ts";
import { share } from "../share.ts";
import { serverSentEvents } from "../web/sse.ts";
import { guarded, LOOPBACK_HOSTS, refusal } from "./guard.ts";
import { CONTENT_SECURITY_POLICY, PAGE } from "./page.ts";
import { Recorder } from "./recorder.ts";
import { askSiblings } from "./siblings.ts";
import { secondOf, stateOf, summaryOf } from "./state.ts";

/** The options of {@linkcode inspector}. */
export interface InspectorOptions {
  /**
   * The host names, without ports, that it is asked under; others are refused with 421. Default: those
   * of the loopback, `127.0.0.1`, `localhost` and `[::1]`.
   */
  readonly hosts?: readonly string[];
}

/** An inspector as a handler. */
export interface Inspector {
  /**
   * Answers GET and HEAD, whatever the path, with the page, and with what the page asks for. It asks
   * for no authorization: let only those reach it who may know who is connected.
   */
  readonly fetch: (request: Request) => Response;
  /** Keeps nothing any more, and ends the streams that are open. */
  stop(): void;
}

/** The options of {@linkcode inspect}. */
export interface InspectOptions {
  /**
   * The port on 127.0.0.1. Default: 0, a free one. In a cluster it must be given, and is that of the
   * first worker: the others have the ports behind it.
   */
  readonly port?: number;
}

/** An inspector with a listener of its own. */
export interface OwnInspector {
  /** Where the page is, such as `http://127.0.0.1:9440/`. */
  readonly url: string;
  /** Stops it; the server that it looks at goes on. */
  stop(): Promise<void>;
}

const HOST = v.pipe(
  v.string("must be a list of host names"),
  v.regex(/^[a-z0-9.-]+$|^\[[0-9a-f:]+\]$/, "must be host names in lower case, without a port"),
);

const SCHEMA = members({
  hosts: v.optional(v.pipe(v.array(HOST, "must be a list of host names"), v.minLength(1)), [
    ...LOOPBACK_HOSTS,
  ]),
}, {
  advice: adviceFrom({
    path: "mount it where you like: it answers on any path",
    port: "write inspect(server, { port }) for a listener of its own",
    password: "ask for authorization before you call it",
    authorize: "ask for authorization before you call it",
  }),
});

const OWN_SCHEMA = members({ port: v.optional(number("a port", 0, 65_535), 0) }, {
  advice: adviceFrom({
    hostname: "it listens on 127.0.0.1; mount inspector(server) behind your own authorization",
    host: "it listens on 127.0.0.1; mount inspector(server) behind your own authorization",
    hosts: "it is for inspector(server, { hosts })",
    path: "the page is /",
  }),
});

/**
 * Makes an inspector of a server, as a handler for a route of your own. Failed handshakes are kept
 * from now on; all else costs nothing until it is looked at.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 */
export function inspector(server: HttpsServer, options: InspectorOptions = {}): Inspector {
  assertServer("inspector()", server);
  const { hosts } = checkOptions("inspector()", SCHEMA, options);
  return inspectorOf(server, { hosts, isEnding: () => server.state === "stopping" });
}

/** What the two kinds of inspector differ in. */
interface Kind {
  readonly hosts: readonly string[];
  /** Whether streams have to end, so that what carries them can stop. */
  readonly isEnding: () => boolean;
  /** The port of another worker's inspector. */
  readonly portOf?: (index: number) => number;
}

function inspectorOf(server: HttpsServer, { hosts, isEnding, portOf }: Kind): Inspector {
  const recorder = new Recorder(server);
  const over = new AbortController();
  let state = { second: -1, text: "" };

  /** The state as JSON, made once a second for all who look. */
  const stateText = (): string => {
    const second = recorder.seconds.at(-1)?.number ?? -1;
    if (second === -1 || second !== state.second) {
      state = { second, text: JSON.stringify(stateOf(server, recorder)) };
    }
    return state.text;
  };

  const stream = (request: Request): Response =>
    serverSentEvents(request, async ({ send, signal }) => {
      const leave = recorder.watch();
      const ends = AbortSignal.any([signal, over.signal]);
      let seen = -1;
      try {
        // Each turn waits until the client has taken the one before: it gets what is newest then.
        do {
          const seconds = recorder.seconds.filter(({ number }) => number > seen);
          seen = seconds.at(-1)?.number ?? seen;
          const history = JSON.stringify(seconds.map(secondOf));
          if (!await send({ event: "history", data: history })) return;
          if (portOf !== undefined && share() !== undefined) {
            const workers = JSON.stringify(await askSiblings(portOf));
            if (!await send({ event: "workers", data: workers })) return;
          }
          if (!await send({ event: "state", data: stateText() })) return;
          await recorder.nextSecond(ends);
        } while (!ends.aborted && !isEnding());
      } finally {
        leave();
      }
    }, { headers: guarded({}) });

  return {
    fetch(request) {
      const { search } = new URL(request.url);
      const isPage = search !== "?stream" && search !== "?state" && search !== "?summary";
      const refused = refusal(request, hosts, isPage);
      if (refused !== undefined) return refused;
      if (isPage) return page(request);
      if (over.signal.aborted) return new Response(null, { status: 503, headers: guarded({}) });
      recorder.look();
      if (search === "?stream") return stream(request);
      const body = search === "?state" ? stateText() : JSON.stringify(summaryOf(server, recorder));
      return new Response(body, { headers: guarded({ "content-type": "application/json" }) });
    },
    stop() {
      over.abort();
      recorder.stop();
    },
  };
}

function page({ method }: Request): Response {
  return new Response(method === "HEAD" ? null : PAGE, {
    headers: guarded({
      "content-type": "text/html; charset=utf-8",
      "content-security-policy": CONTENT_SECURITY_POLICY,
    }),
  });
}

/** How many may look at once. */
const MAX_CONNECTIONS = 64;

/** How long a client that takes nothing is kept, in ms. */
const SEND_MS = 10_000;

/**
 * Opens an inspector on 127.0.0.1, by plain HTTP, for every user of this machine. It keeps no process
 * running whose server has stopped.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 * @throws {ListenError} when the port cannot be opened
 */
export async function inspect(
  server: HttpsServer,
  options: InspectOptions = {},
): Promise<OwnInspector> {
  assertServer("inspect()", server);
  const { port: given } = checkOptions("inspect()", OWN_SCHEMA, options);
  const { index = 0, of = 1 } = share() ?? {};
  if (share() !== undefined && given === 0) {
    throw optionError(
      "inspect()",
      "port",
      "must be given in a cluster: each worker has one behind it",
    );
  }
  if (given + of - 1 > 65_535) {
    throw optionError(
      "inspect()",
      "port",
      `is ${given}: ${of} workers need as many ports from there`,
    );
  }
  const portOf = (worker: number) => given + worker;
  const isOver = (): boolean => server.state === "idle";
  const inside = inspectorOf(server, {
    hosts: LOOPBACK_HOSTS,
    isEnding: () => own.state === "stopping" || isOver(),
    portOf,
  });
  const own = new HttpsServer({
    transportMode: "insecure",
    hostname: "127.0.0.1",
    port: given === 0 ? 0 : portOf(index),
    limits: { maxConnections: MAX_CONNECTIONS * of, maxBodyBytes: 0 },
    timeouts: { sendMs: SEND_MS },
  }, inside);
  own.unref();
  // A connection keeps the process running: where the server does not run, each is closed at once.
  const leave = (): void => own.sessions.forEach((session) => session.close());
  server.addEventListener("stop", leave);
  own.addEventListener("http:header", ({ session }) => isOver() && session.close());
  const end = (): void => {
    server.removeEventListener("stop", leave);
    inside.stop();
  };
  try {
    await own.start();
  } catch (error) {
    end();
    throw error;
  }
  return {
    url: `http://127.0.0.1:${own.address.port}/`,
    async stop() {
      end();
      await own.stop({ drainMs: 0 });
    },
  };
}

function assertServer(callee: string, server: unknown): void {
  if (server instanceof HttpsServer) return;
  throw optionError(callee, "server", `is ${shown(server)}: give a server of httpsd`);
}
