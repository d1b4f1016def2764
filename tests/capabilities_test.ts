/** Holds each entry of `server.capabilities` to the truth: the option works, or throws. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { once } from "node:events";
import { rmSync } from "node:fs";
import net from "node:net";
import { type Capabilities, capabilities } from "../lib/runtime/capabilities.ts";
import type { HttpsServerOptions } from "../lib/config.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { received } from "./support.ts";
import {
  alice,
  clientCa,
  file,
  pairFor,
  run,
  sClient,
  serverCaFile,
  startServer,
  VERSIONS,
} from "./tls_support.ts";

assertRuntime();

/** Starts a server with the options that ask for it, and fails unless they have their effect. */
type Proof = () => Promise<void>;

/** Whether a server with `options` serves a client. */
async function serves(options: HttpsServerOptions, client = {}) {
  await using server = await startServer(options);
  const result = await sClient(server.port, client);
  assert.equal(result.status, 200, result.output);
  return result;
}

/** Whether a second connection can resume the session of the first. */
async function resumes(options: HttpsServerOptions): Promise<boolean> {
  await using server = await startServer(options);
  const save = file("");
  await sClient(server.port, { version: "TLSv1.2", save });
  return (await sClient(server.port, { version: "TLSv1.2", resume: save })).resumed;
}

const proofs: Record<Exclude<keyof Capabilities, "runtime" | "tlsVersions" | "internals">, Proof> =
  {
    async certSelect() {
      const identities = [await pairFor("a.example")];
      const { serverName } = await serves({ identities }, { name: "a.example" });
      assert.equal(serverName, "a.example");
    },
    async alpn() {
      const { facts } = await serves({ alpnProtocols: ["x"] }, { args: ["-alpn", "y,x"] });
      assert.equal(facts?.alpn, "x");
    },
    async clientCertificates() {
      const { facts } = await serves({ cacert: clientCa.cert }, { client: alice });
      assert.equal(facts?.authorized, true);
    },
    async proxyProtocol() {
      await using server = await startServer({
        transportMode: "insecure",
        proxyProtocol: { trustedProxies: ["127.0.0.1"] },
      });
      const socket = net.connect(server.port, "127.0.0.1");
      await once(socket, "connect");
      socket.write("PROXY TCP4 192.0.2.7 192.0.2.1 1 443\r\n");
      socket.write("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
      assert.match((await received(socket)).toString(), /"remoteAddress":"192\.0\.2\.7"/);
      socket.destroy();
    },
    async ciphers() {
      const ciphers = ["ECDHE-ECDSA-CHACHA20-POLY1305"];
      const { facts } = await serves({ ciphers }, { version: "TLSv1.2" });
      assert.equal(facts?.cipher, ciphers[0]);
    },
    async sessionTickets() {
      assert.equal(await resumes({ sessionTickets: true }), true);
    },
    async sessionTicketsOff() {
      assert.equal(await resumes({ sessionTickets: false }), false);
    },
    async sessionTicketKeys() {
      await serves({ sessionTicketKeys: new Uint8Array(48) });
      assert.fail("A proof is missing: a session of one process must resume in another");
    },
    async ocspStapling() {
      const { output } = await serves({ ocspStapling: true }, { args: ["-status"] });
      assert.match(output, /OCSP Response Status: successful/);
    },
    async earlyData() {
      await serves({ earlyData: true });
      assert.fail("A proof is missing: a request in early data must be answered");
    },
    async reusePort() {
      await using first = await startServer({ reusePort: true });
      await using second = await startServer({ reusePort: true, port: first.port });
      assert.equal(second.port, first.port);
      await sClient(first.port);
    },
    async unixSockets() {
      const path = file("");
      rmSync(path);
      await using server = await startServer(
        { hostname: undefined, port: undefined, path } as never,
      );
      assert.equal(server.server.address.path, path);
      const args = ["s_client", "-unix", path, "-servername", "localhost", "-CAfile", serverCaFile];
      assert.match(await run("openssl", [...args, "-verify_return_error"]), /Verification: OK/);
    },
    async inheritedSockets() {
      const options = { hostname: undefined, port: undefined, fd: 0 } as never;
      await assert.rejects(startServer(options), { code: "LISTEN_FAILED" }); // listen_test.ts hands one over
    },
    async http2() {
      await using server = await startServer({ http1: false });
      const args = ["-s", "--http2", "--cacert", serverCaFile, "-w", "%{http_version}"];
      const url = `https://localhost:${server.port}/`;
      const output = await run("curl", [...args, "--resolve", `*:${server.port}:127.0.0.1`, url]);
      assert.match(output, /"alpn":"h2".*\}2$/);
    },
    async secureElement() {
      await serves({ useSecureElement: true });
    },
  };

describe("server.capabilities", () => {
  test("is frozen, and names its runtime", async () => {
    await using server = await startServer();
    assert.equal(server.server.capabilities, capabilities);
    assert.ok(Object.isFrozen(capabilities) && Object.isFrozen(capabilities.tlsVersions));
    assert.equal(capabilities.runtime, runtime);
  });

  test("has no entry that is not tested here", () => {
    const tested = ["runtime", "tlsVersions", "internals", ...Object.keys(proofs)];
    assert.deepEqual(Object.keys(capabilities).sort(), tested.sort());
  });

  test("names the TLS versions that are served, and no others are", async () => {
    assert.deepEqual(capabilities.tlsVersions, VERSIONS);
    for (const version of VERSIONS) {
      assert.equal((await serves({ tlsVersion: version })).facts?.protocol, version);
    }
    await assert.rejects(startServer({ tlsVersion: "TLSv1.1" as "TLSv1.2" }), {
      code: "INVALID_CONFIG",
    });
  });

  for (const [name, proof] of Object.entries(proofs)) {
    const works = capabilities[name as keyof typeof proofs];
    test(`${name}: ${works ? "works" : "throws NOT_SUPPORTED"}`, async () => {
      if (works) await proof();
      else await assert.rejects(proof, { code: "NOT_SUPPORTED", message: /^Option \w+/ });
    });
  }
});
