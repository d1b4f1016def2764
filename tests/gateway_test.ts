/** examples/gateway.ts, with devices and operators that are real clients. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { once } from "node:events";
import { type OutgoingHttpHeaders, request as httpRequest } from "node:http";
import { request as httpsRequest } from "node:https";
import { text } from "node:stream/consumers";
import WsClient from "ws";
import { createGateway } from "../examples/gateway.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import type { HttpsServer } from "../mod.ts";
import { assertRuntime } from "./runtime.ts";
import { certificates, until } from "./support.ts";

assertRuntime();

interface Pair {
  readonly cert: string;
  readonly key: string;
}

/** A gateway that runs, and the authority of its fleet. */
async function gateway(maxDevices?: number) {
  const { ca, cert, key } = await certificates();
  const fleet = await createCertificateAuthority({ name: "Fleet" });
  const { devices, admin } = createGateway(
    { cert, key, hostname: "127.0.0.1", port: 0 },
    { ca: fleet.cert, adminPort: 0, ...(maxDevices !== undefined && { maxDevices }) },
  );
  await devices.start();
  await admin.start();
  return {
    ca,
    fleet,
    devices,
    admin,
    operators: `http://127.0.0.1:${(admin.address as { port: number }).port}`,
    async [Symbol.asyncDispose]() {
      await Promise.all([devices.stop({ drainMs: 0 }), admin.stop({ drainMs: 0 })]);
    },
  };
}

const portOf = (server: HttpsServer) => (server.address as { port: number }).port;

/** The status of a device's report. */
async function report(
  { devices, ca }: { devices: HttpsServer; ca: string },
  pair: Partial<Pair>,
  body: string,
): Promise<number | undefined> {
  const request = httpsRequest({
    ...{ host: "127.0.0.1", port: portOf(devices), path: "/report", method: "POST" },
    ...{ servername: "localhost", agent: false, ca, ...pair },
  });
  request.end(body);
  const [response] = await once(request, "response");
  await text(response);
  return response.statusCode;
}

/** A device's WebSocket that is ready for commands. */
async function listenTo(
  { devices, ca }: { devices: HttpsServer; ca: string },
  pair: Pair,
): Promise<WsClient> {
  const socket = new WsClient(`wss://localhost:${portOf(devices)}/commands`, {
    ...{
      ca,
      ...pair,
      lookup: (_: string, __: object, done: (...args: unknown[]) => void) =>
        done(null, [{ address: "127.0.0.1", family: 4 }]),
    },
  } as object);
  const [ready] = await once(socket, "message");
  assert.equal(String(ready), "ready");
  return socket;
}

describe("The gateway", () => {
  test("takes reports and passes commands on, of devices with a certificate alone", async () => {
    await using site = await gateway();
    const { fleet, operators } = site;
    const pump = await fleet.issue({ usage: "client", subject: "CN=pump-1" });
    const valve = await fleet.issue({ usage: "client", subject: "CN=valve-2" });
    const stranger = await (await createCertificateAuthority()).issue({
      usage: "client",
      subject: "CN=pump-1",
    });
    const nameless = await fleet.issue({ usage: "client", subject: "O=nobody" });
    const posing = await fleet.issue({ usage: "client", subject: "O=a\\, CN=pump-1" });
    const another = await fleet.issue({ usage: "client", subject: "CN=pump-9,O=a\\, CN=pump-1" });

    for (const pair of [{}, stranger, nameless, posing, another]) {
      const { cert, key } = pair as Partial<Pair>;
      await assert.rejects(report(site, cert === undefined ? {} : { cert, key: key! }, "{}"));
    }
    assert.equal(await report(site, { cert: pump.cert, key: pump.key }, '{"celsius":21.5}'), 204);
    const known = await (await fetch(`${operators}/devices`)).json();
    assert.deepEqual(known["pump-1"].report, { celsius: 21.5 });

    const [one, other] = [await listenTo(site, pump), await listenTo(site, valve)];
    const heard = once(one, "message");
    const answer = await fetch(`${operators}/devices/pump-1`, { method: "POST", body: "open" });
    assert.deepEqual([answer.status, await answer.json()], [202, { told: 1 }]);
    assert.equal(String((await heard)[0]), "open");
    const all = Promise.all([once(one, "message"), once(other, "message")]);
    await (await fetch(`${operators}/devices/all`, { method: "POST", body: "sleep" })).text();
    assert.deepEqual((await all).map(([message]) => String(message)), ["sleep", "sleep"]);
    const none = await fetch(`${operators}/devices/pump-9`, { method: "POST", body: "open" });
    assert.deepEqual([none.status, await none.json()], [404, { told: 0 }]);
    one.send("is open");
    await until(
      async () =>
        (await (await fetch(`${operators}/devices`)).json())["pump-1"].report === "is open",
      "the device's answer is kept",
    );

    const shown = await (await fetch(`${operators}/metrics`)).text();
    assert.match(shown, /^httpsd_websockets 2$/m);
    assert.match(await (await fetch(`${operators}/inspector`)).text(), /<!doctype html>/i);
    assert.equal((await fetch(`${operators}/readyz`)).status, 200);
    one.terminate();
    other.terminate();
  }, 20_000);

  test("takes no command from a page of another site that an operator visits", async () => {
    await using site = await gateway();
    const port = portOf(site.admin);
    const statusFor = async (method: string, path: string, headers: OutgoingHttpHeaders) => {
      const request = httpRequest({ host: "127.0.0.1", port, path, method, headers, agent: false });
      request.end(method === "POST" ? "open" : undefined);
      const [response] = await once(request, "response");
      await text(response);
      return response.statusCode;
    };
    for (const host of [`127.0.0.1:${port}`, `localhost:${port}`]) {
      assert.equal(await statusFor("GET", "/devices", { host }), 200);
      assert.equal(await statusFor("POST", "/devices/all", { host }), 404);
      const own = { host, "sec-fetch-site": "same-origin" };
      assert.equal(await statusFor("GET", "/inspector", own), 200);
      for (const other of ["cross-site", "same-site"]) {
        const headers = { host, "sec-fetch-site": other };
        assert.equal(await statusFor("POST", "/devices/all", headers), 403);
        assert.equal(await statusFor("GET", "/devices", headers), 403);
      }
    }
    const rebound = { host: `evil.example:${port}`, "sec-fetch-site": "same-origin" };
    for (const path of ["/devices", "/metrics", "/inspector", "/readyz"]) {
      assert.equal(await statusFor("GET", path, rebound), 403);
    }
  }, 20_000);

  test("closes the device that was used least recently to let another in", async () => {
    await using site = await gateway(2);
    const pairs = [];
    for (const name of ["a", "b", "c"]) {
      pairs.push(await site.fleet.issue({ usage: "client", subject: `CN=${name}` }));
    }
    const first = await listenTo(site, pairs[0]!);
    const second = await listenTo(site, pairs[1]!);
    const left = once(first, "close");
    const third = await listenTo(site, pairs[2]!);
    assert.equal((await left)[0], 1001);
    assert.equal(second.readyState, WsClient.OPEN);
    second.terminate();
    third.terminate();
  }, 20_000);
});
