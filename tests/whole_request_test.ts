/** Request bodies read whole by a route's handler, and the cookies that it sets, on every face. */
import assert from "node:assert/strict";
import { afterEach, describe, test } from "bun:test";
import type { HttpdRequest } from "../lib/httpd/request.ts";
import { cookieLine, type CookieOptions } from "../lib/httpd/set_cookie.ts";
import { type Face, type FaceName, open, streamOf } from "./edge_support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

const FACES: FaceName[] = ["a socket", "server.fetch()", "an edge app"];

for (const name of FACES) {
  describe(`On ${name}`, () => {
    const faces: Face[] = [];

    /** What a POST is answered whose handler returns what it has read. */
    async function post(
      body: BodyInit | null,
      read: (request: HttpdRequest) => unknown,
      headers: Record<string, string> = {},
    ): Promise<[status: number, text: string, errors: string[]]> {
      const face = await open(name);
      faces.push(face);
      face.app.route({
        uri: "/",
        method: "POST",
        handler: async (request) => request.sendJson(await read(request)),
      });
      const init = { method: "POST", body, headers, duplex: "half" } as RequestInit;
      const response = await face.ask("/", init);
      return [response.status, await response.text(), face.errors];
    }
    afterEach(async () => {
      await Promise.all(faces.splice(0).map((face) => face.close()));
    });

    test("json(), text() and bytes() read the body, with or without a length", async () => {
      const value = { a: [1, "ü"] };
      const text = JSON.stringify(value);
      for (const body of [text, streamOf(text.slice(0, 5), text.slice(5))]) {
        assert.deepEqual(await post(body, (request) => request.json()), [200, text, []]);
      }
      const marked = '\ufeff"x"';
      assert.deepEqual(await post(marked, (request) => request.json()), [200, '"x"', []]);
      assert.deepEqual(await post(text, (request) => request.text()), [
        200,
        JSON.stringify(text),
        [],
      ]);
      const sum = async (request: HttpdRequest) => (await request.bytes()).length;
      assert.deepEqual(await post("abc", sum), [200, "3", []]);
      assert.deepEqual(await post(null, (request) => request.text()), [200, '""', []]);
    });

    test("formData() reads both kinds of forms", async () => {
      const fields = async (request: HttpdRequest) => {
        const form = await request.formData();
        const file = form.get("file");
        return [form.get("a"), file instanceof File ? [file.name, await file.text()] : file];
      };
      const multipart = new FormData();
      multipart.append("a", "1");
      multipart.append("file", new File(["content"], "x.txt"));
      assert.deepEqual(await post(multipart, fields), [200, '["1",["x.txt","content"]]', []]);
      const encoded = new URLSearchParams({ a: "1 2", file: "ü" });
      assert.deepEqual(await post(encoded, fields), [200, '["1 2","ü"]', []]);
    });

    const malformed: [what: string, body: string, type: string, read: keyof HttpdRequest][] = [
      ["JSON", "{a:1}", "application/json", "json"],
      ["JSON", "", "application/json", "json"],
      ["JSON that is nested too deep", "[".repeat(900), "application/json", "json"],
      ["a form of no type", "a=1", "text/plain", "formData"],
      ["a form without a boundary", "--x--", "multipart/form-data", "formData"],
      // One that is cut is a form for Deno, with the parts before.
      ["a form of no form", "nonsense", "multipart/form-data; boundary=x", "formData"],
    ];
    for (const [what, body, type, read] of malformed) {
      test(`${read}() of bad input, ${what}, is the client's error: 400`, async () => {
        const call = (request: HttpdRequest) => (request[read] as () => Promise<unknown>)();
        const [status, , errors] = await post(body, call, { "Content-Type": type });
        assert.deepEqual([status, errors], [400, ["BAD_REQUEST"]]);
      });
    }

    test("a cap of the call is a 413, declared or not, and before all of it is in memory", async () => {
      for (const body of ["x".repeat(200), streamOf("x".repeat(100), "x".repeat(100))]) {
        const [status, , errors] = await post(body, (request) => request.text(100));
        assert.deepEqual([status, errors], [413, ["BODY_TOO_LARGE"]]);
      }
      assert.equal((await post("x".repeat(100), (request) => request.text(100)))[0], 200);
      for (const max of [0, -1, 1.5, "1"]) {
        const [status, , errors] = await post("x", (request) => request.json(max as number));
        assert.deepEqual([status, errors], [500, ["INVALID_CONFIG"]]);
      }
    });

    test("where there is no body, none is read as often as one likes", async () => {
      const [status, , errors] = await post(null, async (request) => {
        assert.deepEqual([await request.text(), await request.text()], ["", ""]);
        return "read";
      });
      assert.deepEqual([status, errors], [200, []]);
    });

    test("a body that was read is not read again: BODY_USED", async () => {
      const twice: ((request: HttpdRequest) => Promise<unknown>)[] = [
        async (request) => [await request.text(), await request.text()],
        async (request) => [await request.recv(1), await request.json()],
        async (request) => {
          const reader = request.body.getReader();
          await reader.read();
          return request.bytes();
        },
      ];
      for (const read of twice) {
        const [status, , errors] = await post("abc", read);
        assert.deepEqual([status, errors], [500, ["BODY_USED"]]);
      }
    });

    test("setCookie() sets cookies, several of them", async () => {
      const face = await open(name);
      faces.push(face);
      face.app.route({
        uri: "/",
        method: "GET",
        handler: (request) => {
          request.setCookie("a", "1").setCookie("b", "2", { maxAgeSeconds: 60 });
          return new Response("x", { headers: { "Set-Cookie": "c=3" } });
        },
      });
      const response = await face.ask("/");
      assert.deepEqual(response.headers.getSetCookie(), [
        "c=3",
        "a=1; Path=/; Secure; HttpOnly; SameSite=Lax",
        "b=2; Max-Age=60; Path=/; Secure; HttpOnly; SameSite=Lax",
      ]);
    });
  });
}

describe("The Set-Cookie field", () => {
  test("has what the options say", () => {
    const lines: [options: CookieOptions, attributes: string][] = [
      [{}, "Path=/; Secure; HttpOnly; SameSite=Lax"],
      [{ secure: false, httpOnly: false }, "Path=/; SameSite=Lax"],
      [
        { expires: new Date(0), domain: "example.com", path: "/a" },
        "Expires=Thu, 01 Jan 1970 00:00:00 GMT; Domain=example.com; Path=/a; Secure; HttpOnly; " +
        "SameSite=Lax",
      ],
      [
        { maxAgeSeconds: 0, sameSite: "None", partitioned: true },
        "Max-Age=0; Path=/; Secure; HttpOnly; SameSite=None; Partitioned",
      ],
    ];
    for (const [options, attributes] of lines) {
      assert.equal(cookieLine("a", "v", options), `a=v; ${attributes}`);
    }
    cookieLine("__Host-a", "", {});
    cookieLine("__Host-Http-a", "x".repeat(4_096 - "__Host-Http-a".length), {});
    cookieLine("a", "v", { expires: new Date("9999-12-31T23:59:59Z") });
  });

  test("refuses what would end it, and what browsers drop", () => {
    const values = ["a;b", "a b", 'a"', "a,b", "a\\b", "ü", "a\r\nSet-Cookie: x=1", 1];
    for (const value of values) {
      assert.throws(() => cookieLine("a", value as string, {}), { code: "BAD_RESPONSE" });
    }
    for (const name of ["", "a b", "a=b", "a;b", "ü", 1]) {
      assert.throws(() => cookieLine(name as string, "v", {}), { code: "BAD_RESPONSE" });
    }
    assert.throws(() => cookieLine("name", "x".repeat(4_093), {}), {
      code: "BAD_RESPONSE",
      message: /^Cookie name has 4097 characters with its name, and browsers drop/,
    });
    const refused: [name: string, options: object, message: RegExp][] = [
      ["a", { path: "a" }, /^Option path of setCookie\(\) is a string: it must begin with a slash/],
      ["a", { path: "/a; Domain=b" }, /must be a path/],
      ["a", { domain: "a.b; Path=/x" }, /must be a name alone/],
      ["a", { domain: "a.b:80" }, /must be a name alone/],
      [
        "a",
        { maxAge: 1_000 },
        /^Option maxAge of setCookie\(\) .* write maxAgeSeconds, in seconds$/,
      ],
      ["a", { maxAgeSeconds: -1 }, /must be a time in seconds/],
      ["a", { expires: new Date(NaN) }, /must be a valid Date/],
      ["a", { expires: new Date(8.64e15) }, /of the years 1601 to 9999/],
      ["a", { sameSite: "lax" }, /must be "Strict", "Lax" or "None"/],
      ["a", { sameSite: "None", secure: false }, /^Option secure .* browsers drop cookie a/],
      ["__Secure-a", { secure: false }, /browsers drop cookie __Secure-a/],
      ["__Http-a", { secure: false }, /browsers drop cookie __Http-a/],
      ["__Http-a", { httpOnly: false }, /^Option httpOnly .* browsers drop cookie __Http-a/],
      ["__Host-http-a", { httpOnly: false }, /^Option httpOnly .* browsers drop/],
      ["__Host-a", { domain: "a.b" }, /^Option domain .* is not for a cookie of __Host-/],
      ["__host-a", { path: "/a" }, /^Option path .* must be "\/" for a cookie of __Host-/],
    ];
    for (const [name, options, message] of refused) {
      assert.throws(() => cookieLine(name, "v", options), { code: "INVALID_CONFIG", message });
    }
  });
});
