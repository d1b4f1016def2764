/**
 * WebSockets that another server speaks: for `lib/proxy/`, which needs none of what speaks them here.
 *
 * @module
 */
import { HttpError } from "../errors.ts";
import type { Protocol, Tunnel } from "../http/tunnel.ts";
import { type AcceptedUpgrade, checkUpgrade, type RefusedUpgrade } from "./handshake.ts";
import { type FetchUpgrade, offerOf } from "./offer.ts";

/** A WebSocket between the client and another server, whose bytes this one passes on. */
export interface PassedWebSocket {
  /** Makes what reads and writes the client's side, once 101 was answered. */
  speak(this: void, tunnel: Tunnel): Protocol;
  /** Called when the client is not answered with 101 after all. */
  refused(this: void): void;
}

/**
 * Checks a request that is to be passed on as a WebSocket, for `lib/proxy/`.
 *
 * @throws what `upgradeWebSocket()` throws
 */
export function offeredWebSocket(request: Request): AcceptedUpgrade {
  return checkOffer(offerOf(request));
}

/**
 * Returns the response by which a request becomes a WebSocket that another server speaks; fields
 * that are added to it are sent with the 101.
 *
 * @throws what `upgradeWebSocket()` throws
 */
export function passWebSocket(request: Request, passed: PassedWebSocket): Response {
  const offer = offerOf(request);
  const { exchange } = offer;
  return offer.take({
    accept: checkOffer(offer).accept,
    open(fields) {
      if (exchange.ending) {
        exchange.sendError(503);
        return false;
      }
      return exchange.upgrade([...fields], passed.speak) !== undefined;
    },
    refused: passed.refused,
  });
}

/**
 * Returns what the client asks for whose connection is offered.
 *
 * @throws what `upgradeWebSocket()` throws
 */
export function checkOffer(offer: FetchUpgrade): AcceptedUpgrade {
  offer.assertFree();
  const upgrade = checkUpgrade(offer.exchange.head);
  if (!upgrade.ok) throw refusalError(upgrade);
  return upgrade;
}

function refusalError({ status, headers: fields, message }: RefusedUpgrade): HttpError {
  const code = status === 426 ? "UPGRADE_REQUIRED" : "BAD_REQUEST";
  return new HttpError(status, code, message, { fields });
}
