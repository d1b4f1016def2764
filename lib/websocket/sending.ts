/**
 * The sending side of one socket, as its program and the server's topics use it: what may not be
 * sent rejects, and a client for which too much waits is closed.
 *
 * @module
 */
import { WebSocketError } from "../errors.ts";
import { CloseCode } from "./close.ts";
import { endedByOthers } from "./closed_error.ts";
import { Opcode } from "./opcode.ts";
import { type Bytes, bytesOf, EncodedMessage, type PreparedMessage } from "./prepared_message.ts";
import type { Sender } from "./sender.ts";

/** The socket, as its sending side sees it. */
export interface SendingHost {
  /** Whether messages go both ways. */
  readonly isOpen: boolean;
  /** Notes that something was sent, which the client may have to read before more is. */
  sent(): void;
  /** Closes the socket, since more waits for the client than may. */
  tooSlow(error: WebSocketError): void;
}

/** Sends on one socket. */
export class Sending {
  readonly #host: SendingHost;
  readonly #sender: Sender;
  readonly #maxBufferedBytes: number;

  /** Makes the sending side of a socket. */
  constructor(host: SendingHost, sender: Sender, maxBufferedBytes: number) {
    this.#host = host;
    this.#sender = sender;
    this.#maxBufferedBytes = maxBufferedBytes;
  }

  /** How many bytes wait to be sent. */
  get bufferedBytes(): number {
    return this.#sender.bufferedBytes;
  }

  /** Sends a message; see `ServerWebSocket.send()`. */
  send(data: string | Bytes | PreparedMessage, compress: boolean | undefined): Promise<void> {
    return this.#attempt(() => this.#sender.send(data, compress));
  }

  /** Sends the bytes of a Blob, in its turn. */
  sendBlob(blob: Blob): Promise<void> {
    const read = async () => new EncodedMessage(await blob.arrayBuffer());
    return this.#attempt(() => this.#sender.sendLater(blob.size, read));
  }

  /** Sends one frame; see `ServerWebSocket.sendFrame()`. */
  sendFrame(opcode: Opcode, payload: string | Bytes, final: boolean): Promise<void> {
    return this.#attempt(() => {
      const bytes = bytesOf(payload);
      if (opcode >= Opcode.Close) return this.#sendControl(opcode, bytes, final);
      return this.#sender.sendFrame(opcode, bytes, final);
    });
  }

  /** Sends a message that other sockets get too, behind one that is sent in fragments. */
  deliver(message: EncodedMessage): Promise<void> {
    return this.#attempt(() => this.#sender.deliver(message));
  }

  #sendControl(opcode: Opcode, payload: Uint8Array, final: boolean): Promise<void> {
    if (opcode === Opcode.Close || !final) {
      const message = opcode === Opcode.Close
        ? "A Close frame is sent by close(): call that"
        : "A control frame cannot be a fragment: leave out final";
      throw new WebSocketError(CloseCode.InternalError, "WS_CANNOT_SEND", message);
    }
    return this.#sender.sendControl(opcode, payload);
  }

  /** Sends, unless the client is too slow. A program may ignore a rejection. */
  #attempt(send: () => Promise<void>): Promise<void> {
    try {
      if (this.#host.isOpen && this.#sender.bufferedBytes > this.#maxBufferedBytes) {
        const error = tooSlow(this.#maxBufferedBytes);
        this.#host.tooSlow(error);
        throw error;
      }
      const sent = send();
      this.#host.sent();
      return sent;
    } catch (error) {
      const failed = Promise.reject(error);
      failed.catch(() => {}); // an unhandled rejection would end the process
      return failed;
    }
  }
}

function tooSlow(maxBufferedBytes: number): WebSocketError {
  return endedByOthers(
    new WebSocketError(
      CloseCode.PolicyViolation,
      "WS_SLOW_CONSUMER",
      `The client reads too slowly: more than ${maxBufferedBytes} bytes wait for it`,
    ),
  );
}
