/** Frames of HTTP/2 (RFC 9113 section 4), as far as clients of the benchmark need them. */
import { Buffer } from "node:buffer";

export const PREFACE = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
export const TYPES = { DATA: 0, HEADERS: 1, SETTINGS: 4, PING: 6, WINDOW_UPDATE: 8 };
export const END_STREAM = 0x1;
export const END_HEADERS = 0x4;

const HEAD_BYTES = 9;
const NOTHING = Buffer.alloc(0);

/** A frame; for stream 0 and without a payload unless they are given. */
export function frame(type, flags = 0, stream = 0, payload = NOTHING) {
  const bytes = Buffer.allocUnsafe(HEAD_BYTES + payload.length);
  bytes.writeUIntBE(payload.length, 0, 3);
  bytes[3] = type;
  bytes[4] = flags;
  bytes.writeUInt32BE(stream, 5);
  bytes.set(payload, HEAD_BYTES);
  return bytes;
}

/** Takes frames out of what comes, and calls with the type, the flags and the payload of each. */
export class Frames {
  constructor(received) {
    this.received = received;
    this.rest = NOTHING;
  }

  push(bytes) {
    let all = this.rest.length === 0 ? bytes : Buffer.concat([this.rest, bytes]);
    let at = 0;
    while (all.length - at >= HEAD_BYTES) {
      const end = at + HEAD_BYTES + all.readUIntBE(at, 3);
      if (end > all.length) break;
      this.received(all[at + 3], all[at + 4], all.subarray(at + HEAD_BYTES, end));
      at = end;
    }
    all = all.subarray(at);
    this.rest = all.length === 0 ? NOTHING : Buffer.from(all); // the memory is the socket's
  }
}
