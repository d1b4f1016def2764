/** lib/cli/: the command as its users run it, each command and option. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { spawn, spawnSync } from "node:child_process";
import { X509Certificate } from "node:crypto";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import http from "node:http";
import net, { type AddressInfo } from "node:net";
import { join } from "node:path";
import process from "node:process";
import { VERSION } from "../lib/cli/version.ts";
import {
  caFile,
  certs,
  COMMAND,
  command,
  curl,
  execute,
  folder,
  LONG_MS,
  makeFiles,
  run,
  running,
  site,
  start,
  STATUS,
} from "./cli_support.ts";
import { startPebble, testWithPebble } from "./pebble.ts";
import { freePorts, hold } from "./ports.ts";
import { assertRuntime, PREPARED_MS } from "./runtime.ts";
import { until } from "./support.ts";
import { alice, clientCa, file, localhost, serverCaFile } from "./tls_support.ts";

assertRuntime();
await makeFiles();

describe("httpsd --acme", () => {
  testWithPebble("gets a certificate, and redirects the rest of plain HTTP", async () => {
    await using pebble = await startPebble();
    const ca = join(folder, "pebble.pem");
    const root = join(folder, "pebble-root.pem");
    writeFileSync(ca, pebble.ca);
    writeFileSync(root, await pebble.root());
    const acme = ["--acme", "localhost.example", "--acme-directory", pebble.directory];
    const more = ["--acme-ca", ca, "--http-port", String(pebble.httpPort)];
    const own = ["--certs", join(folder, "acme"), "--port", "0"];
    const { ready, output, end } = await start(["serve", site, ...acme, ...more, ...own]);
    assert.equal(ready.certificate, "ACME, for localhost.example");
    await until(() => output().includes('"issued":["localhost.example"]'), "it has one", 30_000);
    const to = `localhost.example:${ready.port}`;
    const { stdout } = await execute("curl", [
      ...["-sS", "--cacert", root, "--resolve", `${to}:127.0.0.1`, `https://${to}/`],
    ]);
    assert.match(stdout, /^<title>Home/);
    const answer = await fetch(`http://127.0.0.1:${pebble.httpPort}/a?b`, { redirect: "manual" });
    await answer.body?.cancel();
    assert.equal(answer.headers.get("location"), "https://127.0.0.1/a?b");
    assert.equal(await end(), 0);
  }, LONG_MS);

  test("says what it needs when the port for plain HTTP is taken", async () => {
    const blocker = net.createServer().listen(0, "127.0.0.1");
    await once(blocker, "listening");
    const { port } = blocker.address() as AddressInfo;
    const acme = ["--acme", "a.example", "--acme-directory", "https://127.0.0.1:1/"];
    const [free] = await freePorts(1);
    for (const more of [["--port", "0"], ["--port", String(free), "--workers", "2"]]) {
      const { status, stderr } = run([
        ...["serve", site, ...acme, "--http-port", String(port), ...more],
        ...["--certs", join(folder, "acme")],
      ]);
      assert.equal(status, 1);
      assert.match(
        stderr,
        /^httpsd: --acme has to answer the authority on port \d+: .*Give another --http-port[^\n]*\n$/m,
      );
    }
    blocker.close();
  }, LONG_MS);
});

describe("httpsd serve", () => {
  test("serves a directory that curl trusts with the CA that is shown, until SIGTERM", async () => {
    const { ready, end } = await start(["serve", site, "--port", "0"]);
    assert.equal(ready.url, `https://localhost:${ready.port}/`);
    assert.deepEqual([ready.what, ready.caFile], [site, caFile]);
    assert.ok(ready.readyMs > 0);
    assert.match(await curl(ready.port, "/"), /^<title>Home/);
    assert.equal(await curl(ready.port, "/sub/a.txt"), "a");
    for (const path of ["/.env", "/site.key", "/../cli.ts", "/sub/", "/none"]) {
      assert.equal(await curl(ready.port, path, [...STATUS, "--path-as-is"]), "404", path);
    }
    assert.equal(await end(), 0);
  }, LONG_MS);

  test("has an inspector with --inspect, and else none", async () => {
    const { ready, end } = await start(["serve", site, "--port", "0", "--inspect"]);
    const { inspector } = ready;
    assert.match(inspector!, /^http:\/\/127\.0\.0\.1:\d+\/$/);
    await curl(ready.port, "/");
    const state = await (await fetch(`${inspector}?state`)).json();
    assert.deepEqual([state.address, state.summary.state], [`127.0.0.1:${ready.port}`, "running"]);
    assert.equal(state.counts.requests, 1);
    assert.equal(await end(), 0);
    const other = await start(["serve", site, "--port", "0"]);
    assert.equal(other.ready.inspector, undefined);
    assert.equal(await other.end(), 0);
  }, LONG_MS);

  test("is what a lone directory means; options of files", async () => {
    const { ready, end } = await start([
      site,
      "-p",
      "0",
      "--listing",
      "--spa",
      "--compress",
      "--cors",
    ]);
    const { port } = ready;
    assert.match(await curl(port, "/sub/"), /a\.txt/);
    assert.match(await curl(port, "/some/page", ["-H", "Accept: text/html"]), /^<title>Home/);
    const head = await curl(port, "/", [
      "-D",
      "-",
      "-o",
      "/dev/null",
      "-H",
      "Accept-Encoding: gzip",
    ]);
    assert.match(head, /content-encoding: gzip/i);
    assert.match(head, /access-control-allow-origin: \*/i);
    const preflight = [
      "-X",
      "OPTIONS",
      "-H",
      "Origin: https://a",
      "-H",
      "Access-Control-Request-Method: PUT",
    ];
    assert.equal(await curl(port, "/", [...STATUS, ...preflight]), "204");
    assert.equal(await end("SIGINT"), 0);
  }, LONG_MS);

  test("says where it is and how to trust it, in words", async () => {
    const [program, all] = command(["serve", site, "--port", "0", "--certs", certs]);
    const child = spawn(program, all, { cwd: folder });
    running.add(child);
    let text = "";
    child.stdout.setEncoding("utf8");
    for await (const piece of child.stdout) {
      text += piece;
      if (text.includes("--cacert")) break;
    }
    assert.match(text, /^httpsd on (?:Deno|Bun) [\d.]+, ready after \d+ ms\n/);
    assert.match(text, /\n {2}https:\/\/localhost:\d+\/ {2}.*site\n {2}Certificate: /);
    const [, ca, url] = /curl --cacert (\S+) (\S+)/.exec(text)!;
    assert.deepEqual([ca, url], [caFile, /https:\S+/.exec(text)![0]]);
    child.kill("SIGKILL");
    running.delete(child);
  }, LONG_MS);

  test("keeps its authority for the user, where none is named", async () => {
    const home = join(folder, "home");
    const { ready, end } = await start(["serve", site, "--port", "0"], { XDG_DATA_HOME: home });
    assert.equal(ready.caFile, join(home, "httpsd", "ca.pem"));
    assert.equal(statSync(join(home, "httpsd", "ca.key")).mode & 0o777, 0o600);
    await end();
  }, LONG_MS);

  test("with a certificate of one's own, and clients' certificates", async () => {
    const { ready, end } = await start([
      "serve",
      site,
      "--port",
      "0",
      "--cert",
      file(localhost.cert),
      "--key",
      file(localhost.key),
      "--client-ca",
      file(clientCa.cert),
    ]);
    assert.equal(ready.caFile, undefined);
    const shown = ["--cert", file(alice.cert), "--key", file(alice.key)];
    assert.match(await curl(ready.port, "/", shown, serverCaFile), /^<title>Home/);
    const { status } = spawnSync("curl", [
      "-s",
      "--cacert",
      serverCaFile,
      "--resolve",
      `localhost:${ready.port}:127.0.0.1`,
      `https://localhost:${ready.port}/`,
    ]);
    assert.notEqual(status, 0);
    await end();
  }, LONG_MS);

  test("on an address that other machines reach, with a certificate for it", async () => {
    const { ready, end } = await start(["serve", site, "--port", "0", "--host", "0.0.0.0"]);
    const { status, stderr } = spawnSync("curl", [
      "-sSf",
      "--cacert",
      caFile,
      `https://127.0.0.1:${ready.port}/`,
    ], { encoding: "utf8" });
    assert.equal(status, 0, stderr);
    await end();
  }, LONG_MS);

  test("logs requests in the format that is asked for", async () => {
    for (
      const [format, line] of [["common", /"GET \/sub\/a\.txt HTTP\/\d[.\d]*" 200 /], [
        "json",
        /"url\.path":"\/sub\/a\.txt"|"path":"\/sub\/a\.txt"/,
      ]] as const
    ) {
      const { ready, output, end } = await start(["serve", site, "--port", "0", "--log", format]);
      await curl(ready.port, "/sub/a.txt");
      await end();
      assert.match(output(), line);
    }
  }, LONG_MS);

  test("takes another port where the usual one is taken, and none was asked for", async () => {
    const blocker = await hold(8443);
    const { ready, end } = await start(["serve", site]);
    if (blocker.isHeld) assert.notEqual(ready.port, 8443);
    assert.match(await curl(ready.port, "/"), /^<title>Home/);
    await end();
    await blocker.release();
  }, LONG_MS);

  test("opens a browser", async () => {
    const bin = join(folder, "bin");
    mkdirSync(bin);
    writeFileSync(join(bin, "xdg-open"), `#!/bin/sh\necho "$1" > ${join(folder, "opened")}\n`);
    chmodSync(join(bin, "xdg-open"), 0o755);
    const PATH = `${bin}:${process.env["PATH"]}`;
    const { ready, end } = await start(["serve", site, "--port", "0", "--open"], { PATH });
    const opened = join(folder, "opened");
    while (!existsSync(opened) || readFileSync(opened, "utf8") === "") {
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
    assert.equal(readFileSync(opened, "utf8").trim(), ready.url);
    await end();
  }, LONG_MS);
});

describe("httpsd proxy", () => {
  test("puts HTTPS before a server", async () => {
    const upstream = http.createServer(({ url, headers }, response) => {
      response.end(`${url} ${headers.host} ${headers["x-forwarded-proto"]}`);
    }).listen(0, "127.0.0.1");
    await once(upstream, "listening");
    const { port } = upstream.address() as AddressInfo;
    const one = await start([
      "proxy",
      `http://127.0.0.1:${port}/base`,
      "--port",
      "0",
      "--strip-prefix",
      "/api",
    ]);
    assert.equal(await curl(one.ready.port, "/api/x?y"), `/base/x?y 127.0.0.1:${port} https`);
    await one.end();
    const other = await start(["proxy", `http://127.0.0.1:${port}`, "--port", "0", "--keep-host"]);
    assert.equal(await curl(other.ready.port, "/"), `/ localhost:${other.ready.port} https`);
    await other.end();
    upstream.close();
  }, LONG_MS);
});

describe("httpsd cert", () => {
  test("makes a certificate for names, and does not write over one", () => {
    const out = join(folder, "out");
    const args = ["cert", "a.example", "*.b.example", "127.0.0.1", "--certs", certs, "--out", out];
    const { status, stdout } = run(args);
    assert.equal(status, 0);
    assert.match(stdout, /a\.example\.pem/);
    const made = new X509Certificate(readFileSync(join(out, "a.example.pem")));
    assert.equal(
      made.subjectAltName,
      "DNS:a.example, DNS:*.b.example, IP Address:127.0.0.1",
    );
    assert.ok(made.verify(new X509Certificate(readFileSync(caFile)).publicKey));
    assert.equal(statSync(join(out, "a.example.key")).mode & 0o777, 0o600);
    const again = run(args);
    assert.deepEqual([again.status, again.stderr.split("\n").length], [1, 2]);
    assert.match(again.stderr, /exists: remove it/);
  }, LONG_MS);
  test("for a client", () => {
    const { status, stdout } = run([
      "cert",
      "alice, the first",
      "--client",
      "--certs",
      certs,
      "--json",
    ]);
    assert.equal(status, 0);
    const { certificate } = JSON.parse(stdout);
    const made = new X509Certificate(readFileSync(join(folder, certificate)));
    assert.match(made.subject, /^CN=alice\\?, the first$/);
    const purpose = spawnSync("openssl", ["x509", "-noout", "-ext", "extendedKeyUsage"], {
      input: made.toString(),
      encoding: "utf8",
    });
    assert.match(purpose.stdout, /TLS Web Client Authentication/);
    const { p12, password } = JSON.parse(stdout);
    const read = spawnSync("openssl", [
      "pkcs12",
      "-in",
      join(folder, p12),
      "-passin",
      `pass:${password}`,
      "-nokeys",
    ], { encoding: "utf8" });
    assert.match(read.stdout, /BEGIN CERTIFICATE/, read.stderr);
  }, LONG_MS);
});

describe("httpsd trust", () => {
  test("adds the authority to a browser's database, and takes it out", () => {
    const home = join(folder, "trusting");
    const database = join(home, ".pki/nssdb");
    mkdirSync(database, { recursive: true });
    const made = spawnSync("certutil", ["-N", "--empty-password", "-d", `sql:${database}`]);
    assert.equal(made.status, 0, "certutil is needed: apt install libnss3-tools");
    const listed = () =>
      spawnSync("certutil", ["-L", "-d", `sql:${database}`], { encoding: "utf8" }).stdout;
    const bin = join(folder, "no-system"); // so that the machine's own store is left alone
    mkdirSync(bin);
    for (const name of ["update-ca-certificates", "update-ca-trust", "trust"]) {
      writeFileSync(join(bin, name), "#!/bin/sh\nexit 0\n", { mode: 0o755 });
    }
    const env = { HOME: home, PATH: `${bin}:${process.env["PATH"]}` };
    const { status, stdout } = run(["trust", "--certs", certs], env);
    assert.equal(status, 0, stdout);
    assert.match(stdout, /Added to browsers \(/);
    assert.match(listed(), /httpsd development CA +C,,/);
    assert.equal(run(["trust", "--undo", "--certs", certs], env).status, 0);
    assert.doesNotMatch(listed(), /httpsd development CA/);
  }, LONG_MS);
});

describe("what goes wrong is one line, and not 0", () => {
  const locked = join(folder, "locked");
  mkdirSync(locked);
  const wrong: [args: string[], status: number, message: RegExp][] = [
    [["--lsiting"], 2, /Unknown option '--lsiting': did you mean --listing\?/],
    [["serve", "a", "b"], 2, /takes one directory/],
    [["serve", "--undo"], 2, /--undo is not for httpsd serve/],
    [["serve", "--port", "x"], 2, /--port is a number/],
    [["serve", "--log", "xml"], 2, /--log is common, combined or json/],
    [["serve", "--cert", "a.pem"], 2, /--cert and --key are given together/],
    [["serve", "--email", "a@b.example"], 2, /--email is for --acme/],
    [["serve", "--http-port", "8080"], 2, /--http-port is for --acme/],
    [["serve", "--acme", "a.example", "--http-port", "x"], 2, /--http-port is a number/],
    [["serve", "--workers", "2", "--port", "0"], 2, /--workers needs a --port/],
    [["proxy"], 2, /takes the URL of one server/],
    [["proxy", "nonsense"], 1, /must be a URL/],
    [["serve", "/none"], 1, /\/none cannot be read: it does not exist/],
    [["serve", COMMAND], 1, /is a file: name its directory/],
    [["serve", "--cert", "none.pem", "--key", "none.key"], 1, /none\.pem/],
    [["cert", "a b c"], 1, /a b c/],
  ];
  for (const [args, status, message] of wrong) {
    test(`httpsd ${args.join(" ")}`, () => {
      const result = run([...args, ...args[0] === "cert" ? ["--certs", certs] : []]);
      assert.equal(result.status, status, result.stderr);
      assert.match(result.stderr, message);
      assert.deepEqual([result.stdout, result.stderr.split("\n").length], ["", 2]);
    }, LONG_MS);
  }
  test("a port that is taken, where it was asked for", async () => {
    const blocker = net.createServer().listen(0, "127.0.0.1");
    await once(blocker, "listening");
    const { port } = blocker.address() as AddressInfo;
    const { status, stderr } = run([
      "serve",
      site,
      "--port",
      String(port),
      "--certs",
      certs,
      "--json",
    ]);
    blocker.close();
    assert.equal(status, 1);
    const { error, code } = JSON.parse(stderr);
    assert.equal(code, "ADDRESS_IN_USE");
    assert.match(error, new RegExp(String(port)));
  }, LONG_MS);
});

test("--help names every command, --version the version; --quiet writes nothing", () => {
  const help = run(["--help"]);
  assert.equal(help.status, 0);
  for (const word of ["serve", "proxy", "cert", "trust", "--acme", "--workers"]) {
    assert.ok(help.stdout.includes(word), word);
  }
  const manifest = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  assert.equal(VERSION, manifest.version);
  assert.match(run(["--version"]).stdout, new RegExp(`^httpsd ${VERSION} on (?:Deno|Bun) `));
  const quiet = run(["cert", "quiet.example", "--quiet", "--certs", certs]);
  assert.deepEqual(quiet, { status: 0, stdout: "", stderr: "" });
}, PREPARED_MS);
