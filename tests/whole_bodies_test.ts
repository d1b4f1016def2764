/**
 * Bodies that are all there leave at once, whatever the runtime lets one see of them; what is no such
 * body is never taken for one. How they are distinguished is undocumented, and may fail.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { HttpsdError } from "../lib/errors.ts";
import { toRequest } from "../lib/fetch/request.ts";
import { exchangeOf } from "../lib/fetch/served_request.ts";
import { type BunRequest, chooseBunRequest, lateRequest } from "../lib/runtime/bun_request.ts";
import { bunParts, type BunTools, chooseBunParts } from "../lib/runtime/bun_response.ts";
import { chooseDenoRequest, denoRequest, type RequestParts } from "../lib/runtime/deno_request.ts";
import { denoParts } from "../lib/runtime/deno_response.ts";
import { publicParts, type ResponseParts } from "../lib/runtime/response_parts.ts";
import {
  GET,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
  type WireResponse,
} from "./http_support.ts";
import { bunTools } from "./bun_tools.ts";
import { assertRuntime, runtime } from "./runtime.ts";
import { startScript } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const encoder = new TextEncoder();

/** The errors that the server of the last answers reported. */
let reported: HttpsdError[] = [];

/** What comes for as many requests as there are responses, all on one connection. */
async function answers(...responses: Response[]): Promise<WireResponse[]> {
  const rest = [...responses];
  const { port, errors } = await started(() => rest.shift()!);
  reported = errors;
  const client = await RawClient.connect(port);
  client.send(GET("/").repeat(responses.length - 1));
  client.send("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  return readResponses(await client.rest());
}

/** Bodies have the types that the runtime's own server gives texts and bytes. */
async function assertTypes(texts: string[], pieces: Uint8Array<ArrayBuffer>[]): Promise<void> {
  const all = await answers(...[...texts, ...pieces].map((body) => new Response(body)));
  const types = all.map(({ fields }) => fields["content-type"]?.toLowerCase());
  const bytes = runtime === "bun" ? "application/octet-stream" : undefined;
  assert.deepEqual(types, [
    ...texts.map(() => "text/plain;charset=utf-8"),
    ...pieces.map(() => bytes),
  ]);
}

/** Takes a response apart as the server does. */
function parts(response: Response): ResponseParts | undefined {
  return (denoParts() ?? bunParts() ?? publicParts)(response);
}

describe("a request body that comes together with its head", () => {
  const POST = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nConnection: close\r\n";

  test("is all there when the handler begins", async () => {
    const { port } = await started((request) => {
      const { session, body, response } = exchangeOf(request)!;
      assert.deepEqual([body.ended, response.started, session.requests], [true, false, 1]);
      return new Response(request.body);
    });
    const client = await RawClient.connect(port);
    client.send(`${POST}\r\nbody`);
    const [response] = readResponses(await client.rest());
    assert.deepEqual([response!.status, response!.body], [200, "body"]);
  });

  test("needs no 100 Continue", async () => {
    const { port } = await started(async (request) => new Response(await request.text()));
    const client = await RawClient.connect(port);
    client.send(`${POST}Expect: 100-continue\r\n\r\nbody`);
    assert.match(await client.rest(), /^HTTP\/1\.1 200 [^]*\r\n\r\nbody$/);
  });

  test("is reported once, and an error handler can read it too", async () => {
    const { port, server } = await started(() => {
      throw new Error("Before it is read");
    });
    const sizes: number[] = [];
    server.addEventListener("http:data", ({ bytes }) => void sizes.push(bytes));
    server.onError(500, async (_, request) => request!.status(500).send((await request!.recv())!));
    const client = await RawClient.connect(port);
    client.send(`${POST}\r\nbody`);
    const [response] = readResponses(await client.rest());
    assert.deepEqual([response!.status, response!.body, sizes], [500, "body", [4]]);
  });
});

test("a request that is looked at after its exchange has its own fields, and is not aborted", async () => {
  const kept: Request[] = [];
  const { port } = await started((request) => {
    kept.push(request);
    return new Response("x");
  });
  const client = await RawClient.connect(port);
  for (const name of ["one", "two"]) {
    client.send(`GET /${name} HTTP/1.1\r\nHost: a\r\nX-Name: ${name}\r\n\r\n`);
    await client.expect("\r\n\r\nx");
  }
  client.send("GET /end HTTP/1.1\r\nHost: a\r\nX-Name: end\r\nConnection: close\r\n\r\n");
  await client.rest();
  assert.deepEqual(
    kept.map(({ url, headers, signal }) => [url, headers.get("x-name"), signal.aborted]),
    [
      ["http://a/one", "one", false],
      ["http://a/two", "two", false],
      ["http://a/end", "end", false],
    ],
  );
});

test("no global is replaced by a server", async () => {
  const script = `
    const names = ["fetch", "Request", "Response", "Headers", "FormData", "Blob", "ReadableStream",
      "AbortSignal", "AbortController", "EventTarget", "WebSocket", "DOMException"];
    const before = names.map((name) => globalThis[name]);
    const prototypes = [Request, Response, Headers, AbortSignal].map(({ prototype }) => prototype);
    const shapes = () => JSON.stringify(prototypes.map((it) => Reflect.ownKeys(it).map(String)));
    const shape = shapes();
    const { HttpsServer } = await import(${JSON.stringify(new URL("../mod.ts", import.meta.url))});
    const options = { transportMode: "insecure", hostname: "127.0.0.1", port: 0 };
    await using server = new HttpsServer(options, () => new Response("a"));
    await server.start();
    await (await fetch("http://127.0.0.1:" + server.address.port)).text();
    console.log(names.filter((name, i) => globalThis[name] !== before[i]).length, shape === shapes());`;
  assert.equal((await startScript(script).done).trim(), "0 true");
}, 20_000);

describe("a body that is all there", () => {
  const long = "x".repeat(1_000_000); // too long for Bun to give it in one piece of a stream
  const bytes = encoder.encode(long);
  const kinds: [what: string, make: () => Response, body: string][] = [
    ["text", () => new Response(long), long],
    ["text that is not ASCII", () => new Response(`ü${long}`), `Ã¼${long}`],
    ["text with a byte order mark", () => new Response(`\ufeff${long}`), `ï»¿${long}`],
    ["text with half a character", () => new Response(`\ud800${long}`), `ï¿½${long}`],
    ["text of a subclass", () => new (class extends Response {})(long), long],
    ["text with a property", () => Object.assign(new Response(long), { note: 1 }), long],
    ["text with a type", () => new Response(long, { headers: { "Content-Type": "a/b" } }), long],
    ["text with a reason", () => new Response(long, { statusText: "So Be It" }), long],
    ["bytes", () => new Response(bytes), long],
    ["bytes with a type", () => new Response(bytes, { headers: { "Content-Type": "a/b" } }), long],
    ["part of a buffer", () => new Response(bytes.subarray(1)), long.slice(1)],
    ["a buffer", () => new Response(bytes.buffer), long],
    ["JSON", () => Response.json(long), `"${long}"`],
    ["JSON beyond ASCII", () => Response.json(`ü${long}`), `"Ã¼${long}"`],
    ["a text that was cloned", () => {
      const response = new Response(long);
      response.clone();
      return response;
    }, long],
  ];
  for (const [what, make, body] of kinds) {
    test(`leaves with its length: ${what}`, async () => {
      assert.ok(!(parts(make())?.body instanceof ReadableStream));
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

  const uses: [what: string, make: () => Response][] = [
    ["a text", () => new Response("text")],
    ["a text with a type", () => new Response("text", { headers: { "Content-Type": "a/b" } })],
    ["a text beyond ASCII", () => new Response("ü")],
    ["bytes", () => new Response(encoder.encode("bytes"))],
    ["JSON", () => Response.json(1)],
  ];
  for (const [what, make] of uses) {
    test(`is not sent twice, nor once it was read, and counts as used then: ${what}`, async () => {
      const twice = make();
      const read = make();
      await read.text();
      const locked = make();
      locked.body!.getReader();
      const statuses = (await answers(twice, twice, read, locked, make()))
        .map(({ status }) => status);
      assert.deepEqual(statuses, [200, 500, 500, 500, 200]);
      for (const { code, message } of reported) {
        assert.equal(code, "HANDLER_FAILED");
        assert.equal(message, "The Response was used already: return a new one for each request");
      }
      assert.equal(reported.length, 3);
      assert.equal(twice.bodyUsed, true);
      await assert.rejects(twice.text(), TypeError);
    });
  }

  test("has the type that it was made with, whatever else the response has", async () => {
    const response = Object.assign(new Response(new URLSearchParams({ a: "b" })), { note: 1 });
    const typed = new Response("ü", { headers: { "Content-Type": "a/b" } });
    const [first, second, third] = await answers(response, typed, Response.json("ü"));
    assert.match(first!.fields["content-type"]!, /^application\/x-www-form-urlencoded/);
    assert.equal(second!.fields["content-type"], "a/b");
    assert.match(third!.fields["content-type"]!, /^application\/json/);
  });

  test("has its type also where it is one character, or a part of one", async () => {
    const texts = ["a", "ü", "\u0416", "\u20ac", "😀"];
    const pieces = [Uint8Array.of(97), Uint8Array.of(252), Uint8Array.of(0xe2, 0x82)];
    await assertTypes(texts, pieces);
  });

  test("has its type also where it is long", async () => {
    // As many characters of one byte as of three: this takes as much memory as its bytes do. The
    // pieces in which it is looked at end within characters.
    const texts = ["a\u20ac".repeat(100_000), "bb" + "a\u20ac".repeat(100_000) + "\u20ac\u20ac"];
    const pieces = [
      new Uint8Array(400_000).fill(97),
      new Uint8Array(400_000).fill(252),
      Buffer.from(texts[0]!).subarray(0, -1),
      Buffer.concat([Buffer.from(texts[0]!), Uint8Array.of(97, 97)]),
    ];
    await assertTypes(texts, pieces);
  });

  test("keeps its own type and its bytes where it is long", async () => {
    const headers = { "content-type": "a/b" };
    const texts = ["a", "\u00fc", "\u20ac", "\ufeffa"].map((text) => text.repeat(100_000));
    const bytes = new Uint8Array(100_000).map((_, i) => i * 7);
    const stream = Object.assign(new Response(new Blob([bytes]).stream(), { headers }), {
      ...Object.fromEntries(Array.from({ length: 70_000 }, (_, i) => [`p${i}`, i])),
    });
    const bodies = [...texts, bytes, new Blob([bytes])];
    const all = await answers(...bodies.map((body) => new Response(body, { headers })), stream);
    const sent = [...texts.map((text) => Buffer.from(text)), bytes, bytes, bytes];
    for (const [i, { fields, body }] of all.entries()) {
      assert.equal(fields["content-type"], "a/b", `${i}`);
      assert.ok(Buffer.from(body, "latin1").equals(sent[i]!), `${i}`);
    }
  });

  if (runtime === "bun") {
    test("is bytes where nothing shows that it was a text", async () => {
      const touched = new Response("a");
      assert.ok(touched.body instanceof ReadableStream);
      const all = await answers(
        Object.assign(new Response(new Blob(["abc"])), { note: 1 }),
        new Response(new Blob(["abc"])),
        new Response(new DataView(new ArrayBuffer(2))),
        touched,
      );
      for (const { fields } of all) {
        assert.equal(fields["content-type"], "application/octet-stream");
      }
    });

    test("has the type of its URLSearchParams also when that was deleted", async () => {
      for (const properties of [{}, { note: 1 }]) {
        const response = Object.assign(new Response(new URLSearchParams({ a: "b" })), properties);
        response.headers.delete("content-type");
        const [answer] = await answers(response);
        assert.match(answer!.fields["content-type"]!, /^application\/x-www-form-urlencoded/);
      }
    });
  }

  test("of what is no Response is an error that says so", async () => {
    const foreign = { [Symbol.toStringTag]: "Response" };
    const cases: [given: unknown, message: string][] = [
      ["text", "a string, which is not a Response: return new Response(text)"],
      [{}, "an object, which is not a Response: return Response.json(value)"],
      [[], "an array, which is not a Response: return Response.json(value)"],
      [null, "null, which is not a Response: return one"],
      [1, "1, which is not a Response: return one"],
      [
        foreign,
        "an object, which is not a Response: return new Response(other.body, other), " +
        "it is another library's",
      ],
    ];
    for (const [given, message] of cases) {
      await answers(given as Response);
      assert.deepEqual(reported.map(({ code, message }) => [code, message]), [
        ["HANDLER_FAILED", `The handler returned ${message}`],
      ]);
    }
    await answers(Response.error());
    assert.deepEqual(reported.map(({ code, message }) => [code, message]), [
      ["HANDLER_FAILED", "Response.error() cannot be sent: return a status"],
    ]);
  });

  test("that is none can be sent again", async () => {
    const response = new Response(null, { status: 404, headers: { "X-A": "b" } });
    const all = await answers(response, response, response);
    assert.deepEqual(all.map(({ status, fields }) => [status, fields["x-a"]]), [
      [404, "b"],
      [404, "b"],
      [404, "b"],
    ]);
    assert.equal(response.bodyUsed, false);
  });
});

describe("where nothing undocumented is in force", () => {
  const cases: [what: string, make: () => Response, status: number, fields: string[][]][] = [
    ["a text", () => new Response("text", { status: 201, headers: { "X-A": "b" } }), 201, [
      ["x-a", "b"],
    ]],
    ["JSON", () => Response.json("b"), 200, []],
    ["nothing", () => new Response(null, { status: 204 }), 204, []],
  ];
  for (const [what, make, status, fields] of cases) {
    test(`a response has its public parts: ${what}`, async () => {
      const taken = publicParts(make())!;
      assert.equal(taken.status, status);
      const others = [...taken.fields].filter(([name]) => name !== "content-type");
      assert.deepEqual(others, fields);
      assert.equal(
        taken.body && await new Response(taken.body as ReadableStream).text(),
        make().body && await make().text(),
      );
      assert.equal(publicParts(new Response("a", { statusText: "So" }))?.reason, "So");
      assert.equal(taken.reason, undefined);
    });
  }
  test("a response that was used has none", async () => {
    const response = new Response("text");
    await response.text();
    assert.equal(publicParts(response), undefined);
  });

  test("a request is what the constructor makes", async () => {
    const { port } = await started(async (request) => {
      const { method, url, headers, signal, body, constructor } = toRequest(exchangeOf(request)!);
      const blob = await toRequest(exchangeOf(request)!).blob();
      const { cookie, "x-a": a } = Object.fromEntries(headers);
      return Response.json([
        [method, url, cookie, a, constructor.name, body instanceof ReadableStream],
        [signal === request.signal, blob.type, await blob.text()],
      ]);
    });
    const client = await RawClient.connect(port);
    client.send(
      "PUT /a?b HTTP/1.1\r\nHost: c\r\nX-A: 1\r\nX-A: 2\r\nCookie: d=1\r\nCookie: e=2\r\n" +
        "Content-Type: text/x-y\r\nContent-Length: 4\r\nConnection: close\r\n\r\nbody",
    );
    const [response] = readResponses(await client.rest());
    assert.deepEqual(JSON.parse(response!.body), [
      ["PUT", "http://c/a?b", "d=1; e=2", "1, 2", "Request", true],
      [runtime === "bun", "text/x-y", "body"],
    ]);
  });
});

describe("a stream", () => {
  const endless = () => new ReadableStream({ pull: (it) => it.enqueue(new Uint8Array(1000)) });
  class Own extends Response {
    readonly #many = "of its own";
    get many(): string {
      return this.#many;
    }
  }
  const kinds: [what: string, make: () => Response][] = [
    ["as it is", () => new Response(endless())],
    ["with a type", () => new Response(endless(), { headers: { "Content-Type": "a/b" } })],
    ["with a reason", () => new Response(endless(), { statusText: "a long reason phrase" })],
    ["with a property", () => Object.assign(new Response(endless()), { note: 1 })],
    ["with a property that is gone", () => {
      const response = Object.assign(new Response(endless()), { note: 1 as number | undefined });
      delete (response as { note?: number | undefined }).note;
      return response;
    }],
    [
      "with many properties",
      () =>
        Object.assign(
          new Response(endless()),
          Object.fromEntries(Array.from({ length: 100 }, (_, i) => [`p${i}`, i])),
        ),
    ],
    ["of a subclass with private properties", () => new Own(endless())],
    ["that was cloned", () => {
      const response = new Response(endless());
      void response.clone();
      return response;
    }],
  ];
  for (const [what, make] of kinds) {
    test(`is never taken for a body that is all there: ${what}`, async () => {
      const { type, body } = parts(make())!;
      assert.equal(type, undefined);
      assert.ok(body instanceof ReadableStream);
      const reader = body.getReader();
      assert.equal((await reader.read()).value?.length, 1000);
      void reader.cancel();
    });
  }

  test("of a response with more properties than any has is sent whole", async () => {
    const slow = new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve));
        controller.enqueue(encoder.encode("slow"));
        controller.close();
      },
    });
    const properties = Object.fromEntries(Array.from({ length: 2_000 }, (_, i) => [`p${i}`, i]));
    const response = Object.assign(new Response(slow, { status: 201 }), properties);
    const [answer] = await answers(response);
    assert.deepEqual([answer!.status, reported], [201, []]);
    assert.match(answer!.body, /^(?:slow|4\r\nslow\r\n0\r\n\r\n)$/);
  });

  test("of a response with hidden properties is still cancelled", async () => {
    const { promise, resolve } = Promise.withResolvers<unknown>();
    const taken = parts(
      new Own(new ReadableStream({ pull: (it) => it.enqueue(new Uint8Array(1)), cancel: resolve })),
    );
    await (taken?.body as ReadableStream).cancel("reason");
    await promise;
  });
});

if (runtime === "bun") {
  describe("Bun's tools", () => {
    const tools = bunTools();
    const { sizeOf } = tools;

    test("are in force here", () => {
      assert.ok(bunParts() !== undefined && chooseBunParts(tools) !== undefined);
    });

    const type: [string, string] = ["Content-Type", "a/b"];
    const cookie: [string, string] = ["Set-Cookie", "c=d"];
    const lists: [string, string][][] = [
      [],
      [type],
      [["content-type", ""]],
      [type, type],
      [cookie],
      [cookie, cookie],
      [type, cookie],
      [cookie, type, cookie],
      [["X-E", "f"]],
      [["X-E", "f"], ["x-e", "g"], type],
    ];
    for (const fields of lists) {
      test(`give the fields ${JSON.stringify(fields)}`, () => {
        const response = new Response("text", { headers: fields });
        assert.deepEqual([...parts(response)!.fields], [...response.headers]);
      });
    }

    const wrong: Record<string, Partial<BunTools>> = {
      "there are none": { sizeOf: undefined as never },
      "a size has no meaning": { sizeOf: () => 360 },
      "a stream has a size": {
        sizeOf: (it) => sizeOf(it) + ((it as Response).body instanceof ReadableStream ? 1 : 0),
      },
      "a text has two bytes a character": {
        sizeOf: (it) => 360 + 2 * (sizeOf(it) - 360),
      },
      "promises cannot be looked into": { peek: (promise) => promise },
      "nothing is shown of a body": { inspect: () => "Response {}" },
      "all bodies are shown alike": { inspect: () => "\n  Blob (4 bytes)\n}" },
      "something throws": {
        inspect: () => {
          throw new TypeError("no");
        },
      },
    };
    for (const [what, replaced] of Object.entries(wrong)) {
      test(`are not used where ${what}`, () => {
        assert.equal(chooseBunParts({ ...tools, ...replaced }), undefined);
      });
    }
    test("are not used where there are none", () => {
      assert.equal(chooseBunParts(undefined), undefined);
    });
  });

  describe("Bun's late request", () => {
    test("is in force here", () => assert.equal(chooseBunRequest(lateRequest), lateRequest));

    const { signal } = new AbortController();
    const wrong: Record<string, BunRequest> = {
      "it throws": () => {
        throw new TypeError("no");
      },
      "it is no Request": () => ({}) as Request,
      "its fields are lost": (url, init, { signal }) =>
        lateRequest(url, init, { signal, fields: () => [] }),
      "its method is lost": (url, _, parts) => lateRequest(url, undefined, parts),
      "its signal is another": (url, init, parts) =>
        lateRequest(url, init, { fields: () => parts.fields(), signal }),
      "copies have no fields": (url, init, parts) => {
        const request = new Request(url, init);
        const get = (value: unknown) => ({ get: () => value });
        class Shown extends Request {}
        Object.defineProperty(Shown.prototype, "signal", get(parts.signal));
        return Object.setPrototypeOf(request, Shown.prototype);
      },
      "it is printed in another way": (url, init, parts) => {
        const print = Symbol.for("nodejs.util.inspect.custom");
        return Object.assign(lateRequest(url, init, parts), { [print]: () => "Request" });
      },
      "a clone has no fields": (url, init, parts) => {
        const request = lateRequest(url, init, parts);
        return Object.assign(request, { clone: () => new Request(url, init) });
      },
    };
    for (const [what, replaced] of Object.entries(wrong)) {
      test(`is not used where ${what}`, () => {
        assert.equal(chooseBunRequest(replaced), undefined);
      });
    }
  });
} else {
  describe("Deno's inner request", () => {
    const make = denoRequest()!;
    test("is in force here", () => assert.equal(chooseDenoRequest(() => make), make));

    type Make = (parts: RequestParts) => Request;
    const wrong: Record<string, Make | undefined> = {
      "there is none": undefined,
      "it throws": () => {
        throw new TypeError("no");
      },
      "it is no Request": () => ({}) as Request,
      "its method is lost": (parts) => new Request(make(parts), { method: "POST" }),
      "its fields are lost": (parts) => make({ ...parts, fields: () => [] }),
      "its body is lost": (parts) => make({ ...parts, body: () => null }),
      "its URL is another": (parts) => make({ ...parts, url: () => "http://b.example/" }),
      "its signal is another": (parts) => make({ ...parts, adoptSignal: () => {} }),
      "its body can be read twice": (parts) => {
        const request = make(parts);
        return Object.assign(request, { text: () => Promise.resolve("") });
      },
    };
    for (const [what, replaced] of Object.entries(wrong)) {
      test(`is not used where ${what}`, () => {
        assert.equal(chooseDenoRequest(() => replaced), undefined);
      });
    }
  });
}
