/**
 * A new connection for each request: full handshakes, or with `resume` resumed ones. Each ticket is
 * used once, as RFC 8446 appendix C.4 asks for, and as some servers insist on. With `names`, each
 * ClientHello asks for another of so many names; with `certificate`, it shows that one.
 */
import { fail, finish, measure, options } from "./measure.mjs";

const { port, names = 1, resume = false, certificate } = options;
const CONNECTIONS = 32;
const MAX_TICKETS = 1_000;
const REQUEST = "GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

const client = certificate && { cert: Bun.file(certificate.cert), key: Bun.file(certificate.key) };
const tickets = [];
let connections = 0;
let resumed = 0;
let opened = 0;

const socket = {
  open(socket) {
    socket.data = { answered: false };
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
    if (!socket.data.answered) fail("A connection was closed without an answer");
    connections++;
    connect();
  },
};

function connect() {
  const serverName = `host${opened++ % names}.example`;
  const tls = { rejectUnauthorized: false, serverName, ...client };
  Bun.connect({ hostname: "127.0.0.1", port, tls, socket }).catch((error) => fail(String(error)));
}

for (let i = 0; i < CONNECTIONS; i++) connect();
const result = await measure(() => connections);
if (resume && resumed < 0.9 * connections) {
  result.note = `only ${Math.round(100 * resumed / connections)} % resumed`;
}
finish(result);
