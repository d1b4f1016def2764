// Speaks to a server with Node's own client of HTTP/2, and prints what it has seen as JSON:
// node http2_node_client.mjs URL [CA file]
import { readFileSync } from "node:fs";
import { connect, constants } from "node:http2";

const [url, ca] = process.argv.slice(2);
const session = connect(url, ca === undefined ? {} : { ca: readFileSync(ca) });
const seen = { goaway: null };
session.on("goaway", (code, last) => seen.goaway = { code, last });

function fetch(path, { method = "GET", body, headers = {} } = {}) {
  return new Promise((resolve, reject) => {
    const stream = session.request({ ":path": path, ":method": method, ...headers }, {
      endStream: body === undefined,
    });
    const answer = { status: 0, early: [], length: 0, text: "", trailers: null };
    stream.on("headers", (fields) => answer.early.push(fields[":status"]));
    stream.on("response", (fields) => answer.status = fields[":status"]);
    stream.on("trailers", (fields) => answer.trailers = { ...fields });
    stream.on("data", (bytes) => {
      answer.length += bytes.length;
      if (answer.length < 1_000) answer.text += bytes;
    });
    stream.on("end", () => resolve(answer));
    stream.on("error", reject);
    if (body !== undefined) stream.end(body);
  });
}

seen.alpn = session.alpnProtocol ?? null;
seen.hello = await fetch("/hello");
seen.alpn = session.alpnProtocol;
seen.many = (await Promise.all(Array.from({ length: 50 }, (_, i) => fetch(`/hello?${i}`))))
  .filter(({ text }) => text === "hello").length;
seen.large = (await fetch("/large")).length;
seen.upload = await fetch("/upload", { method: "POST", body: Buffer.alloc(1_000_000, 1) });
seen.trailers = await fetch("/trailers");
const waits = session.request({ ":path": "/wait" });
waits.on("error", () => {});
await new Promise((resolve) => waits.once("response", resolve));
const closed = new Promise((resolve) => waits.once("close", resolve));
waits.close(constants.NGHTTP2_CANCEL);
await closed;
seen.after = await fetch("/aborted");
await new Promise((resolve) => session.close(resolve));
console.log(JSON.stringify(seen));
