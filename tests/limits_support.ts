/**
 * What tests of limits share: servers with a cap whose time goes as the test says.
 *
 * @module
 */
import type { HttpsServerOptions } from "../lib/config.ts";
import type { Session } from "../lib/http/session.ts";
import { GET, type Mode, RawClient, type Started, started } from "./http_support.ts";
import { until } from "./support.ts";
import type { TestClock } from "./test_clock.ts";

/** A server whose requests for /busy wait until `wake()`; others are answered with their path. */
export interface Cap extends Started {
  wake(): void;
  /** Why sessions have ended, in order. */
  ends: (string | undefined)[];
}

export async function capped(
  options: HttpsServerOptions,
  mode: Mode = "plain",
  clock?: TestClock,
): Promise<Cap> {
  const { promise: asleep, resolve: wake } = Promise.withResolvers<void>();
  const ends: (string | undefined)[] = [];
  const host = await started(
    async (request) => {
      const { pathname } = new URL(request.url);
      if (pathname === "/busy") await asleep;
      return new Response(pathname);
    },
    { closeFn: (_, error) => void ends.push(error?.code), ...options },
    mode,
    clock,
  );
  return { ...host, wake, ends };
}

/** A client, its session, and a way to ask on it. */
export class Visitor {
  readonly client: RawClient;
  readonly session: Session;

  constructor(client: RawClient, session: Session) {
    this.client = client;
    this.session = session;
  }

  /** Connects, and waits until the server has a session for it. */
  static async come({ server, port }: Started, mode: Mode = "plain"): Promise<Visitor> {
    const known = new Set(server.sessions);
    const client = await RawClient.connect(port, mode);
    const find = () => [...server.sessions].find((session) => !known.has(session));
    await until(() => find() !== undefined, "the session is open");
    return new Visitor(client, find()!);
  }

  /** Asks for a path and waits for the answer. */
  async ask(path: string): Promise<void> {
    this.client.text = "";
    this.client.send(GET(path));
    await this.client.expect(`\r\n\r\n${path}`);
  }

  /** Asks for /busy, and waits until its handler runs. */
  async beBusy(): Promise<void> {
    this.client.send(GET("/busy"));
    await until(() => this.session.busy, "the handler runs");
  }

  /** Waits until the server has closed, and closes. */
  async leave(): Promise<void> {
    await this.client.rest();
    this.client.destroy();
  }
}
