/**
 * What a connection uses again for its next exchange is never seen from outside: requests that
 * handlers keep stay what they were, and nothing that is done to them touches the next answer.
 */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import type { RequestInfo } from "../lib/fetch/fetch_handler.ts";
import { matchWildcard } from "../lib/httpd/matcher.ts";
import { utf8 } from "../lib/bytes.ts";
import { type HttpdRequest, partsOf } from "../lib/httpd/request.ts";
import {
  GET,
  MODES,
  RawClient,
  readResponses,
  started,
  stopServersAfterAll,
} from "./http_support.ts";
import { Random } from "./random.ts";
import { assertRuntime } from "./runtime.ts";
import { turns } from "./support.ts";

assertRuntime();
stopServersAfterAll();

/** A request that says its number in its path, a field and a cookie, and a POST in its body, too. */
function numbered(number: number, method = "GET"): string {
  const body = method === "POST" ? `body ${number}` : "";
  const length = method === "POST" ? `Content-Length: ${body.length}\r\n` : "";
  return `${method} /${number}?q=${number} HTTP/1.1\r\nHost: h${number}.example\r\n` +
    `X-Number: ${number}\r\nCookie: c=${number}\r\n${length}\r\n${body}`;
}

/** The number that a request was sent with, by each of the ways to see it. */
function numbersOf(request: Request): unknown[] {
  const { headers, url } = request;
  const { hostname, pathname, search } = new URL(url);
  return [pathname, search, hostname, headers.get("x-number"), headers.get("cookie")];
}

const seenOf = (number: number): unknown[] => [
  `/${number}`,
  `?q=${number}`,
  `h${number}.example`,
  `${number}`,
  `c=${number}`,
];

/** How a fetch handler comes to its answer. */
const WAYS: ((number: number, request: Request) => Response | Promise<Response>)[] = [
  (number) => new Response(`answer ${number}`, { headers: { "x-answer": `${number}` } }),
  async (number) => {
    await turns(2);
    return new Response(`answer ${number}`, { headers: { "x-answer": `${number}` } });
  },
  (number) => Promise.resolve(Response.json(number)),
  (number) => new Response(null, { status: 204, headers: { "x-answer": `${number}` } }),
  (number) => new Response(new Blob([`answer ${number}`])),
  (number) => {
    throw new Error(`thrown ${number}`);
  },
  async (_, request) => new Response(`read ${await request.text()}`),
];

for (const mode of MODES) {
  describe(`what is used again, ${mode}`, () => {
    test("shows in no request that a fetch handler keeps, pipelined or one by one", async () => {
      const kept: [number: number, request: Request, info: RequestInfo][] = [];
      const { port } = await started(
        (request, info) => {
          const number = Number(new URL(request.url).pathname.slice(1));
          info.route = `/${number}`;
          kept.push([number, request, info]);
          return WAYS[number % WAYS.length]!(number, request);
        },
        {},
        mode,
      );
      const client = await RawClient.connect(port, mode);
      const COUNT = 5 * WAYS.length;
      const last = `answer ${COUNT}`;
      const texts = Array.from(
        { length: COUNT + 1 },
        (_, i) => numbered(i, i % 3 === 0 || i % WAYS.length === 6 ? "POST" : "GET"),
      );
      client.send(texts.slice(0, 14).join(""));
      await client.expect("read body 13");
      for (const text of texts.slice(14)) client.send(text);
      await client.expect(last);
      const responses = readResponses(client.text);
      assert.equal(responses.length, COUNT + 1);
      for (const [number, { status, fields, body }] of responses.entries()) {
        const way = number % WAYS.length;
        const isNumbered = way < 2 || way === 3;
        const expected = [
          `answer ${number}`,
          `answer ${number}`,
          `${number}`,
          "",
          `answer ${number}`,
          "unexpected error",
          `read body ${number}`,
        ][way]!;
        assert.ok(body.includes(expected), `${number}: ${body}`);
        assert.equal(status, way === 3 ? 204 : way === 5 ? 500 : 200);
        assert.equal(fields["x-answer"], isNumbered ? `${number}` : undefined);
      }
      assert.equal(kept.length, COUNT + 1);
      const [, , { session }] = kept[0]!;
      for (const [number, request, info] of kept) {
        assert.deepEqual(numbersOf(request), seenOf(number));
        assert.equal(request.signal.aborted, false);
        assert.equal(info.session, session);
        assert.equal(info.route, `/${number}`);
        await info.completed;
        const isPost = number % 3 === 0 || number % WAYS.length === 6;
        assert.equal(request.method, isPost ? "POST" : "GET");
        if (isPost && !request.bodyUsed) {
          // It came with its head; what the handler did not read of it is thrown away.
          assert.match(await request.text().catch(String), /^$|body|Error/);
        }
      }
      client.destroy();
    });

    /** What a handler may still try on a request that was answered. */
    const LATE: Record<string, (request: HttpdRequest<unknown>) => unknown> = {
      "send()": (request) => request.send("late"),
      "sendJson()": (request) => request.sendJson("late"),
      "sendChunk()": (request) => request.sendChunk("late"),
      "sendRaw()": (request) => request.sendRaw("late"),
      "sendStream()": (request) => request.sendStream(new Response("late").body!),
      "sendError()": (request) => request.sendError(400),
      "status()": (request) => request.status(400),
      "type()": (request) => request.type("late/late"),
      "header()": (request) => request.header("X-Late", "late"),
      "inform()": (request) => request.inform(103, [["Link", "</late>"]]),
      "detach()": (request) => request.detach(1),
    };

    /** How the first request of a pair is answered. */
    const FIRST: Record<string, (request: HttpdRequest<unknown>) => unknown> = {
      "at once": (request) => request.send("first"),
      "by a Response": () => new Response("first"),
      "after a while": async (request) => {
        await turns(2);
        request.send("first");
      },
      "when it is detached": (request) => {
        request.detach();
        void turns(2).then(() => request.send("first"));
      },
    };

    for (const [how, answer] of Object.entries(FIRST)) {
      test(`is not reached by a request that was answered ${how}`, async () => {
        let first: HttpdRequest<unknown> | undefined;
        const { server, port, errors } = await started(undefined, {}, mode);
        const route = (uri: string, handler: (request: HttpdRequest<unknown>) => unknown) =>
          server.route({ uri, method: "GET", handler: handler as () => Promise<void> });
        route("/first", (request) => {
          first = request;
          return answer(request);
        });
        const thrown: Record<string, unknown> = {};
        route("/second", async (request) => {
          const { path, sent } = first!;
          assert.deepEqual([path, sent, first!.get("x-n")], ["/first", true, "1"]);
          assert.match(new TextDecoder().decode(first!.rawHead), /^GET \/first /);
          for (const [name, late] of Object.entries(LATE)) {
            try {
              await late(first!);
            } catch (error) {
              thrown[name] = (error as { code?: string }).code;
            }
          }
          first!.end();
          assert.deepEqual([request.sent, request.path], [false, "/second"]);
          await request.header("X-Own", "own").sendChunk("sec");
          first!.end();
          await assert.rejects(first!.sendChunk("late"), { code: "ALREADY_SENT" });
          await request.sendChunk("ond");
          request.end();
        });
        const client = await RawClient.connect(port, mode);
        const get = (path: string, n: number) =>
          `GET ${path} HTTP/1.1\r\nHost: a\r\nX-N: ${n}\r\n\r\n`;
        for (let round = 0; round < 2; round++) {
          client.text = "";
          client.send(get("/first", 1) + get("/second", 2));
          await client.expect("0\r\n\r\n");
          const [one, two, ...more] = readResponses(client.text);
          assert.deepEqual([one!.body, two!.body, more.length], ["first", "second", 0]);
          assert.deepEqual([one!.fields["x-own"], two!.fields["x-own"]], [undefined, "own"]);
          assert.ok(!client.text.includes("late"), client.text);
          const all = Object.fromEntries(Object.keys(LATE).map((name) => [name, "ALREADY_SENT"]));
          assert.deepEqual(thrown, all);
        }
        assert.ok(errors.every(({ code }) => code === "ALREADY_SENT"), String(errors));
        client.destroy();
      });
    }

    test("is not what a handler writes with that has answered, and goes on", async () => {
      const { server, port, errors } = await started(undefined, {}, mode);
      const begun = Promise.withResolvers<void>();
      const over = Promise.withResolvers<void>();
      server.route({
        uri: "/first",
        method: "GET",
        // What runs in a handler may have the writer in hand, so that is its own as long as it runs.
        handler: async (request) => {
          const { response } = partsOf(request).exchange;
          request.send("first");
          await begun.promise;
          const writing = response.write(utf8("late"));
          response.end();
          over.resolve();
          await assert.rejects(writing, { code: "ALREADY_SENT" });
        },
      });
      server.route({
        uri: "/second",
        method: "GET",
        handler: async (request) => {
          await request.sendChunk("sec");
          begun.resolve();
          await over.promise;
          await request.sendChunk("ond").catch(() => {});
          request.end();
        },
      });
      const client = await RawClient.connect(port, mode);
      client.send(GET("/first") + GET("/second"));
      await client.expect("0\r\n\r\n");
      assert.deepEqual(readResponses(client.text).map(({ body }) => body), ["first", "second"]);
      assert.deepEqual(errors, []);
      client.destroy();
    });

    test("is not reached by what an answered handler still sends without waiting", async () => {
      const { server, port, errors } = await started(undefined, {}, mode);
      const late = Promise.withResolvers<void>();
      const over = Promise.withResolvers<void>();
      const source = () =>
        new ReadableStream<Uint8Array>({
          async pull(controller) {
            await late.promise;
            controller.enqueue(new TextEncoder().encode("late"));
            controller.close();
          },
          cancel: () => over.resolve(),
        });
      // Its stream is not waited for: it is answered 500 before the stream gives anything.
      server.onError(500, async () => {
        await turns(2);
        return new Response("first", { status: 500 });
      });
      server.route({
        uri: "/first",
        method: "GET",
        handler: (request) => {
          const sending = late.promise.then(() => request.sendStream(source()));
          sending.catch(() => over.resolve());
        },
      });
      server.route({
        uri: "/second",
        method: "GET",
        handler: async (request) => {
          await request.sendChunk("sec");
          late.resolve();
          await over.promise;
          await turns();
          await request.sendChunk("ond");
          request.end();
        },
      });
      const client = await RawClient.connect(port, mode);
      client.send("GET /first HTTP/1.1\r\nHost: a\r\n\r\n");
      await client.expect("first");
      const other = await RawClient.connect(port, mode); // the answer 500 was the last of the first
      other.send("GET /second HTTP/1.1\r\nHost: a\r\n\r\n");
      await other.expect("0\r\n\r\n");
      const [second] = readResponses(other.text);
      assert.deepEqual([second!.status, second!.body], [200, "second"]);
      assert.deepEqual(errors.map(({ code }) => code), ["HANDLER_FAILED", "ALREADY_SENT"]);
      client.destroy();
      other.destroy();
    });

    test("leaves nothing in the next head, on connections that take turns", async () => {
      const random = new Random(20261128);
      const statuses = [200, 201, 204, 304, 404, 500];
      const names = ["X-A", "X-B", "Set-Cookie", "Content-Type", "Cache-Control"];
      const plans: { status: number; fields: [string, string][]; body: string }[] = [];
      const { server, port } = await started(undefined, { uriMatch: matchWildcard }, mode);
      server.route({
        uri: "/*",
        method: "ANY",
        handler: (request) => {
          const { status, fields, body } = plans[Number(request.path.slice(1))]!;
          request.status(status).type("a/b");
          for (const [name, value] of fields) request.header(name, value);
          request.send(body);
        },
      });
      const connect = () => RawClient.connect(port, mode);
      const clients = await Promise.all([connect(), connect(), connect()]);
      for (let i = 0; i < 300; i++) {
        const chosen = names.filter(() => random.below(3) === 0);
        plans.push({
          status: random.pick(statuses),
          fields: chosen.map((name) => [name, random.pick(["one", "two"])]),
          body: "b".repeat(random.below(3)),
        });
        const [client, method] = [random.pick(clients), random.pick(["GET", "HEAD"])];
        client.text = "";
        client.send(`${method} /${i} HTTP/1.1\r\nHost: a\r\n\r\n`);
        const { status, fields, body } = plans[i]!;
        const hasBody = method === "GET" && status !== 204 && status !== 304;
        await client.expect(hasBody ? `\r\n\r\n${body}` : "\r\n\r\n");
        const [response] = readResponses(client.text, [method]);
        const expected = { "content-type": "a/b", ...lowerCase(fields) };
        const got = { ...response!.fields };
        delete got["date"];
        delete got["content-length"];
        assert.deepEqual([response!.status, got], [status, expected]);
        assert.equal(response!.body, hasBody ? body : "");
      }
      for (const client of clients) client.destroy();
    });
  });
}

function lowerCase(fields: readonly [string, string][]): Record<string, string> {
  return Object.fromEntries(fields.map(([name, value]) => [name.toLowerCase(), value]));
}
