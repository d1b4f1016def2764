/**
 * A client on `node:http2`, for Node, Deno and Bun: goes through what a session can do, and prints
 * what it has seen as JSON. Arguments: the server's origin, and the file of its authority, if any.
 */
import { Buffer } from "node:buffer";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import process from "node:process";

const [origin, caFile] = process.argv.slice(2);
const MB = 1024 * 1024;
const { NGHTTP2_CANCEL } = http2.constants;

const session = http2.connect(origin, caFile === undefined ? {} : { ca: readFileSync(caFile) });
session.on("error", (error) => fail("session", error));
let goaway;
session.on("goaway", (code) => goaway = code);

function fail(where, error) {
  console.log(JSON.stringify({ failed: `${where}: ${error?.stack}` }));
  process.exit(1);
}

/** Sends a request and resolves with all that comes back. */
async function ask(headers, { body, trailers } = {}) {
  const hasBody = body !== undefined || trailers !== undefined;
  const stream = session.request(headers, {
    endStream: !hasBody,
    waitForTrailers: trailers !== undefined,
  });
  const answer = { status: 0, body: Buffer.alloc(0) };
  stream.on("headers", (fields) => {
    if (fields[":status"] === 103) answer.link = fields.link; // Deno reports 100 here too
  });
  stream.on("response", (fields) => {
    answer.status = fields[":status"];
    answer.type = fields["content-type"];
    answer.length = fields["content-length"];
  });
  stream.on("trailers", (fields) => answer.trailers = { ...fields });
  if (trailers !== undefined) stream.on("wantTrailers", () => stream.sendTrailers(trailers));
  const pieces = [];
  stream.on("data", (piece) => pieces.push(piece));
  if (headers.expect !== undefined) {
    await once(stream, "continue");
    answer.continued = true;
  }
  if (hasBody) stream.end(body);
  await once(stream, "close");
  answer.body = Buffer.concat(pieces);
  return answer;
}

/** What is printed of an answer. */
function shown({ body, ...rest }) {
  return { ...rest, body: body.toString() };
}

/** Sends one piece after another, each when the one before has come back. */
async function duplex() {
  const stream = session.request({ ":method": "POST", ":path": "/echo" });
  let text = "";
  stream.on("data", (piece) => text += piece);
  for (const piece of ["one", "two", "three"]) {
    const before = text.length;
    stream.write(piece);
    while (text.length < before + piece.length) await once(stream, "data");
  }
  stream.end();
  await once(stream, "close");
  return text;
}

/** Resets a stream once its answer has begun. */
async function cancel() {
  const stream = session.request({ ":path": "/wait" });
  stream.on("error", () => {});
  stream.resume();
  await once(stream, "response");
  stream.close(NGHTTP2_CANCEL);
  await once(stream, "close");
}

/** Says one word to a WebSocket on a stream (RFC 8441), and takes its echo. */
async function webSocket() {
  const stream = session.request({
    ":method": "CONNECT",
    ":protocol": "websocket",
    ":path": "/ws",
    "sec-websocket-version": "13",
  });
  const [{ ":status": status }] = await once(stream, "response");
  const masked = [0x81, 0x82, 0, 0, 0, 0, 0x68, 0x69]; // the text "hi" under a mask of zeros
  stream.write(Buffer.from(masked));
  const [echo] = await once(stream, "data");
  stream.write(Buffer.from([0x88, 0x82, 0, 0, 0, 0, 0x03, 0xe8])); // close, 1000
  const [close] = await once(stream, "data");
  stream.end();
  await once(stream, "close");
  return { status, echo: echo.toString("hex"), close: close.toString("hex") };
}

try {
  const seen = {};
  seen.get = shown(await ask({ ":path": "/hello" }));
  seen.alpn = session.alpnProtocol;
  seen.streams = session.remoteSettings.maxConcurrentStreams;
  seen.head = shown(await ask({ ":path": "/hello", ":method": "HEAD" }));
  const many = await Promise.all(
    Array.from({ length: 100 }, (_, i) => ask({ ":path": `/hello?${i}` })),
  );
  seen.many = many.filter(({ status, body }) => status === 200 && String(body) === "hello").length;
  seen.duplex = await duplex();
  const bytes = Buffer.alloc(5 * MB, "some bytes of no length that divides a frame's");
  const echoed = await ask({ ":method": "POST", ":path": "/echo" }, { body: bytes });
  seen.large = echoed.body.equals(bytes);
  seen.trailers = shown(
    await ask({ ":method": "POST", ":path": "/trailers", trailer: "x-sent" }, {
      body: "body",
      trailers: { "x-sent": "yes" },
    }),
  );
  seen.early = shown(await ask({ ":path": "/early" }));
  seen.continued = shown(
    await ask({ ":method": "POST", ":path": "/echo", expect: "100-continue" }, { body: "body" }),
  );
  await cancel();
  seen.webSocket = await webSocket();
  seen.pinged = await new Promise((resolve) =>
    session.ping(
      Buffer.from("12345678"),
      (error, _, payload) => resolve(error === null && String(payload)),
    )
  );
  seen.bye = shown(await ask({ ":path": "/bye" }));
  if (!session.closed) await once(session, "close");
  seen.goaway = goaway;
  console.log(JSON.stringify(seen));
} catch (error) {
  fail("request", error);
}
