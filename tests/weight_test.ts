/** What is loaded, and when: each program runs in a process of its own. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { spawnSync } from "node:child_process";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { assertRuntime, runtime } from "./runtime.ts";

assertRuntime();

const TIMEOUT_MS = 30_000; // several processes, on a busy machine
const root = fileURLToPath(new URL("..", import.meta.url));

const ca = await createCertificateAuthority();
const { cert, key } = await ca.issue();
const client = await ca.issue({ usage: "client", subject: "CN=pump 7" });
const texts = `const [cert, key, ca, client] = ${JSON.stringify([cert, key, ca.cert, client])};`;

/** A program with a TLS server whose handler looks at the certificate that its client shows. */
const served = (options: string) => `
  import { connect } from "node:tls";
  import { ClientAuth, loadIdentity, serve } from "./mod.ts";
  ${texts}
  const identity = await loadIdentity({ cert, key });
  const server = await serve({ hostname: "127.0.0.1", port: 0, ${options} }, (_, { session }) =>
    new Response(session.tls.peerCertificate.subject));
  const socket = connect({ ...client, ca, port: server.address.port, host: "127.0.0.1", servername: "localhost" });
  socket.write("GET / HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n");
  let answer = "";
  for await (const chunk of socket) answer += chunk;
  if (!answer.endsWith("CN=pump 7")) throw new Error(answer);
  await server.stop();`;

/** Runs a program in the repository and gives what it printed. */
function printed(program: string): string {
  const command = runtime === "bun"
    ? ["-e", program]
    : ["eval", "--ext=ts", "--node-modules-dir=manual", program];
  const { status, stdout, stderr } = spawnSync(process.execPath, command, {
    cwd: root,
    encoding: "utf8",
  });
  assert.equal(status, 0, stderr);
  return stdout.trim();
}

/** Whether the certificate library is there afterwards: what it needs adds to `Reflect`. */
const LOADED = `console.log("getMetadata" in Reflect);`;

describe("the certificate library is not loaded by", () => {
  const programs: Record<string, string> = {
    "any entry but ./hono": `
      for (const entry of ["./mod.ts", "./lib/tls/dev_certificates.ts", "./lib/websocket/mod.ts",
        "./lib/web/files.ts", "./lib/web/sse.ts", "./lib/web/compress.ts", "./lib/edge/mod.ts",
        "./lib/telemetry/metrics.ts", "./lib/telemetry/otel.ts", "./lib/telemetry/access_log.ts",
        "./lib/telemetry/health.ts", "./lib/inspector/mod.ts"]) {
        await import(entry);
      }`,
    "a server without TLS": `
      import { serve } from "./mod.ts";
      const options = { transportMode: "insecure", hostname: "127.0.0.1", port: 0 };
      const server = await serve(options, () => new Response("hello"));
      await (await fetch("http://127.0.0.1:" + server.address.port)).text();
      await server.stop();`,
    "a server with TLS": `
      import { serve } from "./mod.ts";
      ${texts}
      const server = await serve({ cert, key, hostname: "127.0.0.1", port: 0 }, () => new Response());
      await server.stop();`,
    "new ClientAuth()": `
      import { ClientAuth } from "./mod.ts";
      ${texts}
      new ClientAuth({ ca });`,
    "an edge app": `
      import { createEdgeApp } from "./lib/edge/mod.ts";
      const app = createEdgeApp({}, () => new Response("hello"));
      await app.fetch(new Request("https://a.example/"));`,
  };
  for (const [name, program] of Object.entries(programs)) {
    test(name, () => assert.equal(printed(program + LOADED), "false"), TIMEOUT_MS);
  }
});

describe("the certificate library is loaded by", () => {
  const programs: Record<string, string> = {
    "a server that asks for client certificates": served("clientAuth: { ca }, cert, key"),
    "a server whose certSelect may ask for them": served(`certSelect: () =>
      ({ identity, clientAuth: new ClientAuth({ ca }) })`),
    "an edge app whose proxy forwards a certificate": `
      import { createEdgeApp } from "./lib/edge/mod.ts";
      ${texts}
      const app = createEdgeApp({ trustForwardedCertificates: "client-cert" }, (_, { session }) =>
        new Response(session.tls.peerCertificate.subject));
      const field = ":" + cert.split("-----")[2].replaceAll("\\n", "") + ":";
      const headers = { "client-cert": field };
      const answer = await app.fetch(new Request("https://a.example/", { headers }));
      if (await answer.text() !== "CN=localhost") throw new Error("not read");`,
  };
  for (const [name, program] of Object.entries(programs)) {
    test(name, () => assert.equal(printed(program + LOADED), "true"), TIMEOUT_MS);
  }
});

/** A program with a server without TLS, and clients that speak HTTP/2 without having asked. */
const unasked = (rest: string) => `
  import { Buffer } from "node:buffer";
  import { connect } from "node:net";
  import { isHttp2Loaded } from "./lib/protocols.ts";
  import { serve } from "./mod.ts";
  const server = await serve(
    { transportMode: "insecure", hostname: "127.0.0.1", port: 0, timeouts: { handshakeMs: 9_000 } },
    (request) => new Response("hello " + request.url));
  const errors = [];
  server.addEventListener("error", ({ error }) => errors.push(error.code));
  const { port } = server.address;
  const preface = "PRI * HTTP/2.0\\r\\n\\r\\nSM\\r\\n\\r\\n";
  const settings = "\\0\\0\\0\\x04\\0\\0\\0\\0\\0";
  const get = "\\0\\0\\x06\\x01\\x05\\0\\0\\0\\x01\\x82\\x86\\x84\\x41\\x01a"; // of http://a/
  const answered = () => new Promise((resolve, reject) => {
    const socket = connect(port, "127.0.0.1");
    socket.write(Buffer.from(preface + settings + get, "latin1"));
    let answer = "";
    socket.on("data", (bytes) => {
      answer += bytes.toString("latin1");
      if (answer.includes("hello http://a/")) resolve(socket.destroy());
    });
    socket.on("close", () => reject(new Error("Closed after " + JSON.stringify(answer))));
  });
  const left = () => new Promise((resolve) => {
    server.addEventListener("disconnected", resolve, { once: true });
  });
  ${rest}
  await server.stop();
  console.log(JSON.stringify(errors), isHttp2Loaded());`;

describe("HTTP/2 is loaded", () => {
  const programs: Record<string, [program: string, printed: string]> = {
    "not by a server without TLS that nobody asks for it": [
      unasked(`
        const answer = await (await fetch("http://127.0.0.1:" + port)).text();
        if (!answer.startsWith("hello")) throw new Error(answer);`),
      "[] false",
    ],
    "with the first client without TLS that begins with it, while others do too": [
      unasked("await Promise.all([answered(), answered()]); await answered();"),
      "[] true",
    ],
    "for the next client, when the first is cut meanwhile": [
      unasked(`
        const gone = left();
        server.addEventListener("data", ({ session }) => {
          if (isHttp2Loaded()) throw new Error("It is loaded already");
          queueMicrotask(() => session.destroy());
        }, { once: true });
        await answered().then(() => { throw new Error("answered"); }, () => gone);
        await answered();`),
      "[] true",
    ],
    "for the next client, when the first leaves meanwhile": [
      unasked(`
        const gone = left();
        server.addEventListener("data", () => {
          queueMicrotask(() => first.resetAndDestroy());
        }, { once: true });
        const first = connect(port, "127.0.0.1");
        first.on("error", () => {});
        first.write(preface);
        await gone;
        await answered();`),
      "[] true",
    ],
    "before a server with TLS listens": [
      `
        import { isHttp2Loaded } from "./lib/protocols.ts";
        import { serve } from "./mod.ts";
        ${texts}
        const before = isHttp2Loaded();
        const server = await serve({ cert, key, hostname: "127.0.0.1", port: 0 }, () => new Response());
        console.log(before, isHttp2Loaded());
        await server.stop();`,
      "false true",
    ],
    "before a server without TLS listens that has no HTTP/1.1": [
      `
        import { isHttp2Loaded } from "./lib/protocols.ts";
        import { serve } from "./mod.ts";
        const server = await serve(
          { transportMode: "insecure", http1: false, hostname: "127.0.0.1", port: 0 },
          () => new Response());
        console.log(isHttp2Loaded());
        await server.stop();`,
      "true",
    ],
  };
  for (const [name, [program, expected]] of Object.entries(programs)) {
    test(name, () => assert.equal(printed(program), expected), TIMEOUT_MS);
  }
});

/** A program with an edge app, the first of its process. */
const edge = (rest: string) => `
  import { createEdgeApp } from "./lib/edge/mod.ts";
  const { promise: asked, resolve: ask } = Promise.withResolvers();
  const { promise: held, resolve: go } = Promise.withResolvers();
  const app = createEdgeApp({ reportError() {} }, async (request) => {
    ask();
    if (request.url.endsWith("/held")) await held;
    throw new Error("no");
  });
  const get = async (path) => {
    const answer = await app.fetch(new Request("https://a.example" + path));
    return answer.status + " " + await answer.text();
  };
  const route = { uri: "/a", method: "GET", handler: (request) => request.send("a") };
  ${rest}`;

describe("what an edge app loads later is there for", () => {
  const programs: Record<string, [program: string, printed: string]> = {
    "the first request to a route, and one beside it": [
      edge(`app.route(route); console.log((await Promise.all([get("/a"), get("/a")])).join());`),
      "200 a,200 a",
    ],
    "a route that comes with the request": [
      edge(
        `const answer = get("/a"); app.route(route); console.log(await answer, await get("/a"));`,
      ),
      "500 Server has encountered an unexpected error 200 a",
    ],
    "an error handler that comes while a request is answered": [
      edge(`
        const answer = get("/held");
        await asked;
        app.onError((error, request) => request.send(error.code));
        go();
        console.log(await answer);`),
      "200 HANDLER_FAILED",
    ],
    "a middleware": [
      edge(`app.use((request) => request.send("use")); console.log(await get("/a"));`),
      "200 use",
    ],
    "a WebSocket route": [
      edge(`app.route({ uri: "/a", websocket: {} }); console.log(await get("/a"));`),
      "426 This resource is a WebSocket",
    ],
    "an observer, until it is taken away": [
      edge(`
        const seen = [];
        const observer = (name) => ({ begin: ({ path }) => void seen.push(name + path) });
        app.observe(observer("1"))();
        const end = app.observe(observer("2"));
        app.observe({ begin: () => ({ ended: ({ status }) => void seen.push(status) }) });
        await get("/b");
        end();
        await get("/c");
        console.log(seen.join());`),
      "2/b,500,500",
    ],
  };
  for (const [name, [program, expected]] of Object.entries(programs)) {
    test(name, () => assert.equal(printed(program), expected), TIMEOUT_MS);
  }
});

describe("WebSocket is loaded", () => {
  /** What a client gets that makes an opening handshake. */
  const program = (rest: string) => `
    import { Buffer } from "node:buffer";
    import { connect } from "node:net";
    import { isWebSocketLoaded } from "./lib/websocket/late.ts";
    import { HttpsServer } from "./mod.ts";
    const options = { transportMode: "insecure", hostname: "127.0.0.1", port: 0 };
    const server = new HttpsServer(options, () => new Response("hello"));
    const opened = (path) => new Promise((resolve, reject) => {
      const socket = connect(server.address.port, "127.0.0.1");
      socket.write(Buffer.from("GET " + path + " HTTP/1.1\\r\\nHost: a\\r\\nConnection: Upgrade\\r\\n" +
        "Upgrade: websocket\\r\\nSec-WebSocket-Version: 13\\r\\n" +
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\\r\\n\\r\\n" +
        "\\x81\\x80\\0\\0\\0\\0", "latin1")); // an empty message behind it
      let answer = "";
      socket.on("data", (bytes) => {
        answer += bytes.toString("latin1");
        if (/s3pPLMBiTxaQ9kYGzzhZRbK\\+xOo=[^]*echo|hello/.test(answer)) {
          socket.destroy();
          resolve(answer.slice(9, 12));
        }
      });
      socket.on("close", () => reject(new Error(answer)));
    });
    const route = { uri: "/ws", websocket: { onMessage: (ws) => ws.send("echo") } };
    ${rest}
    await server.stop({ drainMs: 0 });`;
  const programs: Record<string, [program: string, printed: string]> = {
    "not by a server without such a route, whatever its clients ask for": [
      program(`await server.start(); console.log(await opened("/"), isWebSocketLoaded());`),
      "200 false",
    ],
    "with the first such route": [
      program(`
        server.route(route);
        await server.start();
        while (!isWebSocketLoaded()) await new Promise((resolve) => setTimeout(resolve, 1));
        console.log(await opened("/ws"));`),
      "101",
    ],
    "for a client that comes at once": [
      program(`
        await server.start();
        const { promise, resolve } = Promise.withResolvers();
        server.use((request, next) => {
          server.route(route);
          resolve(isWebSocketLoaded());
          return next();
        });
        const code = opened("/ws");
        console.log(await promise, await code, isWebSocketLoaded());`),
      "false 101 true",
    ],
  };
  for (const [name, [program, expected]] of Object.entries(programs)) {
    test(name, () => assert.equal(printed(program), expected), TIMEOUT_MS);
  }
});

describe("the trials of requests and responses are made", () => {
  const counted = (rest: string) => `
    let made = 0;
    for (const name of ["Request", "Response"]) {
      const Native = globalThis[name];
      globalThis[name] = class extends Native {
        constructor(...given) {
          super(...given);
          made++;
        }
      };
    }
    const { serve } = await import("./mod.ts");
    const options = { transportMode: "insecure", hostname: "127.0.0.1", port: 0 };
    const server = await serve(options, () => new Response("hello"));
    const atStart = made;
    ${rest}
    await new Promise((resolve) => setTimeout(resolve, 5));
    console.log(atStart, made > 0);
    await server.stop();`;

  test("once the server runs, before a client comes", () => {
    assert.equal(printed(counted("")), "0 true");
  }, TIMEOUT_MS);

  test("not by one that is stopped at once", () => {
    assert.equal(printed(counted("await server.stop();")), "0 false");
  }, TIMEOUT_MS);
});
