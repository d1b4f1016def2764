/**
 * A new connection for each request: full handshakes, or with `resume` resumed ones. Each ticket is
 * used once, as RFC 8446 appendix C.4 asks for, and as some servers insist on. With `names`, each
 * ClientHello asks for another of so many names; with `certificate`, it shows that one.
 */
import { count, fail, options, ready } from "./shared.mjs";

const { port, names = 1, resume = false, certificate } = options;
const CONNECTIONS = 32;
const MAX_TICKETS = 1_000;
const STALLED_TICKS = 30;
const MIN_RESUMED = 0.9;
const REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

const client = certificate && { cert: Bun.file(certificate.cert), key: Bun.file(certificate.key) };
const tickets = [];
let connections = 0;
let resumed = 0;
let opened = 0;
let now = 0; // in ticks of a timer: this client is stopped for long times, which do not count
const open = new Set();

const socket = {
  open(socket) {
    socket.data = { answered: false, since: now };
    open.add(socket);
    const ticket = tickets.pop();
    if (ticket !== undefined) socket.setSession(ticket);
  },
  handshake(socket) {
    if (socket.isSessionReused()) resumed++;
    socket.write(REQUEST);
  },
  data(socket, bytes) {
    socket.data.answered ||= bytes.toString("latin1").startsWith("HTTP/1.1 200 OK");
    if (resume && tickets.length < MAX_TICKETS) tickets.push(socket.getSession());
  },
  error: (_, error) => fail(String(error)),
  end: (socket) => socket.end(),
  close(socket) {
    if (open.delete(socket)) {
      if (!socket.data.answered) fail("A connection was closed without an answer");
      connections++;
      count();
    }
    connect();
  },
};

function connect() {
  const serverName = `host${opened++ % names}.example`;
  const tls = { rejectUnauthorized: false, serverName, ...client };
  Bun.connect({ hostname: "127.0.0.1", port, tls, socket }).catch((error) => fail(String(error)));
}

/** Replaces connections that do not get on, as when packets are lost: without them the rest waits. */
function replaceStalled() {
  now++;
  for (const socket of open) {
    if (socket.data.since > now - STALLED_TICKS) continue;
    open.delete(socket);
    socket.terminate();
  }
  const expected = resume && connections > 20 * CONNECTIONS;
  if (expected && resumed < MIN_RESUMED * connections) {
    fail(`Only ${resumed} of ${connections} handshakes were resumed`);
  }
}

for (let i = 0; i < CONNECTIONS; i++) connect();
setInterval(replaceStalled, 100);
ready();
