/**
 * State that lives as long as a connection: each has a context of its own, which is freed when
 * another takes its place and when the connection ends (ESP-IDF's `http_server/persistent_sockets`).
 *
 *     deno run -A examples/persistent_sockets.ts
 *     bun examples/persistent_sockets.ts
 *
 * Then, on one connection: `curl -k -d 2 https://localhost:8443/adder https://localhost:8443/adder`.
 * examples/run.ts describes `PORT` and `CERTS`.
 */
import { type HttpdRequest, HttpsServer, type HttpsServerOptions, type Session } from "../mod.ts";
import { run } from "./run.ts";

/** The settings of this example besides the server's options. */
export interface PersistentOptions {
  /** Takes what the handlers have to say. Default: `console.log`. */
  readonly log?: (line: string) => void;
}

/** What a session keeps. */
interface Counter {
  value: number;
}

/** Makes the server. */
export function createServer(
  options: HttpsServerOptions,
  { log = console.log }: PersistentOptions = {},
): HttpsServer {
  const visitors: Counter = { value: 0 }; // of all sessions: the routes' context

  /** The session's counter, which begins at `first`. */
  function counterOf(session: Session, first: number): Counter {
    if (session.context === undefined) {
      log(`Session ${session.id}: new context`);
      session.setContext<Counter>({ value: first }, ({ value }) => {
        log(`Session ${session.id}: context with ${value} is freed`);
      });
    }
    return session.context as Counter;
  }

  function visit(request: HttpdRequest): Counter {
    const visitors = request.routeContext as Counter;
    log(`Visitor ${++visitors.value} of ${request.path}`);
    return counterOf(request.session, 0);
  }

  /** Answers with what becomes of the session's counter by the number in the body. */
  async function change(
    request: HttpdRequest,
    apply: (value: number, given: number) => number,
  ): Promise<void> {
    const counter = visit(request);
    const text = await new Response(request.body).text();
    if (!/^-?\d{1,9}$/.test(text)) return request.sendError(400, "Send a whole number");
    counter.value = apply(counter.value, Number(text));
    request.send(String(counter.value));
  }

  return new HttpsServer({ ...options, limits: { maxBodyBytes: 100, ...options.limits } })
    .route({
      uri: "/adder",
      method: "GET",
      context: visitors,
      handler: (request) => request.send(String(visit(request).value)),
    })
    .route({
      uri: "/adder",
      method: "POST",
      context: visitors,
      handler: (request) => change(request, (value, given) => value + given),
    })
    .route({
      uri: "/adder",
      method: "PUT",
      context: visitors,
      handler: (request) => change(request, (_value, given) => given),
    })
    .route({
      uri: "/login",
      method: "GET",
      handler: (request) => request.send(String(counterOf(request.session, 1).value)),
    })
    .route({
      uri: "/logout",
      method: "GET",
      handler: logOut,
    });
}

/** Another context in its place, or none, frees the one before. */
function logOut(request: HttpdRequest): void {
  const counter = request.session.context as Counter | undefined;
  request.session.setContext(undefined);
  request.send(String(counter?.value ?? 0));
}

if (import.meta.main) await run((options) => createServer(options));
