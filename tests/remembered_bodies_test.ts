/** The Response that takes the native one's place on Bun: not to be told from it, but by its speed. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { inspect } from "node:util";
import {
  GET,
  RawClient,
  readResponses,
  sleep,
  started,
  stopServersAfterAll,
  type WireResponse,
} from "./http_support.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { startScript } from "./support.ts";

assertRuntime();
stopServersAfterAll();

await started(undefined); // from here on, Response is replaced where it is going to be

const encoder = new TextEncoder();

/** What comes for as many requests as there are responses, all on one connection. */
async function answers(...responses: Response[]): Promise<WireResponse[]> {
  const rest = [...responses];
  const { port } = await started(() => rest.shift()!);
  const client = await RawClient.connect(port);
  client.send(GET("/").repeat(responses.length - 1));
  client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  return readResponses(await client.rest());
}

describe("Response", () => {
  test("is replaced on Bun, by the first server that may", async () => {
    const script = `
      const Native = Response;
      const early = new Response("early");
      const attributes = () => {
        const { value, get, set, ...rest } = Object.getOwnPropertyDescriptor(globalThis, "Response");
        return JSON.stringify(rest);
      };
      const before = attributes();
      const { HttpsServer } = await import(${
      JSON.stringify(new URL("../mod.ts", import.meta.url))
    });
      const options = { transportMode: "insecure" };
      const seen = [Response === Native];
      new HttpsServer({ ...options, overrideGlobalResponse: false });
      seen.push(Response === Native);
      new HttpsServer(options);
      seen.push(Response === Native);
      const Replaced = Response;
      new HttpsServer(options);
      seen.push(Response === Replaced);
      seen.push(early instanceof Response, early.constructor === Response);
      seen.push(new Response() instanceof Native, Response.prototype === Native.prototype);
      seen.push(Response.name === Native.name, Response.length === Native.length);
      seen.push(attributes() === before);
      console.log(JSON.stringify(seen));`;
    const isKept = runtime === "deno";
    assert.deepEqual(
      JSON.parse(await startScript(script).done),
      [true, true, isKept, ...Array.from({ length: 8 }, () => true)],
    );
  }, 20_000);

  test("makes instances that cannot be told from those of fetch()", async () => {
    const made = new Response("text");
    const fetched = await fetch("data:,text");
    for (const response of [made, fetched, Response.json(1), made.clone()]) {
      assert.ok(response instanceof Response);
      assert.equal(response.constructor, Response);
      assert.equal(Object.getPrototypeOf(response), Response.prototype);
      assert.deepEqual(Object.keys(response), []);
      assert.doesNotMatch(inspect(response), /remembered/);
    }
    assert.equal(await made.text(), "text");
    assert.equal(made.bodyUsed, true);
  });

  test("can be subclassed", async () => {
    class Page extends Response {
      readonly kind = "page";
      constructor(title: string) {
        super(`<h1>${title}</h1>`, { headers: { "Content-Type": "text/html" } });
      }
    }
    const page = new Page("a");
    assert.ok(page instanceof Page && page instanceof Response);
    assert.equal(page.constructor, Page);
    assert.equal(page.kind, "page");
    const [answer] = await answers(page);
    assert.equal(answer?.body, "<h1>a</h1>");
    assert.equal(answer.fields["content-type"], "text/html");
  });

  test("throws what the native one throws", () => {
    const call = Response as unknown as (body: string) => Response;
    assert.throws(() => call("x"), TypeError);
    assert.throws(() => new Response("x", { status: 1000 }), RangeError);
    assert.throws(() => new Response("x", 3 as ResponseInit), TypeError);
    assert.throws(() => Response.json(undefined), TypeError);
    assert.throws(() => Response.json(1n), TypeError);
  });

  test("has the static methods", async () => {
    assert.equal(Response.error().type, "error");
    assert.equal(Response.redirect("https://a/b").status, 302);
    const json = Response.json({ a: "ü" }, { status: 201, headers: { "X-A": "b" } });
    assert.equal(json.status, 201);
    assert.equal(json.headers.get("X-A"), "b");
    assert.match(json.headers.get("Content-Type")!, /^application\/json/);
    assert.deepEqual(await json.json(), { a: "ü" });
    const typed = Response.json(1, { headers: { "Content-Type": "a/b" } });
    assert.equal(typed.headers.get("Content-Type"), "a/b");
  });
});

describe("a body that is all there", () => {
  const long = "x".repeat(1_000_000); // too long for Bun to give it in one piece of a stream
  const bytes = encoder.encode(long);
  const kinds: [what: string, make: () => Response, body: string][] = [
    ["text", () => new Response(long), long],
    ["text that is not ASCII", () => new Response(`ü${long}`), `Ã¼${long}`],
    ["text with a byte order mark", () => new Response(`\ufeff${long}`), `ï»¿${long}`],
    ["text with half a character", () => new Response(`\ud800${long}`), `ï¿½${long}`],
    ["bytes", () => new Response(bytes), long],
    ["part of a buffer", () => new Response(bytes.subarray(1)), long.slice(1)],
    ["a buffer", () => new Response(bytes.buffer), long],
    ["URLSearchParams", () => new Response(new URLSearchParams({ long })), `long=${long}`],
    ["JSON", () => Response.json(long), `"${long}"`],
    ["a text that was cloned", () => {
      const response = new Response("\ufefftext");
      response.clone();
      return response;
    }, "ï»¿text"],
    ["a text whose stream was looked at", () => {
      const response = new Response("\ufefftext");
      assert.ok(response.body instanceof ReadableStream);
      return response;
    }, "ï»¿text"],
    ["bytes whose stream was looked at", () => {
      const response = new Response(encoder.encode("bytes"));
      assert.ok(response.body instanceof ReadableStream);
      return response;
    }, "bytes"],
  ];
  for (const [what, make, body] of kinds) {
    test(`leaves with its length: ${what}`, async () => {
      const [answer] = await answers(make());
      assert.ok(answer?.body === body); // too long to be shown
      assert.equal(answer.fields["content-length"], String(body.length));
      assert.equal(answer.fields["transfer-encoding"], undefined);
    });
  }

  test("is sent as it was when the response was made", async () => {
    const changing = encoder.encode("before");
    const parameters = new URLSearchParams({ a: "1" });
    const responses = [
      new Response(changing),
      new Response(changing.buffer),
      new Response(parameters),
    ];
    changing.fill(0);
    parameters.set("a", "2");
    const bodies = (await answers(...responses)).map(({ body }) => body);
    assert.deepEqual(bodies, ["before", "before", "a=1"]);
  });

  for (const body of ["text", encoder.encode("bytes")]) {
    test(`is not sent twice, nor once it was read: ${body.constructor.name}`, async () => {
      const twice = new Response(body);
      const read = new Response(body);
      await read.text();
      const locked = new Response(body);
      locked.body!.getReader();
      const statuses = (await answers(twice, twice, read, locked, new Response(body)))
        .map(({ status }) => status);
      assert.deepEqual(statuses, [200, 500, 500, 500, 200]);
    });
  }
});

test("a body that comes piece by piece is still streamed", async () => {
  const stream = new ReadableStream({
    async pull(controller) {
      await sleep(20);
      controller.enqueue(encoder.encode("piece"));
      controller.close();
    },
  });
  const [answer] = await answers(new Response(stream));
  assert.equal(answer?.body, "piece");
  assert.equal(answer.fields["transfer-encoding"], "chunked");
});
