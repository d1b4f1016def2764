/**
 * The examples as ESP-IDF's pytest suites see theirs (the rows of `esp-idf.md` section 4.3 that are
 * HTTP), plain and over TLS, and as a hostile client sees them. Where a better answer than the
 * original's is due, the test says so; docs/esp-idf.md has the reasons.
 */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterAll, describe, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AsyncOptions, createServer as asyncServer } from "../examples/async_handlers.ts";
import { createServer as captivePortal } from "../examples/captive_portal.ts";
import { createServer as fileServer } from "../examples/file_serving.ts";
import { createServer as persistentServer } from "../examples/persistent_sockets.ts";
import { createServer as restfulServer } from "../examples/restful_server.ts";
import { createServer as simpleServer } from "../examples/simple_http.ts";
import { createServer as stdServer, type Std } from "../examples/std_interop.ts";
import {
  ask,
  type Example,
  nextResponse,
  printable,
  request,
  runExample,
  stopExamplesAfterAll,
} from "./examples_support.ts";
import { GET, latin1, type Mode, MODES } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();
stopExamplesAfterAll();

const directories: string[] = [];
afterAll(async () => {
  await Promise.all(directories.map((directory) => rm(directory, { recursive: true })));
});

/** A directory for one test, removed with the file's end. */
async function temporaryDirectory(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "httpsd-examples-"));
  directories.push(directory);
  return directory;
}

/** An example, and the lines that its handlers have said. */
interface Talking extends Example {
  lines: string[];
}

for (const mode of MODES) {
  describe(`simple_http.ts, ${mode}`, () => simpleTests(mode));
  describe(`persistent_sockets.ts, ${mode}`, () => persistentTests(mode));
  describe(`file_serving.ts, ${mode}`, () => fileTests(mode));
  describe(`async_handlers.ts, ${mode}`, () => asyncTests(mode));
  describe(`captive_portal.ts, ${mode}`, () => captiveTests(mode));
  describe(`restful_server.ts, ${mode}`, () => restfulTests(mode));
  describe(`std_interop.ts, ${mode}`, () => stdTests(mode));
}

/** With a library of ours in the place of the standard one, which only JSR has. */
function stdTests(mode: Mode): void {
  const std: Std = {
    serveDir: (request, { showDirListing }) =>
      Promise.resolve(new Response(`${new URL(request.url).pathname} ${showDirListing}`)),
    crypto: {
      subtle: {
        digest: (name, data) => Promise.resolve(Uint8Array.of(name.length, ...data).buffer),
      },
    },
  };

  test("mounts the file server and the digests", async () => {
    const example = await runExample(mode, (options) => stdServer(options, std));
    assert.equal((await example.fetch(GET("/a/b"))).body, "/a/b true");
    const posted = "POST /digest HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\nAB";
    assert.equal((await example.fetch(posted)).body, "064142\n");
  });
}

function simpleTests(mode: Mode): void {
  async function simple(basicAuth?: string): Promise<Talking> {
    const lines: string[] = [];
    const log = (line: string) => void lines.push(line);
    const example = await runExample(
      mode,
      (options) => simpleServer(options, { basicAuth, log }),
    );
    return { ...example, lines };
  }

  test("test_get_handler", async () => {
    const { fetch, lines } = await simple();
    const { status, body, fields } = await fetch(request(
      "GET",
      "/hello?query1=value1&query2=value2&query3=value3",
      { fields: ["Test-Header-1: Test-Value-1", "Test-Header-2: Test-Value-2"] },
    ));
    assert.equal(status, 200);
    assert.equal(body, "Hello World!");
    assert.equal(fields["custom-header-1"], "Custom-Value-1");
    assert.equal(fields["custom-header-2"], "Custom-Value-2");
    assert.deepEqual(lines, [
      "Host: a",
      "Test-Header-1: Test-Value-1",
      "Test-Header-2: Test-Value-2",
      "Query as sent: query1=value1&query2=value2&query3=value3",
      "Query parameter query1: value1",
      "Query parameter query3: value3",
      "Query parameter query2: value2",
      // The original has lost the request's fields by now.
      "After the response, Host is still a",
    ]);
  });

  test("test_put_handler", async () => {
    const { connect, fetch } = await simple();
    const client = await connect();
    assert.equal((await ask(client, request("PUT", "/ctrl", { body: "0" }))).status, 200);
    const hello = await ask(client, GET("/hello"));
    assert.equal(hello.status, 404);
    assert.equal(hello.body, "/hello URI is not available");
    const echo = await ask(client, request("POST", "/echo", { body: "x" }));
    assert.equal(echo.status, 404);
    assert.equal(echo.body, "/echo URI is not available");
    assert.equal(echo.fields["connection"], "close"); // the original closes without notice
    assert.equal(await client.rest(), "");

    // Twice the same is no error.
    for (const body of ["0", "1", "1"]) {
      const { status, body: answer } = await fetch(request("PUT", "/ctrl", { body }));
      assert.deepEqual([status, answer], [200, ""]);
    }
    assert.equal((await fetch(GET("/hello"))).body, "Hello World!");
    assert.equal((await fetch(request("POST", "/echo", { body: "x" }))).body, "x");
    const invalid = await fetch(GET("/invalid"));
    assert.equal(invalid.status, 404);
    assert.equal(invalid.body, "Nothing matches the given URI");
    assert.equal((await fetch(request("PUT", "/ctrl", { body: "" }))).status, 400);
  });

  test("test_post_handler", async () => {
    const { fetch } = await simple();
    const body = printable(10 * 1024);
    const { status, body: echoed, fields } = await fetch(request("POST", "/echo", { body }));
    assert.equal(status, 200);
    assert.equal(fields["transfer-encoding"], "chunked");
    assert.ok(echoed === body);
  });

  test("test_custom_uri_query", async () => {
    const { fetch, lines } = await simple();
    const query = "query1=http%3A%2F%2Ffoobar&query3=abcd%2B1234%20xyz&query2=Esp%21%40%20%23%2471";
    assert.equal((await fetch(GET(`/hello?${query}`))).status, 200);
    assert.deepEqual(lines.filter((line) => line.startsWith("Query")), [
      `Query as sent: ${query}`,
      "Query parameter query1: http://foobar",
      "Query parameter query3: abcd+1234 xyz",
      "Query parameter query2: Esp!@ #$71",
    ]);
  });

  test("lru_purge_enable", async () => {
    const { connect, server } = await simple();
    const clients = [];
    for (let n = 0; n < 20; n++) {
      const client = await connect();
      assert.equal((await ask(client, GET("/hello"))).status, 200);
      assert.ok(server.sessions.size <= 7);
      clients.push(client);
    }
    // The seven that came last are there; those before them were closed.
    for (const client of clients.slice(0, 13)) assert.equal(await client.rest(), "");
    for (const client of clients.slice(13)) {
      assert.equal((await ask(client, GET("/hello"))).status, 200);
      client.destroy();
    }
  });

  test("sse", async () => {
    const { connect } = await simple();
    const client = await connect();
    client.send(GET("/sse"));
    await client.expect(/\r\ncontent-type: text\/event-stream\r\n/i);
    await client.expect(/data: Time since boot: \d+ seconds\n\n[^]*data: Time since boot: \d+/);
    client.destroy();
  });

  test("any method for /any, with one whole answer", async () => {
    const { connect } = await simple();
    const client = await connect();
    for (const method of ["GET", "DELETE", "PATCH", "PROPFIND", "HEAD"]) {
      const { status, body } = await ask(client, request(method, "/any"));
      assert.equal(status, 200);
      assert.equal(body, method === "HEAD" ? "" : "Hello World!"); // the original has a stray chunk
    }
    client.destroy();
  });

  test("a password for /basic_auth", async () => {
    assert.equal((await (await simple()).fetch(GET("/basic_auth"))).status, 404);
    const { fetch } = await simple("ESP32:a:password");
    const authorized = (credentials: string) =>
      fetch(request("GET", "/basic_auth", { fields: [`Authorization: Basic ${credentials}`] }));
    const { status, body, fields } = await authorized(btoa("ESP32:a:password"));
    assert.equal(status, 200);
    assert.equal(fields["content-type"], "application/json");
    assert.deepEqual(JSON.parse(body), { authenticated: true, user: "ESP32" });
    const refused = [
      await fetch(GET("/basic_auth")),
      await authorized(btoa("ESP32:a:passwor")),
      await authorized(""),
    ];
    for (const { status, fields } of refused) {
      assert.equal(status, 401);
      assert.equal(fields["www-authenticate"], 'Basic realm="Hello"');
    }
  });
}

function persistentTests(mode: Mode): void {
  async function persistent(): Promise<Talking> {
    const lines: string[] = [];
    const log = (line: string) => void lines.push(line);
    const example = await runExample(mode, (options) => persistentServer(options, { log }));
    return { ...example, lines };
  }
  const isAbout = (word: string) => (line: string) => line.includes(word);

  test("keeps a sum for each connection and counts all visitors", async () => {
    const { connect, server, lines } = await persistent();
    const client = await connect();
    const put = (value: number) => ask(client, request("PUT", "/adder", { body: String(value) }));
    assert.equal((await put(7)).body, "7");
    assert.equal((await put(10)).body, "10");
    assert.equal(lines.filter(isAbout("new context")).length, 1);
    let sum = 10;
    for (let n = -50; n < 50; n++) {
      sum += n;
      const { body } = await ask(client, request("POST", "/adder", { body: String(n) }));
      assert.equal(body, String(sum));
    }
    assert.equal((await ask(client, GET("/adder"))).body, String(sum));
    assert.equal(lines.findLast(isAbout("Visitor")), "Visitor 103 of /adder");
    assert.equal(lines.some(isAbout("is freed")), false);

    client.destroy();
    await until(() => server.sessions.size === 0, "The session is over");
    assert.match(lines.at(-1)!, new RegExp(`context with ${sum} is freed$`));

    const next = await connect();
    assert.equal((await ask(next, GET("/adder"))).body, "0");
    assert.equal(lines.filter(isAbout("new context")).length, 2);
    assert.equal(lines.findLast(isAbout("Visitor")), "Visitor 104 of /adder");
    next.destroy();
  });

  test("has a context from /login to /logout", async () => {
    const { connect, lines } = await persistent();
    const client = await connect();
    assert.equal((await ask(client, GET("/login"))).body, "1");
    assert.equal((await ask(client, GET("/login"))).body, "1");
    assert.equal(lines.length, 1);
    assert.equal((await ask(client, GET("/logout"))).body, "1");
    assert.match(lines[1]!, /context with 1 is freed$/);
    assert.equal((await ask(client, GET("/logout"))).body, "0"); // the original reads through NULL
    client.destroy();
  });

  test("takes nothing but a short number", async () => {
    const { fetch } = await persistent();
    for (const body of ["", "x", "1e9", "0x10", "1 2", "9".repeat(50)]) {
      assert.equal((await fetch(request("POST", "/adder", { body }))).status, 400);
    }
    assert.equal((await fetch(request("POST", "/adder", { body: "1".repeat(101) }))).status, 413);
  });
}

function fileTests(mode: Mode): void {
  async function files(options = {}): Promise<Example & { directory: string }> {
    const directory = await temporaryDirectory();
    const example = await runExample(mode, (base) => fileServer(base, directory), options);
    return { ...example, directory };
  }
  const upload = (name: string, body: string) => request("POST", `/upload/${name}`, { body });
  const md5 = (text: string) => createHash("md5").update(latin1(text)).digest("hex");

  test("takes a file, gives it back, and deletes it", async () => {
    const { fetch, directory } = await files();
    const content = printable(150 * 1024);
    const uploaded = await fetch(upload("a%20file.txt", content));
    assert.equal(uploaded.status, 303);
    assert.equal(uploaded.fields["location"], "/");
    assert.equal(uploaded.body, "File uploaded successfully");
    assert.deepEqual(await readdir(directory), ["a file.txt"]);

    const downloaded = await fetch(GET("/a%20file.txt"));
    assert.equal(downloaded.status, 200);
    assert.equal(downloaded.fields["content-type"], "text/plain");
    assert.equal(md5(downloaded.body), md5(content));

    const again = await fetch(upload("a%20file.txt", content));
    assert.equal(again.status, 400);
    assert.equal(again.body, "File already exists");

    const listed = await fetch(GET("/"));
    assert.match(listed.body, /<a href="\/a%20file\.txt">a file\.txt<\/a><td>153600\n/);

    const removal = request("POST", "/delete/a%20file.txt", { body: "" });
    const removed = await fetch(removal);
    assert.equal(removed.status, 303);
    assert.equal(removed.fields["location"], "/");
    assert.equal(removed.body, "File deleted successfully");
    const removedAgain = await fetch(removal);
    assert.equal(removedAgain.status, 400);
    assert.equal(removedAgain.body, "File does not exist");
    const gone = await fetch(GET("/a%20file.txt"));
    assert.equal(gone.status, 404);
    assert.equal(gone.body, "File does not exist");
    assert.deepEqual(await readdir(directory), []);
  });

  test("closes after a file that it refuses, when too much of it is still to come", async () => {
    const { connect, directory } = await files();
    await writeFile(join(directory, "x"), "");
    const client = await connect();
    const head = request("POST", "/upload/x", { fields: [`Content-Length: ${100 * 1024}`] });
    assert.equal((await ask(client, head)).body, "File already exists");
    client.send("x".repeat(100 * 1024));
    assert.equal(await client.rest(), "");

    // A short one is read, so that the connection can go on; the original closes here too.
    const other = await connect();
    assert.equal((await ask(other, upload("x", "short"))).body, "File already exists");
    assert.equal((await ask(other, GET("/x"))).status, 200);
    other.destroy();
  });

  test("knows types, and stands in for the index and the icon", async () => {
    const { fetch, directory } = await files();
    for (
      const [name, type] of [
        ["a.html", "text/html"],
        ["a.pdf", "application/pdf"],
        ["a.jpeg", "image/jpeg"],
        ["a.ico", "image/x-icon"],
        ["a", "text/plain"],
      ]
    ) {
      await writeFile(join(directory, name!), "content");
      const { body, fields } = await fetch(GET(`/${name}`));
      assert.equal(body, "content");
      assert.equal(fields["content-type"], type);
      assert.equal(fields["content-security-policy"], "sandbox");
      assert.equal(fields["x-content-type-options"], "nosniff");
    }
    const index = await fetch(GET("/index.html"));
    assert.deepEqual([index.status, index.fields["location"]], [307, "/"]);
    const icon = await fetch(GET("/favicon.ico"));
    assert.equal(icon.fields["content-type"], "image/x-icon");
    assert.ok(icon.body.startsWith("\0\0\x01\0"));
  });

  test("tells HEAD the length of a file, and gives an empty one", async () => {
    const { fetch, directory } = await files();
    await writeFile(join(directory, "long"), "x".repeat(20_000));
    await writeFile(join(directory, "empty"), "");
    const head = await fetch(request("HEAD", "/long"));
    assert.deepEqual([head.status, head.fields["content-length"]], [200, "20000"]);
    const empty = await fetch(GET("/empty"));
    assert.deepEqual([empty.status, empty.fields["content-length"], empty.body], [200, "0", ""]);
  });

  test("lets no name out of the directory, and none that is hidden in", async () => {
    const { fetch, directory } = await files();
    const served = join(directory, "served");
    await mkdir(served);
    await mkdir(join(served, "sub"));
    await writeFile(join(directory, "secret"), "secret");
    await writeFile(join(served, "sub", "secret"), "secret");
    await writeFile(join(served, ".hidden"), "secret");
    await symlink(join(directory, "secret"), join(served, "link"));
    await symlink(directory, join(served, "up"));
    const inner = await runExample(mode, (options) => fileServer(options, served));
    const names = [
      "../secret",
      "%2e%2e/secret",
      "%2E%2E%2Fsecret",
      "..%2fsecret",
      "..%5csecret",
      "./.hidden",
      ".hidden",
      "%2ehidden",
      "link",
      "up/secret",
      "up%2fsecret",
      "sub",
      "sub/",
      "sub/secret",
      "sub%2fsecret",
      `%2f${encodeURIComponent(directory)}%2fsecret`,
      "%ff",
      "%zz",
      "%0a",
      "%1b",
      "",
      ".",
      "..",
      "x".repeat(201),
    ];
    for (const name of names) {
      const read = name === "" ? undefined : await inner.fetch(GET(`/${name}`));
      if (read !== undefined) assert.ok(read.status === 404 || read.status === 400, name);
      const written = await inner.fetch(upload(name, "evil"));
      assert.equal(written.status, 400, name);
      const removed = await inner.fetch(request("POST", `/delete/${name}`, { body: "" }));
      assert.equal(removed.status, 400, name);
    }
    // What is decoded once is a name like any other.
    assert.equal((await inner.fetch(upload("%252e%252e%252fsecret", "kept"))).status, 303);
    assert.equal(await readFile(join(served, "%2e%2e%2fsecret"), "utf8"), "kept");
    await rm(join(served, "%2e%2e%2fsecret"));
    // NUL does not even come through the parser.
    assert.equal((await inner.fetch(GET("/secret%00.txt"))).status, 400);
    assert.equal((await fetch(GET("/served"))).status, 404);

    assert.deepEqual((await readdir(served)).sort(), [".hidden", "link", "sub", "up"]);
    assert.equal(await readFile(join(directory, "secret"), "utf8"), "secret");
    const listing = await inner.fetch(GET("/"));
    assert.doesNotMatch(listing.body, /<td>/);
  });

  test("takes 200 KB and no byte more, of a declared length and of none", async () => {
    const { connect, fetch, directory } = await files();
    const most = "x".repeat(200 * 1024);
    assert.equal((await fetch(upload("most", most))).status, 303);

    const refused = await connect();
    const declared = await ask(
      refused,
      request("POST", "/upload/declared", { fields: [`Content-Length: ${most.length + 1}`] }),
    );
    assert.equal(declared.status, 400);
    assert.equal(declared.body, "File size must be less than 200KB!");
    assert.equal(await refused.rest(), "");

    const chunk = `${most.length.toString(16)}\r\n${most}\r\n`;
    const chunked = ["Transfer-Encoding: chunked"];
    const head = request("POST", "/upload/chunked", { fields: chunked });
    assert.equal((await fetch(`${head}${chunk}0\r\n\r\n`)).status, 303);
    const long = request("POST", "/upload/long", { fields: chunked });
    assert.equal(
      (await fetch(`${long}${chunk}1\r\nx\r\n`)).body,
      "File size must be less than 200KB!",
    );
    assert.deepEqual((await readdir(directory)).sort(), ["chunked", "most"]);
  });

  test("shows a file when it is whole, and keeps nothing of one that breaks off", async () => {
    const { connect, fetch, directory } = await files();
    const client = await connect();
    client.send(request("POST", "/upload/part", { fields: ["Content-Length: 10"] }) + "12345");
    await untilAsync(async () => (await readdir(directory)).length === 1, "The upload has begun");
    assert.match((await readdir(directory))[0]!, /^\.upload-/);
    assert.equal((await fetch(GET("/part"))).status, 404);
    assert.doesNotMatch((await fetch(GET("/"))).body, /upload-/);
    client.destroy();
    await untilAsync(async () => (await readdir(directory)).length === 0, "The part is removed");
  });

  test("removes what a client did not send in time", async () => {
    const { connect, directory } = await files({ timeouts: { receiveMs: 100 } });
    const client = await connect();
    const head = request("POST", "/upload/slow", { fields: ["Content-Length: 10"] });
    assert.equal((await ask(client, `${head}12345`)).status, 408);
    await untilAsync(async () => (await readdir(directory)).length === 0, "The part is removed");
  });

  test("gives a name to one of two uploads at once", async () => {
    const { connect, fetch, directory } = await files();
    const head = request("POST", "/upload/both", { fields: ["Content-Length: 4"] });
    const clients = [await connect(), await connect()];
    for (const client of clients) client.send(`${head}ab`);
    await untilAsync(async () => (await readdir(directory)).length === 2, "Both have begun");
    const bodies = ["c1", "c2"];
    const answers = await Promise.all(clients.map(async (client, i) => {
      client.send(bodies[i]!);
      return await nextResponse(client);
    }));
    const winner = answers.findIndex(({ status }) => status === 303);
    assert.notEqual(winner, -1);
    assert.equal(answers[1 - winner]!.status, 400);
    assert.equal(answers[1 - winner]!.body, "File already exists");
    assert.equal((await fetch(GET("/both"))).body, `ab${bodies[winner]}`);
    assert.deepEqual(await readdir(directory), ["both"]);
    for (const client of clients) client.destroy();
  });

  test("escapes names in its page", async () => {
    const { fetch, directory } = await files();
    const name = `<img src=x onerror="alert('&')">`;
    assert.equal((await fetch(upload(encodeURIComponent(name), "x"))).status, 303);
    assert.deepEqual(await readdir(directory), [name]);
    const { body, fields } = await fetch(GET("/"));
    assert.doesNotMatch(body, /<img/);
    assert.ok(body.includes("&lt;img src=x onerror=&quot;alert(&#39;&amp;&#39;)&quot;&gt;"));
    assert.match(fields["content-security-policy"]!, /default-src 'none'; script-src 'sha256-/);
    const script = /<script>([^]*)<\/script>/.exec(body)![1]!;
    const hash = createHash("sha256").update(script).digest("base64");
    assert.ok(fields["content-security-policy"]!.includes(`'sha256-${hash}'`));
  });

  test("takes nothing from a page of another site", async () => {
    const { fetch, directory } = await files();
    await writeFile(join(directory, "mine"), "");
    for (const site of ["cross-site", "same-site"]) {
      const fields = [`Sec-Fetch-Site: ${site}`];
      const written = await fetch(request("POST", "/upload/theirs", { fields, body: "x" }));
      assert.equal(written.status, 403);
      const removed = await fetch(request("POST", "/delete/mine", { fields, body: "" }));
      assert.equal(removed.status, 403);
    }
    const fields = ["Sec-Fetch-Site: same-origin"];
    assert.equal((await fetch(request("POST", "/upload/ours", { fields, body: "x" }))).status, 303);
    assert.deepEqual((await readdir(directory)).sort(), ["mine", "ours"]);
  });
}

function asyncTests(mode: Mode): void {
  async function workers(options: AsyncOptions = {}): Promise<Talking> {
    const lines: string[] = [];
    const log = (line: string) => void lines.push(line);
    const example = await runExample(
      mode,
      (base) =>
        asyncServer({ ...base, limits: { maxConnections: 10 } }, { tickMs: 2, log, ...options }),
    );
    return { ...example, lines };
  }
  const ticks = Array.from({ length: 60 }, (_, n) => `<div>${n}</div>\n`).join("");

  test("multiple_long", async () => {
    const { connect, lines } = await workers({ tickMs: 10 });
    const clients = [await connect(), await connect()];
    for (const [i, client] of clients.entries()) {
      client.send(`GET /long?query=${i} HTTP/1.1\r\nHost: host${i}\r\n\r\n`);
    }
    // Both are at work before either is done.
    for (const client of clients) await client.expect("<div>3</div>");
    for (const client of clients) assert.ok(!client.text.includes("<div>59</div>"));
    assert.deepEqual(lines.map((line) => line.replace(/^Request \d/, "Request")).sort(), [
      "Request for host0, query query=0",
      "Request for host1, query query=1",
    ]);
    for (const client of clients) {
      const { status, body } = await nextResponse(client);
      assert.equal(status, 200);
      assert.ok(body.endsWith(ticks));
      client.destroy();
    }
  });

  test("basic", async () => {
    const { fetch } = await workers();
    const { status, body } = await fetch(GET("/long"));
    assert.equal(status, 200);
    assert.equal(body, `<div>req: 1</div>\n${ticks}`);
    for (let n = 0; n < 3; n++) {
      const { status, body } = await fetch(GET("/quick"));
      assert.equal(status, 200);
      assert.match(body, /^random: \d+\n$/);
    }
    assert.match((await fetch(GET("/"))).body, /href="\/long"[^]*href="\/quick"/);
  });

  test("same_session_sequential", async () => {
    const { connect } = await workers();
    const client = await connect();
    for (const number of [1, 2]) {
      const { status, body } = await ask(client, GET("/long"));
      assert.equal(status, 200);
      assert.equal(body, `<div>req: ${number}</div>\n${ticks}`);
    }
    client.destroy();
  });

  test("force_close_and_recovery", async () => {
    const { connect, fetch } = await workers({ workers: 1, tickMs: 5 });
    const client = await connect();
    client.send(GET("/long"));
    await client.expect("<div>5</div>");
    client.destroy();
    // The worker is free again long before it could have told all.
    await untilAsync(
      async () => (await fetch(GET("/long?probe"))).status === 200,
      "A worker is free",
    );
    const next = await connect();
    next.send(GET("/long"));
    await next.expect("<div>1</div>");
    assert.match((await fetch(GET("/quick"))).body, /^random:/);
    assert.ok(!next.text.includes("<div>59</div>"));
    assert.ok((await nextResponse(next)).body.endsWith(ticks));
    next.destroy();
  });

  test("503 when no worker is free, and a line where one is wanted", async () => {
    const { connect, fetch } = await workers({ maxQueued: 1, tickMs: 10 });
    const clients = [await connect(), await connect()];
    for (const client of clients) {
      client.send(GET("/long"));
      await client.expect("<div>0</div>");
    }
    const waiting = await connect();
    waiting.send(GET("/long"));
    // The order in which two connections are served is not promised, so one of these is the queued.
    const other = await connect();
    other.send(GET("/long"));
    await untilAsync(() => Promise.resolve(waiting.text + other.text !== ""), "One is refused");
    const [refused, queued] = waiting.text === "" ? [other, waiting] : [waiting, other];
    const { status, body } = await nextResponse(refused);
    assert.equal(status, 503);
    assert.match(body, /no workers available/);
    assert.match((await fetch(GET("/quick"))).body, /^random:/);
    assert.ok((await nextResponse(queued)).body.endsWith(ticks));
    for (const client of [...clients, refused, queued]) client.destroy();
  });

  test("gives up what waits in line when its client leaves", async () => {
    const { connect, fetch, lines, server } = await workers({
      workers: 1,
      maxQueued: 1,
      tickMs: 5,
    });
    const busy = await connect();
    busy.send(GET("/long"));
    await busy.expect("<div>0</div>");
    const leaving = await connect();
    leaving.send(GET("/long?leaving"));
    await untilAsync(
      async () => (await fetch(GET("/long?probe"))).status === 503,
      "The line is full",
    );
    leaving.destroy();
    assert.ok((await nextResponse(busy)).body.endsWith(ticks));
    assert.equal((await ask(busy, GET("/long?next"))).status, 200);
    assert.equal(lines.some((line) => line.includes("leaving")), false);
    await until(() => server.sessions.size === 1, "The session is over");
    busy.destroy();
  });
}

function captiveTests(mode: Mode): void {
  test("leads every request to its page", async () => {
    const { fetch } = await runExample(mode, captivePortal);
    for (const path of ["/test", "/generate_204", "/hotspot-detect.html"]) {
      const { status, body, fields } = await fetch(GET(path));
      assert.equal(status, 303); // as the original does; its test asks for 302 and never runs
      assert.equal(fields["location"], "/");
      assert.equal(body, "Redirect to the captive portal");
    }
    const page = await fetch(GET("/"));
    assert.equal(page.status, 200);
    assert.match(page.body, /<h1>Welcome<\/h1>/);
  });

  test("keeps the connection after a redirection", async () => {
    const { connect } = await runExample(mode, captivePortal);
    const client = await connect();
    assert.equal((await ask(client, GET("/test"))).status, 303);
    assert.equal((await ask(client, GET("/"))).status, 200);
    client.destroy();
  });
}

function restfulTests(mode: Mode): void {
  async function restful(): Promise<Talking> {
    const lines: string[] = [];
    const log = (line: string) => void lines.push(line);
    const example = await runExample(mode, (options) => restfulServer(options, { log }));
    return { ...example, lines };
  }
  const brightness = (body: string, type = "application/json") =>
    request("POST", "/api/v1/light/brightness", { fields: [`Content-Type: ${type}`], body });

  test("tells of the system and the temperature", async () => {
    const { fetch } = await restful();
    const info = await fetch(GET("/api/v1/system/info"));
    assert.equal(info.fields["content-type"], "application/json");
    assert.deepEqual(Object.keys(JSON.parse(info.body)), ["chip", "idf_version", "cores"]);
    for (let n = 0; n < 50; n++) {
      const { raw } = JSON.parse((await fetch(GET("/api/v1/temp/raw"))).body);
      assert.ok(Number.isInteger(raw) && raw >= 0 && raw < 20);
    }
  });

  test("takes a colour", async () => {
    const { fetch, lines } = await restful();
    const { status, body } = await fetch(brightness('{"red": 255, "green": 0, "blue": 128}'));
    assert.equal(status, 200);
    assert.equal(body, "Post control value successfully");
    assert.deepEqual(lines, ["Light: red 255, green 0, blue 128"]);
  });

  test("takes nothing else", async () => {
    const { fetch, lines } = await restful();
    const refused = [
      "",
      "{",
      "null",
      "[]",
      '{"red": 1, "green": 2}',
      '{"red": "1", "green": 2, "blue": 3}',
      '{"red": 256, "green": 2, "blue": 3}',
      '{"red": -1, "green": 2, "blue": 3}',
      '{"red": 1, "green": 2, "blue": 3, "__proto__": 4}',
    ];
    for (const body of refused) assert.equal((await fetch(brightness(body))).status, 400, body);
    const good = '{"red": 1, "green": 2, "blue": 3}';
    assert.equal((await fetch(brightness(good, "text/plain"))).status, 415);
    // The original answers 500; the client has made the mistake.
    assert.equal((await fetch(brightness(" ".repeat(10_240)))).status, 413);
    const chunked = request("POST", "/api/v1/light/brightness", {
      fields: ["Content-Type: application/json", "Transfer-Encoding: chunked"],
    });
    const chunk = `1400\r\n${" ".repeat(0x1400)}\r\n`;
    assert.equal((await fetch(`${chunked}${chunk}${chunk}0\r\n\r\n`)).status, 413);
    assert.equal((await fetch(brightness(good + " ".repeat(10_239 - good.length)))).status, 200);
    assert.equal(lines.length, 1);
  });

  test("serves its pages, and no other files", async () => {
    const { fetch } = await restful();
    const page = await fetch(GET("/"));
    assert.match(page.body, /<h1>Dashboard<\/h1>/);
    assert.match((await fetch(GET("/dashboard.js"))).fields["content-type"]!, /javascript/);
    for (const path of ["/../run.ts", "/%2e%2e/run.ts", "/..%2frun.ts", "/api/v1/nothing"]) {
      assert.equal((await fetch(GET(path))).status, 404, path);
    }
  });
}

/** Waits until an asynchronous condition holds; the test's own time is the limit. */
async function untilAsync(condition: () => Promise<boolean>, what: string): Promise<void> {
  const deadline = performance.now() + 4_000;
  while (!await condition()) {
    if (performance.now() > deadline) assert.fail(`Not in 4,000 ms: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}
