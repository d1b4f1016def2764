/** What the tests of the inspector share: a server under load and under handshakes that fail. */
import { once } from "node:events";
import http from "node:http";
import tls from "node:tls";
import { type HttpsServer, serve } from "../mod.ts";
import { connectTcp, gone, until } from "./support.ts";
import { alice, clientCa, localhost, pairFor } from "./tls_support.ts";

/** A server with everything on it that an inspector shows. */
export interface Scene extends AsyncDisposable {
  readonly server: HttpsServer;
  /** Sends one request on a connection that is kept. */
  ask(target: string, fields?: string): Promise<void>;
  /** Fails two handshakes: a ClientHello that is none, and one with an unknown protocol. */
  fail(): Promise<void>;
  /** Begins a request that is not answered, with secrets in it. */
  hold(): Promise<void>;
}

/** Texts that clients sent and that no inspector may show. */
export const SECRETS = ["c00kie", "passw0rd", "t0ken", "b0dy"];

/** Opens a server with sessions of each kind, and with failed handshakes. */
export async function openScene(): Promise<Scene> {
  const sockets = new Set<tls.TLSSocket>();
  const shop = await pairFor("shop.example", "www.shop.example");
  const server = await serve({
    ...localhost,
    identities: [shop],
    clientAuth: { ca: clientCa.cert, mode: "optional" },
    hostname: "127.0.0.1",
    port: 0,
    limits: { maxConnections: 24 },
  }, ({ url }) => {
    const { pathname } = new URL(url);
    if (pathname === "/slow") return new Promise<Response>(() => {});
    const status = pathname === "/missing" ? 404 : pathname === "/fails" ? 500 : 200;
    return new Response("hello\n", { status });
  });
  server.addEventListener("error", () => {});
  const { port } = server.address;

  async function open(options: tls.ConnectionOptions = {}): Promise<tls.TLSSocket> {
    const socket = tls.connect({
      host: "127.0.0.1",
      port,
      servername: "localhost",
      ALPNProtocols: ["http/1.1"],
      rejectUnauthorized: false,
      ...options,
    });
    socket.on("error", () => {});
    sockets.add(socket);
    await once(socket, "secureConnect");
    return socket;
  }
  function send(socket: tls.TLSSocket, target: string, fields = ""): void {
    socket.write(`GET ${target} HTTP/1.1\r\nHost: localhost\r\n${fields}\r\n`);
  }
  async function asked(socket: tls.TLSSocket, target: string, fields = ""): Promise<void> {
    const answered = once(socket, "data");
    send(socket, target, fields);
    await answered;
  }

  // Three that have had a request, one of them with a certificate; one that has not; one for hold().
  await asked(await open({ servername: "shop.example" }), "/");
  await asked(await open({ cert: alice.cert, key: alice.key }), "/");
  const asking = await open();
  await asked(asking, "/");
  await open({ maxVersion: "TLSv1.2" });
  const holding = await open();

  return {
    server,
    ask: (target, more) => asked(asking, target, more),
    async fail() {
      const plain = await connectTcp(port);
      plain.write("GET /?t0ken HTTP/1.1\r\nHost: a\r\n\r\n");
      await gone(plain);
      plain.destroy();
      const old = tls.connect({
        port,
        host: "127.0.0.1",
        servername: "shop.example",
        ALPNProtocols: ["spdy/3"],
      });
      old.on("error", () => {});
      await new Promise((resolve) => old.once("close", resolve)); // once() would reject
    },
    async hold() {
      send(holding, "/slow?key=t0ken", "Cookie: id=c00kie\r\nAuthorization: Basic passw0rd\r\n");
      await until(() => server.stats().connections.states.busy === 1, "a request is under way");
    },
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await server.stop({ drainMs: 0 });
    },
  };
}

/** What a plain HTTP request is answered, with a Host and other fields of its own. */
export function get(
  url: string,
  headers: Record<string, string> = {},
  method = "GET",
): Promise<{ status: number; headers: http.IncomingHttpHeaders; body: string }> {
  return new Promise((resolve, reject) => {
    const request = http.request(url, { headers, method, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (text: string) => body += text);
      response.on(
        "end",
        () => resolve({ status: response.statusCode!, headers: response.headers, body }),
      );
    });
    request.on("error", reject).end();
  });
}
