/** examples/simple.ts as its visitors see it: curl, OpenSSL, Chromium; and how it fails. */
import assert from "node:assert/strict";
import { afterAll, beforeAll, describe, test } from "bun:test";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { cp, mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import process from "node:process";
import { fileURLToPath } from "node:url";
import { CONTENT_SECURITY_POLICY, renderPage } from "../examples/simple_page.ts";
import type { ClientHello, TlsInfo } from "../mod.ts";
import { assertFitsScreens, Page, testWithChromium } from "./chromium.ts";
import { assertRuntime, PINNED, runtime } from "./runtime.ts";

assertRuntime();

const example = fileURLToPath(new URL("../examples/simple.ts", import.meta.url));

let directory: string;
let certs: string;
let caFile: string;
let server: ChildProcess;
let port: string;

beforeAll(async () => {
  directory = await mkdtemp(join(tmpdir(), "httpsd-simple-"));
  certs = join(directory, "certs");
  caFile = join(certs, "ca.pem");
  // Should it end early, the inherited stderr says why.
  server = startExample({ PORT: "0", CERTS: certs }, { stderr: "inherit" });
  port = await listeningPort(server);
});

afterAll(async () => {
  server.kill("SIGKILL");
  await rm(directory, { recursive: true });
});

function startExample(
  env: Record<string, string>,
  { denoFlags = ["-A"], stderr = "pipe" }: { denoFlags?: string[]; stderr?: "pipe" | "inherit" } =
    {},
): ChildProcess {
  const args = runtime === "deno" ? ["run", PINNED, ...denoFlags, example] : [example];
  return spawn(process.execPath, args, {
    env: { ...process.env, ...env },
    stdio: ["ignore", "pipe", stderr],
  });
}

async function listeningPort(child: ChildProcess): Promise<string> {
  let output = "";
  for await (const chunk of child.stdout!.setEncoding("utf8")) {
    output += chunk;
    const found = /Listening on https:\/\/localhost:(\d+)\/[^]*curl --cacert/.exec(output);
    if (found?.[1] !== undefined) return found[1];
  }
  throw new Error(`The example ended early: ${output}`);
}

const HELLO: ClientHello = {
  serverName: undefined,
  alpnProtocols: [],
  versions: [0x0304],
  cipherSuites: [0x1301],
  signatureAlgorithms: [0x0403],
  groups: [0x1d],
  extensions: [0],
  legacyVersion: 0x0303,
  hasPreSharedKey: false,
  hasEarlyData: false,
  ja4: "t13d0101h2_0123456789ab_0123456789ab",
};

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

async function ended(child: ChildProcess): Promise<Ended> {
  const result: Ended = { code: null, stdout: "", stderr: "" };
  child.stdout!.setEncoding("utf8").on("data", (text: string) => result.stdout += text);
  child.stderr!.setEncoding("utf8").on("data", (text: string) => result.stderr += text);
  const [code] = await once(child, "close");
  return { ...result, code };
}

function run(command: string, args: string[], input = ""): string {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: "utf8",
    timeout: 60_000,
    input,
  });
  assert.equal(status, 0, `${command} ${args.join(" ")}: ${error ?? ""}${stdout}${stderr}`);
  return stdout;
}

/** The value that the page shows under a label. */
function shown(page: string, label: string): string | undefined {
  const start = page.indexOf(`<dt>${label}</dt><dd>`);
  assert.notEqual(start, -1, `No "${label}" on the page: ${page}`);
  return /<dd>(.*?)<\/dd>/.exec(page.slice(start))?.[1];
}

/** Fetches the page with s_client, which is made to close when the server does. */
function fetchWithOpenssl(...args: string[]): string {
  const client = ["s_client", "-connect", `127.0.0.1:${port}`, "-CAfile", caFile, "-ign_eof"];
  const input = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
  return run("openssl", [...client, "-verify_return_error", ...args], input);
}

describe("simple.ts", () => {
  test("shows curl its connection, and counts the requests on it", () => {
    const url = `https://localhost:${port}/`;
    const both = run("curl", ["-sS", "--fail", "--cacert", caFile, "--http1.1", url, url]);
    const pages = both.split("<!doctype html>").slice(1);
    assert.equal(pages.length, 2);
    assert.match(shown(pages[0]!, "Version")!, /^TLSv1\.3$/);
    assert.match(shown(pages[0]!, "Cipher suite")!, /^TLS_(AES|CHACHA20)/);
    assert.equal(shown(pages[0]!, "Server name (SNI)"), "localhost");
    assert.equal(shown(pages[0]!, "Protocol (ALPN)"), "http/1.1");
    assert.equal(shown(pages[0]!, "Handshake"), "full");
    assert.match(shown(pages[0]!, "Your certificate")!, /^none/);
    assert.match(shown(pages[0]!, "Your address")!, /^127\.0\.0\.1 port \d+$/);
    assert.equal(shown(pages[0]!, "Requests on it"), "1");
    assert.equal(shown(pages[1]!, "Requests on it"), "2");
    assert.equal(shown(pages[1]!, "Connection"), shown(pages[0]!, "Connection"));
  });

  test("sends its security headers", () => {
    const args = ["-sS", "--cacert", caFile, "-D", "-", "-o", join(directory, "page.html")];
    const head = run("curl", [...args, `https://localhost:${port}/`]).toLowerCase();
    assert.ok(head.includes(`content-security-policy: ${CONTENT_SECURITY_POLICY}`.toLowerCase()));
    assert.ok(head.includes("x-content-type-options: nosniff\r\n"));
  });

  test("shows OpenSSL an older version and a missing name", () => {
    const old = fetchWithOpenssl("-tls1_2", "-noservername");
    assert.match(old, /Verify return code: 0 \(ok\)/);
    assert.equal(shown(old, "Version"), "TLSv1.2");
    assert.equal(shown(old, "Server name (SNI)"), "none sent");
    assert.equal(shown(old, "Protocol (ALPN)"), "none agreed");
  });

  test("shows a resumed session", () => {
    const sessionFile = join(directory, "session.pem");
    fetchWithOpenssl("-servername", "localhost", "-tls1_3", "-sess_out", sessionFile);
    const page = fetchWithOpenssl("-servername", "localhost", "-tls1_3", "-sess_in", sessionFile);
    assert.match(shown(page, "Handshake")!, /^resumed/);
  });

  testWithChromium("is a page to Chromium that trusts the authority, else none", async () => {
    const url = `https://localhost:${port}/`;
    await using trusting = await Page.open(url, await readFile(caFile, "utf8"));
    const page = await trusting.evaluate<string>("document.documentElement.outerHTML");
    assert.equal(shown(page, "Version"), "TLSv1.3");
    assert.equal(shown(page, "Server name (SNI)"), "localhost");
    assert.equal(shown(page, "Protocol (ALPN)"), "h2");
    assert.match(page, /<strong>HTTP\/2<\/strong>/);
    assert.match(page, /class="ja4" aria-label="t13d\d{4}h2_[0-9a-f]{12}_[0-9a-f]{12}"/);
    await trusting.until(`document.getElementById("events").children.length >= 2`);
    await trusting.evaluate(`document.getElementById("ping").click()`);
    await trusting.until(`/GET .ping → 200/.test(document.getElementById("events").innerText)`);
    assert.match(
      await trusting.evaluate(`document.getElementById("events").innerText`),
      /connected/,
    );
    await assertFitsScreens(trusting, "start");
    assert.deepEqual(trusting.complaints, []);

    await assert.rejects(Page.open(url), /ERR_CERT_AUTHORITY_INVALID/);
  });

  test("gives a client certificate that it knows again", () => {
    const url = `https://localhost:${port}/`;
    const curl = (...args: string[]) => run("curl", ["-sS", "--cacert", caFile, ...args]);
    const page = curl(url);
    const [, password] = /name="password" readonly value="([\w-]+)"/.exec(page)!;
    assert.ok(page.includes(`:${password} \\\n  ${url}</pre>`), "the command for curl is for it");
    const file = join(directory, "client.p12");
    const form = ["-d", `name=Ada <b>`, "-d", `password=${password}`];
    const origin = ["-H", `Origin: https://localhost:${port}`];
    curl("--fail", ...form, ...origin, "-o", file, `${url}client-certificate`);
    const pass = `pass:${password}`;
    const about = run("openssl", ["pkcs12", "-in", file, "-passin", pass, "-nodes", "-info"]);
    assert.match(about, /subject=CN ?= ?Ada b\n/);
    assert.match(about, /BEGIN PRIVATE KEY/);
    const wrong = spawnSync("openssl", ["pkcs12", "-in", file, "-passin", "pass:no", "-nodes"]);
    assert.notEqual(wrong.status, 0);
    const known = curl("--cert-type", "P12", "--cert", `${file}:${password}`, url);
    assert.match(known, /Welcome back/);
    assert.equal(shown(known, "Your certificate"), "CN=Ada b");
    assert.doesNotMatch(known, /<form/);

    const status = ["-o", "/dev/null", "-w", "%{http_code}"];
    const to = `${url}client-certificate`;
    const evil = ["-H", "Origin: https://evil.test"];
    assert.equal(curl(...status, ...form, to), "403", "no Origin");
    assert.equal(curl(...status, ...form, ...evil, to), "403", "another site's form");
    assert.equal(curl(...status, ...origin, "-d", "name=&password=x", to), "400");
    assert.equal(curl(...status, ...origin, "-d", `name=${"x".repeat(2_000)}`, to), "413");
  }, 60_000);

  test("shows what to read next, and no other file", () => {
    const args = ["-sS", "--cacert", caFile, "--path-as-is"];
    const url = `https://localhost:${port}`;
    assert.match(run("curl", [...args, `${url}/examples/simple_http.ts`]), /simplest|example/i);
    for (const path of ["/certs/ca.key", "/docs/../certs/ca.key", "/package.json", "/docs/"]) {
      const status = ["-o", "/dev/null", "-w", "%{http_code}"];
      assert.equal(run("curl", [...args, ...status, url + path]), "404", path);
    }
  });

  test("answers other paths with 404", () => {
    const args = ["-sS", "--cacert", caFile, "-o", "/dev/null", "-w", "%{http_code}"];
    assert.equal(run("curl", [...args, `https://localhost:${port}/other`]), "404");
  });

  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    test(`ends with code 0 on ${signal}`, async () => {
      const child = startExample({ PORT: "0", CERTS: certs });
      await listeningPort(child);
      const end = once(child, "close");
      process.kill(child.pid!, signal); // after child.kill(), Deno reports the signal, not the code
      assert.deepEqual(await end, [0, null]);
    }, 60_000);
  }
});

describe("simple.ts explains in one line", () => {
  function assertOneLine({ code, stderr }: Ended, expected: RegExp): void {
    assert.ok(code !== null && code > 0, `Exit code ${code}`);
    assert.match(stderr, expected);
    assert.equal(stderr.trimEnd().split("\n").length, 1, stderr);
  }

  test("a port that is in use", async () => {
    const other = createServer().listen(0, "127.0.0.1");
    await once(other, "listening");
    try {
      const taken = String((other.address() as AddressInfo).port);
      assertOneLine(
        await ended(startExample({ PORT: taken, CERTS: certs })),
        /another process listens/,
      );
    } finally {
      other.close();
    }
  }, 60_000);

  test("a port that is none", async () => {
    assertOneLine(await ended(startExample({ PORT: "https", CERTS: certs })), /port/);
  }, 60_000);

  test("a key that cannot be read", async () => {
    const broken = join(directory, "broken");
    await cp(certs, broken, { recursive: true });
    await writeFile(join(broken, "localhost.key"), "no key");
    assertOneLine(await ended(startExample({ PORT: "0", CERTS: broken })), /key cannot be read/);
  }, 60_000);

  if (runtime === "deno") {
    test("a missing permission", async () => {
      const env = { PORT: "0", CERTS: certs };
      // Without any --allow flag, Deno's node:child_process would hand on its own permissions.
      const few = ["--no-prompt", "--allow-read"];
      assertOneLine(await ended(startExample(env, { denoFlags: few })), /--allow-env/);
      // The certificates are there already, so writing is not needed, but listening is.
      const denoFlags = [...few, "--allow-env"];
      assertOneLine(await ended(startExample(env, { denoFlags })), /--allow-net/);
    }, 60_000);
  }
});

describe("renderPage()", () => {
  test("escapes every text, above all what clients send", () => {
    const nasty = `<script>"&'</script>`;
    const hello = { ...HELLO, serverName: nasty, alpnProtocols: [nasty, nasty], ja4: nasty };
    const tls: TlsInfo = {
      protocol: nasty,
      cipher: nasty,
      sni: nasty,
      alpn: nasty,
      resumed: false,
      peerCertificate: { subject: nasty, issuer: nasty } as TlsInfo["peerCertificate"],
      authorized: false,
      authorizationError: nasty,
      hello,
      handshakeMs: 1,
    };
    const session = { id: 1, requests: 1, connectedAt: new Date(), address: nasty };
    const certificate = {
      names: [nasty],
      fingerprint256: nasty,
      validFrom: new Date(),
      validTo: new Date(),
    };
    const page = renderPage({
      runtime: nasty,
      url: nasty,
      session,
      tls,
      certificate,
      password: nasty,
    });
    assert.equal(page.split("<script>").length, 2, "its own alone");
    assert.equal(page.split("</script>").length, 2);
    assert.ok(page.split("&lt;script&gt;&quot;&amp;&#39;&lt;/script&gt;").length > 12);
  });
});
