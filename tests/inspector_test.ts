/**
 * lib/inspector/: what it shows and what it must not show, who may read it, that it costs nothing
 * where it is not looked at, and clients that take nothing.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { inspect, inspector } from "../lib/inspector/mod.ts";
import { Latencies } from "../lib/inspector/latencies.ts";
import { HttpsServer } from "../lib/server.ts";
import type { CertificateSource } from "../lib/tls/certificate_source.ts";
import { AcmeError } from "../lib/errors.ts";
import { loadIdentity } from "../lib/tls/identity.ts";
import { get, openScene, SECRETS } from "./inspector_support.ts";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { connectTcp, until } from "./support.ts";
import { localhost, startServer } from "./tls_support.ts";

assertRuntime();
stopServersAfterAll();

// deno-lint-ignore no-explicit-any
type State = any;

async function stateOf(url: string): Promise<State> {
  const { status, body } = await get(`${url}?state`);
  assert.equal(status, 200, body);
  return JSON.parse(body);
}

describe("inspect()", () => {
  test("shows sessions in the order in which they would be closed, and failures", async () => {
    await using scene = await openScene();
    const inspector = await inspect(scene.server);
    try {
      await scene.fail();
      await stateOf(inspector.url); // requests are followed from now on
      await scene.hold();
      await scene.ask("/");
      await until(
        async () => (await stateOf(inspector.url)).sessions.shown.length === 5,
        "sessions",
      );
      let state = await stateOf(inspector.url);
      await until(async () => {
        state = await stateOf(inspector.url);
        return state.sessions.shown.some(({ now }: State) => now.length > 0);
      }, "the request under way");
      const { shown } = state.sessions;
      const names = shown.map(({ position, tls, requests, state }: State) =>
        [position, tls.sni, tls.client, requests, state].join(" ")
      );
      assert.deepEqual(names, [
        "1 shop.example  1 idle",
        "2 localhost CN=alice 1 idle",
        "3 localhost  2 idle",
        "4 localhost  0 idle", // has sent nothing: it is safe for a moment, and goes after the others
        " localhost  1 busy",
      ]);
      const [{ method, path }] = shown[4].now;
      assert.deepEqual([method, path], ["GET", "/slow"]);
      assert.match(shown[0].tls.ja4, /^t13d/);
      const failures = state.failures.map(({ code, phase, sni, times }: State) =>
        [code, phase, sni, times].join(" ")
      );
      assert.deepEqual(failures, [
        "TLS_NO_ALPN handshake shop.example 1",
        "TLS_NOT_TLS client hello  1",
      ]);
      assert.match(state.failures[0].ja4, /^t13d/);
      assert.equal(state.caps[0].of, 24);
      assert.deepEqual(
        scene.server.purgeOrder().map(({ id }) => id),
        shown.slice(0, 4).map(({ id }: State) => id),
      );
    } finally {
      await inspector.stop();
    }
  });

  test("shows no cookie, authorization, query, body or key, on any path of it", async () => {
    await using scene = await openScene();
    const inspector = await inspect(scene.server);
    try {
      const stream = await RawClient.connect(Number(new URL(inspector.url).port));
      stream.send("GET /?stream HTTP/1.1\r\nHost: localhost\r\n\r\n");
      await stream.expect("event: state");
      await scene.fail();
      await scene.hold();
      await scene.ask("/?key=t0ken", "Cookie: id=c00kie\r\nAuthorization: Basic passw0rd\r\n");
      await stream.expect(`"path":"/slow"`);
      const { body } = await get(`${inspector.url}?state`);
      for (const text of [stream.text, body]) {
        for (const secret of SECRETS) assert.ok(!text.includes(secret), secret);
        assert.doesNotMatch(text, /PRIVATE KEY|"key"|cookie|authorization/i);
      }
    } finally {
      await inspector.stop();
    }
  });

  test("is for pages of its own, under a name of this machine", async () => {
    await using host = await startServer();
    const { url, stop } = await inspect(host.server);
    const { port } = new URL(url);
    const site = (value: string, more: Record<string, string> = {}) => ({
      "sec-fetch-site": value,
      ...more,
    });
    const link = { "sec-fetch-mode": "navigate", "sec-fetch-dest": "document" };
    const cases: [path: string, headers: Record<string, string>, status: number][] = [
      ["", {}, 200],
      ["", { host: `localhost:${port}` }, 200],
      ["", { host: `[::1]:${port}` }, 200],
      ["", { host: `evil.test:${port}` }, 421], // a name of the attacker's that leads here
      ["?state", { host: `evil.test:${port}` }, 421],
      ["?state", { host: "localhost.evil.test" }, 421],
      ["?state", { origin: url.slice(0, -1) }, 200],
      ["?state", { origin: "https://evil.test" }, 403],
      ["?state", { origin: `http://127.0.0.1:${Number(port) ^ 1}` }, 403],
      ["?state", { origin: "null" }, 403],
      ["?state", site("cross-site"), 403],
      ["?state", site("same-site"), 403],
      ["?state", site("same-origin"), 200],
      ["?state", site("cross-site", link), 403],
      ["?summary", site("cross-site"), 403],
      ["?stream", site("cross-site"), 403],
      ["?stream", { origin: "https://evil.test" }, 403],
      ["", site("cross-site", link), 200],
      ["", site("cross-site", { ...link, "sec-fetch-dest": "iframe" }), 403],
      ["", site("cross-site", { "sec-fetch-mode": "no-cors", "sec-fetch-dest": "script" }), 403],
    ];
    for (const [path, headers, expected] of cases) {
      const { status, headers: answered } = await get(url + path, headers);
      assert.equal(status, expected, `${path} ${JSON.stringify(headers)}`);
      assert.equal(answered["access-control-allow-origin"], undefined);
      assert.equal(answered["x-content-type-options"], "nosniff");
      assert.equal(answered["cross-origin-resource-policy"], "same-origin");
    }
    for (const method of ["POST", "PUT", "DELETE", "OPTIONS"]) {
      assert.equal((await get(url, {}, method)).status, 405);
    }
    const { headers, body } = await get(url);
    const policy = String(headers["content-security-policy"]);
    assert.match(
      policy,
      /^default-src 'none'; script-src 'sha256-[^']+'; style-src 'sha256-[^']+'; /,
    );
    assert.doesNotMatch(policy, /unsafe/);
    assert.doesNotMatch(body, /https?:\/\/(?!www\.w3\.org\/2000\/svg)/, "it loads nothing");
    await stop();
    await assert.rejects(connectTcp(Number(port)), "the port is closed");
  });

  test("listens on the loopback only, and keeps failures bounded", async () => {
    await using host = await startServer({ strictSni: true });
    const inspector = await inspect(host.server);
    for (let i = 0; i < 60; i++) {
      const socket = await connectTcp(host.port);
      socket.end(`GET /${i} HTTP/1.1\r\n\r\n`);
    }
    await until(() => host.server.counters.refused === 60, "all have failed");
    const { failures } = await stateOf(inspector.url);
    assert.deepEqual(failures.map(({ times }: State) => times), [60]); // all alike
    await inspector.stop();
  });

  test("keeps no connection of those who look when its server has stopped", async () => {
    const { server } = await started(() => new Response("hello"));
    const inspector = await inspect(server);
    const { port } = new URL(inspector.url);
    const looking = async () => {
      const client = await RawClient.connect(Number(port));
      client.send(`GET /?stream HTTP/1.1\r\nHost: 127.0.0.1:${port}\r\n\r\n`);
      await client.expect("event: state");
      return client;
    };
    const before = await looking();
    await server.stop();
    await before.rest();
    assert.match(before.text, /\r\n0\r\n\r\n$/, "the stream has ended in good order");
    const late = await looking(); // as browsers do by themselves
    await late.rest();
    assert.match(late.text, /"state":"idle"/);
    await server.start();
    const again = await looking();
    await again.until(() => again.text.split("event: state").length > 2); // it goes on
    await inspector.stop();
    for (const client of [before, late, again]) client.destroy();
  });

  test("names options that are not its", async () => {
    await using host = await startServer();
    await assert.rejects(
      inspect(host.server, { hostname: "0.0.0.0" } as never),
      /loopback|127\.0\.0\.1/,
    );
    await assert.rejects(inspect(host.server, { prot: 1 } as never), /did you mean port/);
    await assert.rejects(inspect({} as never), /give a server of httpsd/);
    assert.throws(() => inspector(host.server, { hosts: ["a:1"] }), /without a port/);
    assert.throws(() => inspector(host.server, { hosts: [] }), /hosts/);
  });
});

describe("inspector() as a handler", () => {
  test("answers on any path, under the hosts that it is given, and ends with its server", async () => {
    const { server, port } = await started((request) => page.fetch(request));
    const page = inspector(server, { hosts: ["admin.example"] });
    const url = `http://127.0.0.1:${port}/inspector`;
    assert.equal((await get(url)).status, 421);
    const mine = { host: "admin.example" };
    assert.match((await get(url, mine)).body, /^<!doctype html>/);
    const client = await RawClient.connect(port);
    client.send("GET /inspector?stream HTTP/1.1\r\nHost: admin.example\r\n\r\n");
    await client.expect("event: state");
    await server.stop({ drainMs: 60_000 }); // a stream that goes on would hold it
    assert.match(client.text, /\r\n0\r\n\r\n$/, "the stream has ended in good order");
    page.stop();
  });

  test("follows no request until something looks, and again none when nothing does", async () => {
    const { server, port } = await started(() => new Response("hello"));
    let observers = 0;
    const observe = server.observe.bind(server);
    server.observe = (observer) => {
      observers++;
      const stop = observe(observer);
      return () => {
        observers--;
        stop();
      };
    };
    const page = inspector(server);
    const client = await RawClient.connect(port);
    client.send(GET("/"));
    await client.expect("hello");
    assert.equal(observers, 0);
    await page.fetch(new Request("http://localhost/?state")).text();
    assert.equal(observers, 1);
    page.stop();
    assert.equal(observers, 0);
    assert.equal(page.fetch(new Request("http://localhost/?state")).status, 503);
  });
});

describe("A client that takes nothing", () => {
  test("holds one event at most, and gets the latest state when it takes again", async () => {
    const { server } = await started(() => new Response("hello"));
    const page = inspector(server);
    const abort = new AbortController();
    const request = new Request("http://localhost/?stream", { signal: abort.signal });
    const reader = page.fetch(request).body!.getReader(); // takes only what the test reads
    await reader.read(); // the first comment
    for (let i = 0; i < 30; i++) await server.fetch(new Request("http://localhost/"));
    // Two more seconds go by, of which another client sees both.
    const other = page.fetch(new Request("http://localhost/?stream")).body!.getReader();
    const decoder = new TextDecoder();
    let seen = "";
    while (seen.split("event: state").length < 4) {
      seen += decoder.decode((await other.read()).value, { stream: true });
    }
    await other.cancel();
    let waiting = "";
    while (!/event: state\n.*\n\n/.test(waiting)) {
      waiting += decoder.decode((await reader.read()).value, { stream: true });
    }
    assert.equal(waiting.split("event: history").length - 1, 1, "one turn had been made");
    const [, state] = /event: state\ndata: (.*)\n/.exec(waiting)!;
    assert.equal(JSON.parse(state!).counts.requests, 30, "the state is the latest");
    assert.ok(waiting.length < 10_000);
    abort.abort();
    page.stop();
  });
});

describe("What a source renews", () => {
  test("is in stats() and on the page: next renewal, last error, and what is not there yet", async () => {
    const identity = await loadIdentity(localhost);
    const renewAt = new Date("2030-01-01T00:00:00Z");
    const error = new AcmeError("ACME_TIMEOUT", "The CA did not answer");
    const source: CertificateSource = {
      select: () => identity,
      covers: () => true,
      renewals: () => [
        { names: ["localhost"], identity, renewAt, error: undefined },
        { names: ["new.example"], identity: undefined, renewAt: undefined, error },
        { names: 7 } as never, // a source may be any program's
      ],
    };
    const server = new HttpsServer(
      { certificates: source, hostname: "127.0.0.1", port: 0 },
      () => new Response(),
    );
    await server.start();
    const inspector = await inspect(server);
    const { certificates, renewals } = server.stats();
    assert.deepEqual(certificates.map(({ names }) => names), [identity.names]);
    assert.deepEqual(renewals.map(({ names, renewAt, error }) => [names, renewAt, error?.code]), [
      [["localhost"], renewAt, undefined],
      [["new.example"], undefined, "ACME_TIMEOUT"],
    ]);
    const { certificates: shown } = await stateOf(inspector.url);
    assert.deepEqual(shown[0].names, ["new.example"]);
    assert.deepEqual(shown[0].error, { code: "ACME_TIMEOUT", message: "The CA did not answer" });
    assert.equal(shown[0].to, null);
    assert.equal(shown[1].renewAt, renewAt.getTime());
    await inspector.stop();
    await server.stop();
  });
});

test("quantiles are right within a tenth, and add up", () => {
  const first = new Latencies();
  const second = new Latencies();
  for (let ms = 1; ms <= 500; ms++) first.add(ms);
  for (let ms = 501; ms <= 1000; ms++) second.add(ms);
  first.addAll(second);
  for (const [part, expected] of [[0.5, 500], [0.95, 950], [0.99, 990]] as const) {
    const value = first.quantile(part)!;
    assert.ok(value >= expected && value < expected * 1.11, `${part}: ${value}`);
  }
  assert.equal(new Latencies().quantile(0.5), undefined);
  for (const odd of [0, -1, NaN, Infinity]) second.add(odd);
  assert.ok(second.quantile(1)! > 1000);
});
