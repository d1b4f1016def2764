/**
 * What servers answer, compared before anything is measured: who answers less, or something else,
 * is not faster.
 */
import { createHash } from "node:crypto";
import { once } from "node:events";
import { connect as connectHttp2 } from "node:http2";
import { connect } from "node:net";
import { connect as connectTls } from "node:tls";

const SETTLED_MS = 60; // after an answer, for session tickets that may follow it
const LIMIT_MS = 20_000;

/**
 * Asks a server over HTTP/1.1, and resolves with its answers to the text of some requests, and how
 * many bytes they were on the wire, without the handshake.
 */
export async function ask({ port }, text, { certificate, bytesOfBodies = false } = {}) {
  const raw = connect(port, "127.0.0.1");
  await once(raw, "connect");
  const secure = connectTls({ socket: raw, rejectUnauthorized: false, ...certificate });
  try {
    await once(secure, "secureConnect");
    const count = text.split(/(?<=\r\n\r\n)(?=[A-Z]+ \/)/).length;
    if (bytesOfBodies) await answersTo(secure, text, count); // and the tickets of the session
    const before = raw.bytesRead;
    const answers = await answersTo(secure, text, count);
    return { answers, wireBytes: raw.bytesRead - before };
  } finally {
    secure.destroy();
    raw.destroy();
  }
}

async function answersTo(secure, text, count) {
  const limit = setTimeout(() => secure.destroy(new Error("No whole answer came")), LIMIT_MS);
  const answers = await new Promise((resolve, reject) => {
    const pieces = [];
    let [length, waitFor] = [0, 0];
    secure.on("data", (piece) => {
      pieces.push(piece);
      length += piece.length;
      if (length < waitFor) return; // a long body: do not put it together for each piece
      const parsed = parse(Buffer.concat(pieces), count);
      if (parsed.answers !== undefined) resolve(parsed.answers);
      waitFor = parsed.waitFor;
    });
    secure.on("error", reject);
    secure.on("close", () => reject(new Error("The connection was closed before the answer")));
    secure.write(text);
  }).finally(() => clearTimeout(limit));
  secure.removeAllListeners("data").removeAllListeners("close").removeAllListeners("error");
  secure.on("error", () => {}); // the answer is there
  secure.resume();
  await new Promise((resolve) => setTimeout(resolve, SETTLED_MS));
  return answers;
}

/** So many answers, or how many bytes must be there at least. */
function parse(bytes, count) {
  const answers = [];
  for (let at = 0; answers.length < count;) {
    const end = bytes.indexOf("\r\n\r\n", at);
    if (end < 0) return { waitFor: bytes.length + 1 };
    const [status, ...lines] = bytes.toString("latin1", at, end).split("\r\n");
    const fields = lines.map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon).toLowerCase(), line.slice(colon + 1).trim()];
    });
    const length = Number(fields.find(([name]) => name === "content-length")?.[1] ?? NaN);
    if (Number.isNaN(length) && !status.includes(" 101 ")) {
      throw new Error(`An answer without a length: ${status} ${lines.join(", ")}`);
    }
    const start = end + 4;
    at = start + (length || 0);
    if (bytes.length < at) return { waitFor: at };
    answers.push(description(status.split(" ")[1], fields, bytes.subarray(start, at)));
  }
  return { answers };
}

/** Asks a server for / over HTTP/2. */
export async function askHttp2({ port }) {
  const session = connectHttp2(`https://localhost:${port}`, { rejectUnauthorized: false });
  try {
    const stream = session.request({ ":path": "/" });
    const [fields] = await once(stream, "response");
    const pieces = [];
    for await (const piece of stream) pieces.push(piece);
    const { ":status": status, ...rest } = fields;
    return [description(String(status), Object.entries(rest), Buffer.concat(pieces))];
  } finally {
    session.destroy();
  }
}

/** An answer as a text that is the same for the same fields and bytes, whatever the time is. */
function description(status, fields, body) {
  const lines = fields.map(([name, value]) => `${name}: ${name === "date" ? "…" : value}`).sort();
  const digest = createHash("sha256").update(body).digest("hex").slice(0, 16);
  return [`status ${status}`, ...lines, `${body.length} bytes, ${digest}`].join("\n");
}

/** Fails where the answers of a contestant differ from those of the first. */
export function compareAnswers(contestants) {
  const [first, ...others] = contestants;
  for (const { name, answers } of others) {
    const at = answers.findIndex((answer, i) => answer !== first.answers[i]);
    if (at < 0) continue;
    throw new Error(
      `${name} does not answer as ${first.name} does.\n\n` +
        `${first.name}:\n${first.answers[at]}\n\n${name}:\n${answers[at]}`,
    );
  }
}
