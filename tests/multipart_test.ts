/** Forms with files: the parser at every cut, hostile forms, and uploads to a server. */
import assert from "node:assert/strict";
import { describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { HttpError, type HttpsdError } from "../lib/errors.ts";
import { multipart, type MultipartOptions } from "../lib/multipart/mod.ts";
import { MultipartParser, type PartEvent } from "../lib/multipart/parser.ts";
import { MODES, RawClient, started, stopServersAfterAll } from "./http_support.ts";
import { assertRuntime } from "./runtime.ts";
import { turns } from "./support.ts";

assertRuntime();
stopServersAfterAll();

const LIMITS = { maxParts: 10, maxPartBytes: 1_000, maxHeaderBytes: 300 };

/** What a parser makes of a form that comes in pieces of `size` bytes. */
function read(form: string, size = Infinity, limits = LIMITS): string[] {
  const parser = new MultipartParser("b", limits);
  const bytes = Buffer.from(form, "latin1");
  const said: string[] = [];
  const take = () => {
    let event: PartEvent | undefined;
    while ((event = parser.next()) !== undefined) {
      if (event.type === "part") said.push(`${event.head.name}|${event.head.filename}|`);
      else if (event.type === "data") said[said.length - 1] += Buffer.from(event.bytes).toString();
      else if (event.type === "end") said.push("end");
    }
  };
  try {
    for (let at = 0; at < bytes.length; at += size) {
      parser.push(new Uint8Array(bytes.subarray(at, at + size)));
      take();
    }
    parser.end();
  } catch (error) {
    if (!(error instanceof HttpError)) throw error;
    said.push(`${error.status} ${error.code}: ${error.message}`);
  }
  return said;
}

const field = (name: string, value: string) =>
  `--b\r\nContent-Disposition: form-data; name="${name}"\r\n\r\n${value}\r\n`;
const raw = (fields: string, value = "x") => `--b\r\n${fields}\r\n\r\n${value}\r\n--b--\r\n`;
const named = (parameters: string) => raw(`Content-Disposition: form-data; ${parameters}`);

const FORMS: [form: string, said: string[]][] = [
  [field("a", "1") + field("b", "2") + "--b--\r\n", ["a|undefined|1", "b|undefined|2", "end"]],
  ["--b--", ["end"]],
  [field("a", "") + "--b--", ["a|undefined|", "end"]],
  [field("a", "\r\n--") + "--b--epilogue", ["a|undefined|\r\n--", "end"]],
  [field("a", "\r\n-\r\r\n--c\r\n--\r\n") + "--b--", [
    "a|undefined|\r\n-\r\r\n--c\r\n--\r\n",
    "end",
  ]],
  [field("a", "--b") + "--b--", ["a|undefined|", "400"]], // a boundary at the content's beginning
  [named('name="f"; filename="C:\\dir\\x.txt"'), ["f|x.txt|x", "end"]],
  [named('name="f"; filename="../../etc/passwd"'), ["f|passwd|x", "end"]],
  [named('name="f"; filename=".."'), ["f||x", "end"]],
  [named('name="f"; filename=""'), ["f||x", "end"]],
  [named('name="a%22b%0D%0A"; filename="%41"'), ['a"b\r\n|%41|x', "end"]],
  [named("name=f; filename=x.txt; filename*=utf-8''%e2%82%ac.txt"), ["f|x.txt|x", "end"]],
  [named('NAME="f" ; FileName="y"'), ["f|y|x", "end"]],
  [named('name="\u00c3\u00bc"'), ["ü|undefined|x", "end"]],
  // Malformed in every way on which parsers differ.
  ["preamble\r\n" + field("a", "1"), ["400"]],
  ["\r\n" + field("a", "1"), ["400"]],
  ["--c\r\n", ["400"]],
  ["--b \r\n", ["400"]],
  ["--bb\r\n", ["400"]],
  ["--b\n", ["400"]],
  [field("a", "1") + "--bx", ["a|undefined|1", "400"]],
  [field("a", "1") + "--b", ["a|undefined|1", "400"]],
  [field("a", "1") + "--b-", ["a|undefined|1", "400"]],
  ["--b\r\n\r\nx\r\n--b--", ["400"]],
  ["--b\r\nContent-Disposition", ["400"]],
  ["", ["400"]],
  [raw("Content-Disposition: attachment; name=a"), ["400"]],
  [raw("Content-Type: text/plain"), ["400"]],
  [raw("Content-Disposition: form-data"), ["400"]],
  [raw("Content-Disposition: form-datax; name=a"), ["400"]],
  [named('filename="x"'), ["400"]],
  [named('name="a"; name="b"'), ["400"]],
  [named('name="a\\"; filename="x"'), ["400"]],
  [named('name="a" filename="x"'), ["400"]],
  [named('name="a'), ["400"]],
  [named("name="), ["400"]],
  [named("name=\xff"), ["400"]],
  [raw("Content-Disposition: form-data;\r\n name=a"), ["400"]],
  [raw("Content-Disposition : form-data; name=a"), ["400"]],
  [raw("Content-Disposition: form-data; name=a\r\nContent-Disposition: form-data; name=b"), [
    "400",
  ]],
  [raw("Content-Disposition: form-data; name=a\r\nX: a\0b"), ["400"]],
  [raw("Content-Disposition: form-data; name=a\r\nX: a\nb"), ["400"]],
  [raw("Content-Disposition: form-data; name=a\nX: b"), ["400"]],
  [
    raw("Content-Disposition: form-data; name=a\r\nContent-Transfer-Encoding: base64"),
    ["400"],
  ],
  [raw(Array.from({ length: 17 }, (_, i) => `X${i}: y`).join("\r\n")), ["400"]],
  // Too much of something.
  [field("a", "x").repeat(11), [...Array.from({ length: 10 }, () => "a|undefined|x"), "413"]],
  [raw(`Content-Disposition: form-data; name=a\r\nX: ${"y".repeat(300)}`), ["431"]],
  [`--b\r\nX: ${"y".repeat(400)}`, ["431"]],
  [field("a", "x".repeat(1_000)) + "--b--", [`a|undefined|${"x".repeat(1_000)}`, "end"]],
];

describe("The parser of forms", () => {
  for (const [form, said] of FORMS) {
    test(`reads ${JSON.stringify(form).slice(0, 80)}, however it is cut`, () => {
      for (const size of [Infinity, 1, 2, 3, 5, 7, 11]) {
        const found = read(form, size);
        assert.deepEqual(
          found.map((text) => /^\d{3} /.test(text) ? text.slice(0, 3) : text),
          said,
          `in pieces of ${size}`,
        );
      }
      for (let at = 0; at < Math.min(form.length, 200); at++) {
        assert.deepEqual(read(form, at || Infinity), read(form), `in pieces of ${at}`);
      }
    });
  }

  test("refuses a part that is too long, in whatever pieces", () => {
    for (const size of [Infinity, 1, 500]) {
      const said = read(field("a", "x".repeat(1_001)) + "--b--", size);
      assert.match(
        said.at(-1)!,
        /413 BODY_TOO_LARGE: A part of the form is longer than 1000 bytes/,
      );
    }
  });

  test("keeps nothing of an endless part, or one full of beginnings of its boundary", () => {
    const limits = { maxParts: 1, maxPartBytes: Infinity, maxHeaderBytes: 300 };
    for (const filler of ["x", "\r\n--", "\r", "\r\n"]) {
      const parser = new MultipartParser("b".repeat(70), limits);
      parser.push(
        Buffer.from(`--${"b".repeat(70)}\r\nContent-Disposition: form-data; name=a\r\n\r\n`),
      );
      const piece = Buffer.from(filler.repeat(10_000));
      for (let i = 0; i < 100; i++) {
        parser.push(new Uint8Array(piece));
        while (parser.next() !== undefined);
        assert.ok(parser.keptBytes <= 74, `${parser.keptBytes} bytes of ${JSON.stringify(filler)}`);
      }
    }
  });
});

/** A request with a form that comes in these pieces; `cancelled` has what its reader said. */
function request(pieces: (string | Uint8Array)[], type = "multipart/form-data; boundary=b") {
  const queue = [...pieces];
  const cancelled: unknown[] = [];
  const asked = { pieces: 0 };
  const body = new ReadableStream<Uint8Array>({
    pull(controller) {
      const piece = queue.shift();
      asked.pieces++;
      if (piece === undefined) controller.close();
      else controller.enqueue(typeof piece === "string" ? Buffer.from(piece, "latin1") : piece);
    },
    cancel: (reason) => void cancelled.push(reason),
  }, { highWaterMark: 0 });
  return { headers: new Headers({ "content-type": type }), body, cancelled, asked };
}

async function failure(run: () => Promise<unknown>): Promise<HttpsdError> {
  try {
    await run();
  } catch (error) {
    return error as HttpsdError;
  }
  return assert.fail("It was taken");
}

async function drain(source: Parameters<typeof multipart>[0], options?: MultipartOptions) {
  const read: string[] = [];
  for await (const part of multipart(source, options)) {
    read.push(`${part.name}=${await part.text()}`);
  }
  return read;
}

describe("multipart()", () => {
  test("gives the parts of what a browser sends", async () => {
    const form = new FormData();
    form.append("name", "Ada ü");
    form.append("file", new File(["0123456789"], "a b.txt", { type: "text/plain" }));
    form.append("none", new File([], ""));
    const parts: unknown[] = [];
    for await (const part of multipart(new Request("http://a/", { method: "POST", body: form }))) {
      parts.push([part.name, part.filename, part.type.split(";")[0], await part.text()]);
    }
    assert.deepEqual(parts.slice(0, 2), [
      ["name", undefined, "text/plain", "Ada ü"],
      ["file", "a b.txt", "text/plain", "0123456789"],
    ]);
    assert.equal(parts.length, 3);
  });

  test("throws away what is not read of a part, and fails who reads it later", async () => {
    const source = request([field("a", "x".repeat(500)), field("b", "2"), "--b--"]);
    const names: string[] = [];
    let first: ReadableStream<Uint8Array> | undefined;
    for await (const part of multipart(source)) {
      names.push(part.name);
      first ??= part.body;
    }
    assert.deepEqual(names, ["a", "b"]);
    assert.equal((await failure(() => first!.getReader().read())).code, "BODY_USED");
    assert.deepEqual(source.cancelled, []);
  });

  test("reads no further than it is asked", async () => {
    const source = request([field("a", "1").slice(0, -2), "more", "and more", "\r\n--b--"]);
    const parts = multipart(source);
    const { value: part } = await parts.next();
    await turns(5);
    assert.equal(source.asked.pieces, 1);
    const reader = part!.body.getReader();
    await reader.read();
    await turns(5);
    assert.equal(source.asked.pieces, 1);
    await reader.read();
    assert.equal(source.asked.pieces, 2);
    await parts.return();
    await turns(5);
    assert.equal(source.cancelled.length, 1, "a loop that ends early cancels the body");
    assert.equal((await failure(() => reader.read())).code, "BODY_USED");
  });

  test("caps what text() and bytes() take into memory", async () => {
    const form = () => request([field("a", "x".repeat(1_000)), "--b--"]);
    const error = await failure(() => drain(form(), { maxFieldBytes: 999 })) as HttpError;
    assert.deepEqual([error.status, error.code], [413, "BODY_TOO_LARGE"]);
    assert.equal((await drain(form(), { maxFieldBytes: 1_000 })).length, 1);
  });

  const types = [
    "",
    "multipart/form-data",
    "multipart/form-data; boundary=",
    "multipart/form-data; boundary=b; boundary=c",
    "multipart/mixed; boundary=b",
    "multipart/form-data; boundary=" + "b".repeat(71),
    'multipart/form-data; boundary="b "',
    "multipart/form-data; boundary=b, text/plain",
    "application/x-www-form-urlencoded",
  ];
  for (const type of types) {
    test(`refuses the type ${JSON.stringify(type)}`, async () => {
      const error = await failure(() => drain(request([field("a", "1"), "--b--"], type)));
      assert.equal(error.code, "BAD_REQUEST");
    });
  }

  test("takes a quoted boundary, and a charset beside it", async () => {
    for (
      const type of [
        'Multipart/Form-Data; Boundary="b"',
        "multipart/form-data; charset=utf-8; boundary=b",
      ]
    ) {
      assert.deepEqual(await drain(request([field("a", "1"), "--b--"], type)), ["a=1"]);
    }
  });

  test("says what it takes", async () => {
    const loose = multipart as (...given: unknown[]) => AsyncGenerator;
    const refused: [given: unknown[], message: RegExp][] = [
      [[], /^multipart\(\) takes a request, not undefined: write multipart\(request, options\)$/],
      [["x"], /takes a request, not a string/],
      [[request([]), { fileSize: 1 }], /^Option fileSize of multipart\(\) .* write maxPartBytes$/],
      [[request([]), { maxPart: 1 }], /did you mean maxParts\?$/],
      [[request([]), { maxParts: 0 }], /maxParts of multipart\(\) is 0: it must be a count, 1 or/],
    ];
    for (const [given, message] of refused) {
      assert.throws(() => loose(...given), { code: "INVALID_CONFIG", message });
    }
    const used = request([field("a", "1"), "--b--"]);
    used.body.getReader();
    assert.equal((await failure(() => drain(used))).code, "BODY_USED");
  });
});

for (const mode of MODES) {
  describe(`An upload over ${mode}`, () => {
    test("streams to a route and to a fetch handler, and holds the client back", async () => {
      const { promise: goOn, resolve } = Promise.withResolvers<void>();
      const total = async (source: Parameters<typeof multipart>[0]) => {
        let bytes = 0;
        for await (const part of multipart(source)) {
          await goOn;
          for await (const piece of part.body) bytes += piece.length;
        }
        return String(bytes);
      };
      const { server, port, errors } = await started(
        async (request) => new Response(await total(request)),
        {},
        mode,
      );
      server.route({
        uri: "/route",
        method: "POST",
        handler: async (request) => request.send(await total(request)),
      });
      const size = 20_000_000;
      const head = `--b\r\nContent-Disposition: form-data; name=f; filename=x\r\n\r\n`;
      const tail = "\r\n--b--\r\n";
      for (const path of ["/route", "/fetch"]) {
        const client = await RawClient.connect(port, mode);
        client.send(
          `POST ${path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n` +
            `Content-Type: multipart/form-data; boundary=b\r\n` +
            `Content-Length: ${head.length + size + tail.length}\r\n\r\n${head}`,
        );
        client.send(Buffer.alloc(size));
        client.send(tail);
        if (path === "/route") {
          await turns(50);
          assert.ok(client.socket.writableLength > size / 2, "the client waits");
          resolve();
        }
        assert.match(await client.rest(), new RegExp(`\r\n\r\n${size}$`));
        client.destroy();
      }
      assert.deepEqual(errors, []);
    });

    test("that is malformed or too long is the client's error", async () => {
      const { port } = await started(
        async (request) => {
          for await (const part of multipart(request, { maxPartBytes: 100 })) await part.text();
          return new Response("taken");
        },
        {},
        mode,
      );
      for (
        const [form, status] of [
          ["nonsense", 400],
          [field("a", "1"), 400],
          [field("a", "x".repeat(101)) + "--b--", 413],
          [field("a", "1") + "--b--", 200],
        ] as const
      ) {
        const client = await RawClient.connect(port, mode);
        client.send(
          `POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n` +
            `Content-Type: multipart/form-data; boundary=b\r\n` +
            `Content-Length: ${form.length}\r\n\r\n${form}`,
        );
        assert.match(await client.rest(), new RegExp(`^HTTP/1.1 ${status} `));
        client.destroy();
      }
    });
  });
}
