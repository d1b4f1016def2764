/**
 * The 28 cases that ESP-IDF tests its HTTP server with (`advanced_tests`, `scripts/test.py`), against
 * examples/advanced.ts, plain and over TLS. Where a better answer than the original's is due, the
 * test says so; docs/esp-idf.md has the reasons.
 */
import assert from "node:assert/strict";
import { beforeAll, describe, test } from "bun:test";
import { createServer } from "../examples/advanced.ts";
import {
  ask,
  type Example,
  nextResponse,
  printable,
  request,
  runExample,
  stopExamplesAfterAll,
} from "./examples_support.ts";
import { GET, type Mode, MODES, type RawClient } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();
stopExamplesAfterAll();

const MAX_SESSIONS = 5;
const MAX_URI_LEN = 512;
const MAX_REQ_HDR_LEN = 1024;
/** The original's client waits two seconds between the requests of its adder. */
const PAUSE_MS = 20;

for (const mode of MODES) describe(mode, () => advancedTests(mode));

function advancedTests(mode: Mode): void {
  let example: Example;

  beforeAll(async () => {
    example = await runExample(mode, createServer, {
      limits: {
        maxConnections: Infinity,
        maxUriBytes: MAX_URI_LEN,
        maxHeaderBytes: MAX_REQ_HDR_LEN,
      },
    });
  });

  /** Sends bytes and gives the status of the answer, which must close the connection if asked. */
  async function statusOf(bytes: string, { closes }: { closes: boolean }): Promise<number> {
    const client = await example.connect();
    const { status, fields } = await ask(client, bytes);
    assert.equal(fields["connection"], closes ? "close" : undefined);
    if (closes) assert.equal(await client.rest(), "");
    client.destroy();
    return status;
  }

  test("1 get_hello", async () => {
    const { status, body, fields } = await example.fetch(GET("/hello"));
    assert.equal(status, 200);
    assert.equal(body, "Hello World!");
    assert.equal(fields["content-type"], "text/html");
  });

  for (const [number, method] of [[2, "POST"], [3, "PUT"]] as const) {
    test(`${number} ${method.toLowerCase()}_hello`, async () => {
      const { status, body, fields } = await example.fetch(
        request(method, "/hello", { body: "Hello" }),
      );
      assert.equal(status, 405);
      assert.equal(body, "Specified method is invalid for this resource");
      assert.equal(fields["allow"], "GET, HEAD"); // the original leaves it out
    });
  }

  for (const [number, method] of [[4, "POST"], [5, "PUT"]] as const) {
    test(`${number} ${method.toLowerCase()}_echo`, async () => {
      const { status, body } = await example.fetch(request(method, "/echo", { body: "Hello" }));
      assert.equal(status, 200);
      assert.equal(body, "Hello");
    });
  }

  test("6 get_echo", async () => {
    assert.equal(await statusOf(GET("/echo"), { closes: false }), 405);
  });

  test("7 get_hello_type", async () => {
    const { status, body, fields } = await example.fetch(GET("/hello/type_html"));
    assert.equal(status, 200);
    assert.equal(body, "Hello World!");
    assert.equal(fields["content-type"], "text/html");
  });

  test("8 get_hello_status", async () => {
    assert.equal(await statusOf(GET("/hello/status_500"), { closes: false }), 500);
  });

  test("9 get_false_uri", async () => {
    const { status, body } = await example.fetch(GET("/false_uri"));
    assert.equal(status, 404);
    assert.equal(body, "Nothing matches the given URI");
  });

  test("10 get_test_headers", async () => {
    const client = await example.connect();
    for (const sent of ["", "  ", "Value2", "   Value2", "Value2  ", "  Value2  "]) {
      const fields = ["Header1: Value1", `Header3: Value3`, `Header2: ${sent}`];
      const { status, body } = await ask(client, request("GET", "/test_header", { fields }));
      assert.equal(status, 200);
      // The original keeps trailing spaces; they are no part of a value (RFC 9110 section 5.5).
      assert.equal(body, sent.trim());
    }
    client.destroy();
  });

  test("11 code_500_server_error_test", async () => {
    const head = request("POST", "/echo", { fields: [`Content-Length: ${2 ** 30}`] });
    // The original finds out at malloc(), and answers 500; a cap says what is wrong, and sooner.
    assert.equal(await statusOf(`${head}abcd`, { closes: true }), 413);
  });

  test("12 code_501_method_not_impl", async () => {
    // The original means this answer, but its parser gives 400.
    assert.equal(await statusOf(request("ABC", "/hello"), { closes: true }), 501);
  });

  test("13 code_505_version_not_supported", async () => {
    const bytes = "GET /hello HTTP/2.0\r\nHost: a\r\n\r\n";
    assert.equal(await statusOf(bytes, { closes: true }), 505);
  });

  test("14 code_400_bad_request", async () => {
    // XYZ is well-formed, so it gets the answer of case 12; what is malformed gets 400.
    assert.equal(await statusOf(request("XYZ", "/hello"), { closes: true }), 501);
    assert.equal(await statusOf(request("xyz", "/hello"), { closes: true }), 400);
    assert.equal(await statusOf("GET /hello\r\nHost: a\r\n\r\n", { closes: true }), 400);
  });

  test("15 code_404_not_found", async () => {
    assert.equal(await statusOf(GET("/dummy"), { closes: false }), 404);
  });

  test("16 code_405_method_not_allowed", async () => {
    assert.equal(await statusOf(request("POST", "/hello"), { closes: false }), 405);
  });

  test("17 code_408_req_timeout", async () => {
    const impatient = await runExample(mode, createServer, { timeouts: { receiveMs: 200 } });
    const client = await impatient.connect();
    const begun = performance.now();
    const { status } = await ask(
      client,
      request("POST", "/echo", { fields: ["Content-Length: 10"] }) + "ABCD",
    );
    assert.equal(status, 408); // over TLS, the original closes without a word
    assert.ok(performance.now() - begun >= 200);
    assert.equal(await client.rest(), "");
  });

  test("18 code_411_length_required", async () => {
    // The original takes the body for the next request; here it is read, so no length is required.
    const fields = ["Transfer-Encoding: chunked"];
    const { status, body } = await example.fetch(
      request("POST", "/echo", { fields }) + "5\r\nHello\r\n0\r\n\r\n",
    );
    assert.equal(status, 200);
    assert.equal(body, "Hello");
  });

  test("19 code_414_uri_too_long", async () => {
    // The original's limit is for the whole request line; here it is for the target, as it is named.
    const longest = `/${"a".repeat(MAX_URI_LEN - 1)}`;
    const client = await example.connect();
    for (const piece of ["GET /", longest.slice(1, 300), longest.slice(300)]) {
      client.send(piece);
      await pause();
    }
    assert.equal((await ask(client, " HTTP/1.1\r\nHost: a\r\n\r\n")).status, 404);
    client.destroy();
    assert.equal(await statusOf(GET(`${longest}a`), { closes: true }), 414);
  });

  test("20 code_431_hdr_too_long", async () => {
    const empty = request("POST", "/echo", { fields: ["Custom: "], body: "" });
    const longest = "a".repeat(MAX_REQ_HDR_LEN - empty.length);
    const bytes = request("POST", "/echo", { fields: [`Custom: ${longest}`], body: "" });
    assert.equal(bytes.length, MAX_REQ_HDR_LEN);
    const client = await example.connect();
    client.send(bytes.slice(0, MAX_REQ_HDR_LEN / 2));
    await pause();
    client.send(bytes.slice(MAX_REQ_HDR_LEN / 2));
    const { status, fields } = await nextResponse(client);
    assert.equal(status, 200);
    assert.equal(fields["custom"], longest);
    client.destroy();

    const tooLong = request("POST", "/echo", { fields: [`Custom: ${longest}a`], body: "" });
    assert.equal(await statusOf(tooLong, { closes: true }), 431);
  });

  test("21 test_upgrade_not_supported", async () => {
    const fields = ["Upgrade: TLS/1.0", "Connection: Upgrade"];
    // The original answers 400; an upgrade that is not wanted is ignored (RFC 9110 section 7.8).
    assert.equal(await statusOf(request("OPTIONS", "*", { fields }), { closes: false }), 404);
    assert.equal(await statusOf(request("GET", "/hello", { fields }), { closes: false }), 200);
  });

  test("22 parallel_sessions_adder", async () => {
    const capped = await runExample(mode, createServer, {
      limits: { maxConnections: MAX_SESSIONS },
    });
    await Promise.all(Array.from({ length: MAX_SESSIONS }, async (_, i) => {
      const client = await capped.connect();
      for (let n = 0; n < 3; n++) {
        client.send(request("POST", "/adder", { body: String(i) }));
        await pause();
      }
      for (let n = 1; n <= 3; n++) {
        assert.equal((await nextResponse(client)).body, String(n * i));
      }
      client.destroy();
    }));
  });

  test("23 leftover_data_test", async () => {
    const body = "abcdefghijklmnopqrstuvwxyz\r\nabcdefghijklmnopqrstuvwxyz";
    const client = await example.connect();
    const first = await ask(client, request("POST", "/leftover_data", { body }));
    assert.equal(first.body, "abcdefghij");
    const second = await ask(client, GET("/hello"));
    assert.equal(second.status, 200);
    assert.equal(second.body, "Hello World!");
    assert.equal((await ask(client, request("POST", "/false_uri", { body }))).status, 404);
    // The original closes here; the rest of the body is read, so the connection can go on.
    assert.equal((await ask(client, GET("/hello"))).body, "Hello World!");
    client.destroy();
    assert.equal((await example.fetch(GET("/hello"))).body, "Hello World!");
  });

  test("24 async_response_test", async () => {
    const client = await example.connect();
    assert.equal((await ask(client, GET("/async_data"))).body, "Hello World!");
    assert.equal((await nextResponse(client)).body, "Hello Double World!");
    client.destroy();
  });

  test("25 spillover_session", async () => {
    const capped = await runExample(mode, createServer, {
      limits: { maxConnections: MAX_SESSIONS },
    });
    const clients: RawClient[] = [];
    for (let n = 0; n < MAX_SESSIONS; n++) {
      const client = await capped.connect();
      assert.equal((await ask(client, GET("/hello"))).status, 200);
      clients.push(client);
    }
    let served = false;
    const spilled = capped.fetch(GET("/hello")).finally(() => served = true);
    for (let n = 0; n < 50; n++) assert.equal((await ask(clients[1]!, GET("/hello"))).status, 200);
    assert.equal(served, false);
    assert.equal(capped.server.sessions.size, MAX_SESSIONS);
    clients[0]!.destroy();
    assert.equal((await spilled).status, 200);
    for (const client of clients) client.destroy();
  });

  test("26 recv_timeout_test", async () => {
    const impatient = await runExample(mode, createServer, { timeouts: { headersMs: 200 } });
    const client = await impatient.connect();
    const { status, body } = await ask(client, "GE");
    assert.equal(status, 408); // over TLS, the original closes without a word
    assert.equal(body, "Server closed this connection");
    assert.equal(await client.rest(), "");
  });

  test("27 packet_size_limit_test", async () => {
    const body = printable(50 * 1024);
    const { status, body: echoed } = await example.fetch(request("POST", "/echo", { body }));
    assert.equal(status, 200);
    assert.ok(echoed === body);
  });

  describe("28 arbitrary_termination_test", () => {
    /** A request to /echo; the four ends are those of its three lines, and of its head. */
    const post = (line: string, host: string, custom: string, head: string): string =>
      `POST /echo HTTP/1.1${line}Host: a${host}Custom: SomeValue${custom}${head}`;

    test("1: CRLF", async () => {
      const { status, fields } = await example.fetch(post("\r\n", "\r\n", "\r\n", "\r\n"));
      assert.equal(status, 200);
      assert.equal(fields["custom"], "SomeValue");
    });

    // The original takes LF for CRLF; what two servers end at different bytes smuggles requests.
    const bare: [name: string, bytes: string][] = [
      ["2: LF after the request line", post("\n", "\r\n", "\r\n", "\r\n")],
      ["3: LF after Host", post("\r\n", "\n", "\r\n", "\r\n")],
      ["4: LF after Custom", post("\r\n", "\r\n", "\n", "\r\n")],
      ["5: LF after the head", post("\r\n", "\r\n", "\r\n", "\n")],
      ["6: LF everywhere", post("\n", "\n", "\n", "\n")],
    ];
    for (const [name, bytes] of bare) {
      test(`${name} is refused`, async () => {
        assert.equal(await statusOf(bytes, { closes: true }), 400);
      });
    }

    // Of cases 7 to 10, the parts in the head are those of 2 to 6; the body begins where it begins.
    for (const [number, start] of [[7, "\n\r\n"], [8, "\r\n\n"], [9, "\n\n"]] as const) {
      test(`${number}: a body behind ${JSON.stringify(start)} is refused`, async () => {
        const bytes = `POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5${start}ABCDE`;
        assert.equal(await statusOf(bytes, { closes: true }), 400);
      });
    }

    test("10: a body may begin with CR", async () => {
      const refused = "POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\n\n\rABCD";
      assert.equal(await statusOf(refused, { closes: true }), 400);
      const { body } = await example.fetch(request("POST", "/echo", { body: "\rABCD" }));
      assert.equal(body, "\rABCD");
    });

    const malformed: [name: string, bytes: string][] = [
      ["11: CR CR LF everywhere", post("\r\r\n", "\r\r\n", "\r\r\n", "\r\r\n")],
      ["12: CR CR LF after the request line", post("\r\r\n", "\r\n", "\r\n", "\r\n")],
      ["13: CR before Host", post("\r\n\r", "\r\n", "\r\n", "\r\n")],
      ["14: CR between fields", post("\r\n", "\r", "\r\n", "\r\n")],
      ["15: CR in a value", post("\r\n", "\r\n", "Some\rValue\r\n", "\r\n")],
      ["16: no colon", post("\r\n", "\r\n", "\r\nCustom- SomeValue\r\n", "\r\n")],
    ];
    for (const [name, bytes] of malformed) {
      test(`${name} is refused`, async () => {
        assert.equal(await statusOf(bytes, { closes: true }), 400);
      });
    }
  });
}

/** What makes it likely that pieces arrive one by one; nothing depends on it. */
function pause(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
}
