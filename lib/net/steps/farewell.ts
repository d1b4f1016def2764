/**
 * The gate's step for a client that is refused: some get the reason before they are closed.
 *
 * @module
 */
import type { HttpsdError } from "../../errors.ts";
import { type Alert, alertRecord } from "../../tls/alerts.ts";
import type { ConnectionEngine } from "../engine.ts";

/** Why a client is refused, and the last bytes that it gets; without any it is cut. */
export class TurnedAway {
  /** Why. */
  readonly error: HttpsdError;
  /** What the client gets. */
  readonly lastBytes: Uint8Array | undefined;

  /** Refuses a client, with some last bytes or none. */
  constructor(error: HttpsdError, lastBytes?: Uint8Array) {
    this.error = error;
    this.lastBytes = lastBytes;
  }

  /** Refuses a TLS client with an alert. */
  static withAlert(error: HttpsdError, alert: Alert): TurnedAway {
    return new TurnedAway(error, alertRecord(alert));
  }
}

/** Sends the last bytes and gives the client time to read them. */
export function sayFarewell(connection: ConnectionEngine, lastBytes: Uint8Array): void {
  connection.write(lastBytes);
  connection.close();
}
