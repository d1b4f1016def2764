/**
 * Requests over HTTP/2, with so many `streams` at a time on each of the connections: a stream that
 * has ended is followed by a new one, those that end together by new ones in one write.
 */
import { Buffer } from "node:buffer";
import { connectAll, count, fail, options, ready } from "./shared.mjs";
import { END_HEADERS, END_STREAM, frame, Frames, PREFACE, TYPES } from "./http2_frames.mjs";

const { connections, streams } = options;
/** GET / with the authority; later ones take that from HPACK's dynamic table. */
const FIRST = Buffer.from("\x82\x87\x84\x41\x09localhost", "latin1");
const LATER = Buffer.from("\x82\x87\x84\xbe", "latin1");
const ALL_WINDOWS = Buffer.from([0x7f, 0xfe, 0, 0]); // about as far as a window goes

const request = (id) =>
  frame(TYPES.HEADERS, END_HEADERS | END_STREAM, id, id === 1 ? FIRST : LATER);

class Connection {
  constructor(socket) {
    this.socket = socket;
    this.frames = new Frames((...all) => this.received(...all));
    this.nextId = 1;
    this.ended = 0;
    this.out = [PREFACE, frame(TYPES.SETTINGS), frame(TYPES.WINDOW_UPDATE, 0, 0, ALL_WINDOWS)];
    this.request(streams);
    this.flush();
  }

  request(times) {
    for (; times > 0; times--, this.nextId += 2) this.out.push(request(this.nextId));
  }

  flush() {
    if (this.out.length > 0) this.socket.write(Buffer.concat(this.out));
    this.out = [];
  }

  data(bytes) {
    this.frames.push(bytes);
    if (this.ended > 0) count(this.ended);
    this.request(this.ended);
    this.ended = 0;
    this.flush();
  }

  received(type, flags, payload) {
    switch (type) {
      case TYPES.DATA:
      case TYPES.HEADERS:
        if (flags & END_STREAM) this.ended++;
        break;
      case TYPES.SETTINGS:
        if ((flags & 1) === 0) this.out.push(frame(TYPES.SETTINGS, 1));
        break;
      case TYPES.PING:
        if ((flags & 1) === 0) this.out.push(frame(TYPES.PING, 1, 0, payload));
        break;
      case TYPES.WINDOW_UPDATE:
        break;
      default:
        fail(`A frame of type ${type} came: ${payload.toString("hex")}`);
    }
  }
}

await connectAll(connections, (connected) => ({
  handshake(socket) {
    socket.data = new Connection(socket);
    connected(socket);
  },
  data: (socket, bytes) => socket.data.data(bytes),
}), "h2");
ready();
