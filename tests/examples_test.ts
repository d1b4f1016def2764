/**
 * The examples as ESP-IDF's pytest suites see theirs (the rows of `esp-idf.md` section 4.3 that are
 * HTTP), plain and over TLS, and as a hostile client sees them. Where a better answer than the
 * original's is due, the test says so; docs/esp-idf.md has the reasons.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { createServer as captivePortal } from "../examples/captive_portal.ts";
import { createServer as persistentServer } from "../examples/persistent_sockets.ts";
import { createServer as restfulServer } from "../examples/restful_server.ts";
import { createServer as simpleServer } from "../examples/simple_http.ts";
import { createServer as stdServer, type Std } from "../examples/std_interop.ts";
import {
  ask,
  printable,
  request,
  runExample,
  stopExamplesAfterAll,
  type Talking,
} from "./examples_support.ts";
import { GET, type Mode, MODES } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { until } from "./support.ts";

assertRuntime();
stopExamplesAfterAll();

for (const mode of MODES) {
  describe(`simple_http.ts, ${mode}`, () => simpleTests(mode));
  describe(`persistent_sockets.ts, ${mode}`, () => persistentTests(mode));
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

  test("reports the system and the temperature", async () => {
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
