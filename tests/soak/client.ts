/**
 * One of the soak's clients: `client.ts <plain port> <TLS port> <connections> <at a time> <seed>`.
 * Opens connections of every kind as fast as it can, and prints how many of each there were.
 *
 * @module
 */
import net from "node:net";
import process from "node:process";
import tls from "node:tls";
import { Random } from "../random.ts";
import { clientFrame } from "../websocket_cases.ts";
import { handshake } from "../websocket_support.ts";

const [plainPort, tlsPort, connections, atATime, seed] = process.argv.slice(2).map(Number) as [
  number,
  number,
  number,
  number,
  number,
];
const random = new Random(seed);

const GET = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n";
const POST = "POST /body HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n" +
  "5\r\nabcde\r\n0\r\n\r\n";
const UPGRADE = handshake("/ws");
const TEXT = clientFrame({ op: 1, text: "hello" });
const CLOSE = clientFrame({ op: 8, hex: "03e8" });
const NEVER = Infinity;

/** What a client does: what it sends, after how many bytes it does more, and what that is. */
interface Life {
  readonly name: string;
  /** Of a hundred plain or TLS connections. */
  readonly share: number;
  readonly first: string | Uint8Array;
  /** The texts that it waits for, one after the other, and what it does at each. */
  readonly then: readonly (readonly [text: string, act: (socket: net.Socket) => void])[];
  /** What it does at once behind its first bytes. */
  readonly atOnce?: (socket: net.Socket) => void;
  /** How many bytes of the first it sends at the most. */
  readonly most?: () => number;
}

const end = (socket: net.Socket): void => void socket.end();
const leave = (socket: net.Socket): void => void socket.destroy();
const reset = (socket: net.Socket): void =>
  void ((socket as { _parent?: net.Socket })._parent ?? socket).resetAndDestroy();

const LIVES: readonly Life[] = [
  { name: "one request", share: 30, first: GET, then: [["Hello", leave]] },
  {
    name: "several requests",
    share: 10,
    first: GET,
    then: [
      ["Hello", (socket) => socket.write(GET)],
      ["Hello", (socket) => socket.write(POST)],
      ["\r\n\r\n5", end],
    ],
  },
  {
    name: "pipelined",
    share: 5,
    first: GET + POST + GET,
    then: [["Hello", () => {}], ["Hello", end]],
  },
  { name: "half-closed", share: 12, first: GET, atOnce: end, then: [] },
  {
    name: "reset",
    share: 12,
    first: POST,
    most: () => random.below(POST.length),
    atOnce: reset,
    then: [],
  },
  { name: "reset answer", share: 5, first: GET, then: [["HTTP", reset]] },
  { name: "bad bytes", share: 8, first: "\0\x01 bad\r\n\r\n", then: [] },
  { name: "too many bytes", share: 4, first: GET + "G", atOnce: end, then: [] },
  { name: "silent", share: 1, first: "", then: [] },
  {
    name: "half a request",
    share: 2,
    first: POST,
    most: () => random.below(POST.length),
    then: [],
  },
  {
    name: "WebSocket",
    share: 6,
    first: UPGRADE,
    then: [
      ["\r\n\r\n", (socket) => socket.write(TEXT)],
      ["hello", (socket) => socket.write(CLOSE)],
    ],
  },
  { name: "WebSocket left", share: 3, first: UPGRADE, then: [["\r\n\r\n", leave]] },
  {
    name: "WebSocket stalled",
    share: 2,
    first: UPGRADE,
    then: [
      ["\r\n\r\n", (socket) => socket.write(TEXT.subarray(0, 5))],
    ],
  },
];

/** One connection in so many has TLS; one in so many of the others speaks plainly to that port. */
const TLS_EVERY = 20;
const STRANGER_EVERY = 50;

const chosen = LIVES.flatMap((life) => Array.from({ length: life.share }, () => life));
const counts: Record<string, number> = {};
let begun = 0;
let failed = 0;

function begin(): void {
  if (begun === connections) return;
  begun++;
  const life = random.pick(chosen);
  const secure = random.oneIn(TLS_EVERY);
  const port = secure || random.oneIn(STRANGER_EVERY) ? tlsPort : plainPort;
  const name = secure ? `${life.name}, TLS` : port === tlsPort ? "plain on TLS" : life.name;
  counts[name] = (counts[name] ?? 0) + 1;
  const target = { host: "127.0.0.1", port, noDelay: true };
  const socket = secure
    ? tls.connect({ ...target, rejectUnauthorized: false })
    : net.connect(target);
  let got = "";
  let step = 0;
  socket.on("data", (bytes: Uint8Array) => {
    const next = life.then[step];
    if (next === undefined) return;
    got += String(bytes);
    const at = got.indexOf(next[0]);
    if (at < 0) return;
    got = got.slice(at + next[0].length);
    step++;
    next[1](socket);
  });
  socket.on("error", (error: NodeJS.ErrnoException) => {
    if (error.code === "ECONNRESET" || error.code === "EPIPE" || secure) return;
    failed++;
    if (failed < 10) console.error(error.message);
  });
  socket.on("close", begin);
  socket.once(secure ? "secureConnect" : "connect", () => {
    const bytes = life.first.slice(0, life.most?.() ?? NEVER);
    if (bytes.length > 0) socket.write(bytes);
    life.atOnce?.(socket);
  });
}

for (let i = 0; i < atATime; i++) begin();
process.on("exit", () => {
  console.log(JSON.stringify({ ...counts, failed }));
});
