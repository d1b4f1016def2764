/** `/livez` and `/readyz`: before the start, while it runs, without a certificate, before a drain. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { health } from "../lib/telemetry/health.ts";
import { metrics } from "../lib/telemetry/metrics.ts";
import { HttpsServer } from "../mod.ts";
import { DAY_MS, MemoryStorage, TestCa, TestTime, watched } from "./automatic_support.ts";
import { GET, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";
import { localhost, startServer } from "./tls_support.ts";

assertRuntime();
stopServersAfterAll();

/** The status and body of an answer. */
async function shown(response: Response | Promise<Response>): Promise<string> {
  const { status, ...rest } = await response;
  void rest;
  return `${status} ${(await (await response).text()).trimEnd().replaceAll("\n", ", ")}`;
}

const OPTIONS = { transportMode: "insecure", hostname: "127.0.0.1", port: 0 } as const;

describe("health()", () => {
  test("is ready while the server runs", async () => {
    const server = new HttpsServer(OPTIONS, () => new Response());
    const it = health(server);
    assert.equal(await shown(it.ready()), "503 failed running, ok accepting");
    assert.equal(await shown(it.live()), "200 ok live");
    await server.start();
    assert.equal(await shown(it.ready()), "200 ok running, ok accepting");
    await server.stop();
    assert.equal(await shown(it.ready()), "503 failed running, ok accepting");
  });

  test("is not ready without a certificate that is valid now", async () => {
    await using host = await startServer({ ...localhost });
    assert.match(await shown(health(host.server).ready()), /^200 .*, ok certificate$/);
    const server = new HttpsServer({
      hostname: "127.0.0.1",
      port: 0,
      certSelect: () => null,
    }, () => new Response());
    await server.start();
    assert.match(await shown(health(server).ready()), /^503 .*, failed certificate$/);
    assert.match(await shown(health(server, { certificate: false }).ready()), /^200 [^c]*cc[^c]*$/);
    await server.stop();
  });

  test("knows certificates that renew themselves, of names and on demand", async () => {
    for (const options of [{ names: ["shop.example"] }, { onDemand: { ask: () => true } }]) {
      const time = new TestTime();
      await time.advance(730 * DAY_MS); // to now
      const ca = new TestCa(time);
      const { promise, resolve: sign } = Promise.withResolvers<void>();
      ca.gate = promise;
      const { source, ask } = watched(time, ca, new MemoryStorage(), options);
      const server = new HttpsServer(
        { certificates: source, hostname: "127.0.0.1", port: 0 },
        () => new Response(),
      );
      let issued = 0;
      server.addEventListener("certificate:issued", () => void issued++);
      await server.start();
      const asked = ask("shop.example");
      const it = health(server);
      const exposed = metrics(server);
      const expiry = /^httpsd_certificate_expiry_timestamp_seconds\{name="shop\.example".*\} \d+$/m;
      assert.match(await shown(it.ready()), /^503 .*, failed certificate$/);
      assert.deepEqual(server.stats().certificates, []);
      assert.doesNotMatch(exposed.text(), expiry);
      sign();
      await until(() => issued === 1, "it is there");
      await asked;
      assert.match(await shown(it.ready()), /^200 .*, ok certificate$/);
      assert.deepEqual(server.stats().certificates.map(({ names }) => names), [["shop.example"]]);
      assert.match(exposed.text(), expiry);
      await server.stop();
      assert.match(await shown(it.ready()), /^503 failed running/);
    }
  });

  test("says that it is not ready before a drain begins, and while it goes on", async () => {
    const { promise, resolve } = Promise.withResolvers<Response>();
    const { server, port } = await started(({ url }) => url.endsWith("/slow") ? promise : ready());
    const it = health(server);
    const ready = () => it.ready();
    const slow = await RawClient.connect(port);
    slow.send(GET("/slow"));
    await until(() => server.stats().requests.active === 1, "the request is there");
    const stopped = it.stop({ noticeMs: 700, drainMs: 5_000 });
    const asked = await RawClient.connect(port); // new connections are still accepted
    asked.send(GET("/readyz"));
    await asked.expect("failed accepting");
    assert.match(asked.text, /^HTTP\/1\.1 503 /);
    assert.equal(server.state, "running");
    await until(() => server.state === "stopping", "the drain has begun");
    assert.equal(await shown(it.ready()), "503 failed running, failed accepting");
    resolve(new Response("late"));
    await slow.expect("late");
    await stopped;
    assert.equal(server.state, "idle");
    slow.destroy();
    asked.destroy();
  });

  test("asks the program's checks, and is not held up by them", async () => {
    const { server } = await started(() => new Response());
    let database: unknown = true;
    const it = health(server, {
      checkMs: 50,
      checks: {
        database: () => database as boolean,
        throws: () => {
          throw new Error("a secret");
        },
        hangs: () => new Promise(() => {}),
      },
    });
    const expected = "503 ok running, ok accepting, ok database, failed throws, failed hangs";
    assert.equal(await shown(it.ready()), expected);
    database = "yes"; // only true counts
    assert.match(await shown(it.ready()), /failed database/);
    it.setReady(false);
    assert.match(await shown(it.ready()), /failed accepting/);
  });

  test("answers on a listener of its own", async () => {
    const { server } = await started(() => new Response());
    const { port } = await started(health(server).fetch);
    const statuses: string[] = [];
    for (const [method, path] of [["GET", "/livez"], ["HEAD", "/readyz"], ["GET", "/"]] as const) {
      statuses.push(await shown(fetch(`http://127.0.0.1:${port}${path}`, { method })));
    }
    statuses.push(await shown(fetch(`http://127.0.0.1:${port}/livez`, { method: "PUT" })));
    assert.deepEqual(statuses, ["200 ok live", "200 ", "404 Not found", "405 Use GET"]);
    const { headers } = await fetch(`http://127.0.0.1:${port}/readyz`, { method: "HEAD" });
    assert.equal(headers.get("cache-control"), "no-store");
  });

  test("refuses wrong options", async () => {
    const server = new HttpsServer(OPTIONS, () => new Response());
    const wrong = { code: "INVALID_CONFIG" };
    assert.throws(() => health({} as never), wrong);
    assert.throws(() => health(server, { checks: { a: 1 } } as never), wrong);
    assert.throws(() => health(server, { check: () => true } as never), /write checks/);
    await assert.rejects(health(server).stop({ notice: 1 } as never), wrong);
  });
});
