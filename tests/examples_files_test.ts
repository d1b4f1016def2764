/** The examples that serve files and answer later, as ESP-IDF's pytest suites see theirs. */
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import { afterAll, describe, test } from "bun:test";
import { mkdir, mkdtemp, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type AsyncOptions, createServer as asyncServer } from "../examples/async_handlers.ts";
import { createServer as fileServer } from "../examples/file_serving.ts";
import {
  ask,
  type Example,
  nextResponse,
  printable,
  request,
  runExample,
  stopExamplesAfterAll,
  type Talking,
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

for (const mode of MODES) {
  describe(`file_serving.ts, ${mode}`, () => fileTests(mode));
  describe(`async_handlers.ts, ${mode}`, () => asyncTests(mode));
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

  test("knows types, and has an index and an icon of its own", async () => {
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

  test("gives HEAD the length of a file, and gives an empty one", async () => {
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
    await until(async () => (await readdir(directory)).length === 1, "The upload has begun");
    assert.match((await readdir(directory))[0]!, /^\.upload-/);
    assert.equal((await fetch(GET("/part"))).status, 404);
    assert.doesNotMatch((await fetch(GET("/"))).body, /upload-/);
    client.destroy();
    await until(async () => (await readdir(directory)).length === 0, "The part is removed");
  });

  test("removes what a client did not send in time", async () => {
    const { connect, directory } = await files({ timeouts: { receiveMs: 100 } });
    const client = await connect();
    const head = request("POST", "/upload/slow", { fields: ["Content-Length: 10"] });
    assert.equal((await ask(client, `${head}12345`)).status, 408);
    await until(async () => (await readdir(directory)).length === 0, "The part is removed");
  });

  test("gives a name to one of two uploads at once", async () => {
    const { connect, fetch, directory } = await files();
    const head = request("POST", "/upload/both", { fields: ["Content-Length: 4"] });
    const clients = [await connect(), await connect()];
    for (const client of clients) client.send(`${head}ab`);
    await until(async () => (await readdir(directory)).length === 2, "Both have begun");
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
    // The worker is free again long before it could have sent all.
    await until(
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
    await until(() => Promise.resolve(waiting.text + other.text !== ""), "One is refused");
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
    await until(
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
