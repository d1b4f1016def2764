/**
 * The gate's first step: the client's address. A trusted peer sends it in a PROXY header; any other
 * peer is the client itself.
 *
 * @module
 */
import { type Endpoints, normalizeAddress } from "../../endpoints.ts";
import { ConnectionError } from "../../errors.ts";
import type { ProxyHeader, ProxyHeaderReader } from "../proxy_protocol.ts";
import { TurnedAway } from "./farewell.ts";

/** The peers that may speak for others with the PROXY protocol. */
export interface ProxyPolicy {
  /** The peers that are proxies. */
  readonly trusted: { has(address: string): boolean };
  /** Whether every connection must come through one, with a header. */
  readonly required: boolean;
}

/** A client whose addresses are known. */
export interface Identified {
  /** The addresses. */
  readonly endpoints: Endpoints;
  /** The header that they are from; `undefined` where none came. */
  readonly proxy: ProxyHeader | undefined;
  /** The bytes that were read behind the header. */
  readonly rest: Uint8Array;
}

const NOTHING = new Uint8Array(0);

let protocol: typeof import("../proxy_protocol.ts") | undefined;

/** Loads what reads PROXY headers; to be awaited before the first peer comes, where there may be some. */
export async function loadProxyHeaderReader(): Promise<void> {
  protocol = await import("../proxy_protocol.ts");
}

/** Decides whether a PROXY header is read from a peer: only from those that are trusted. */
export function beginProxyHeader(
  policy: ProxyPolicy | undefined,
  peer: Endpoints,
): ProxyHeaderStep | Identified | TurnedAway {
  if (policy?.trusted.has(peer.remoteAddress)) return new ProxyHeaderStep(peer, policy.required);
  if (!policy?.required) return { endpoints: peer, proxy: undefined, rest: NOTHING };
  return new TurnedAway(new ConnectionError("PROXY_HEADER", "The peer is not a trusted proxy"));
}

/** Reads the PROXY header of a trusted peer. */
export class ProxyHeaderStep {
  readonly #reader: ProxyHeaderReader = new protocol!.ProxyHeaderReader();
  readonly #peer: Endpoints;
  readonly #required: boolean;

  /** Begins with nothing read; without `required` a peer may also come without a header. */
  constructor(peer: Endpoints, required: boolean) {
    this.#peer = peer;
    this.#required = required;
  }

  /** Takes the next bytes; returns `undefined` until there is something to decide. */
  push(bytes: Uint8Array): Identified | TurnedAway | undefined {
    const result = this.#reader.push(bytes);
    switch (result.state) {
      case "need":
        return undefined;
      case "error":
        return new TurnedAway(result.error);
      case "absent":
        return this.#required
          ? new TurnedAway(
            new ConnectionError("PROXY_HEADER", "The proxy sent no PROXY header: configure it to"),
          )
          : { endpoints: this.#peer, proxy: undefined, rest: result.rest };
      case "done":
        return {
          endpoints: endpointsIn(result.header) ?? this.#peer,
          proxy: result.header,
          rest: result.rest,
        };
    }
  }
}

function endpointsIn({ source, destination }: ProxyHeader): Endpoints | undefined {
  if (source?.port === undefined || destination?.port === undefined) return undefined;
  return {
    remoteAddress: normalizeAddress(source.address) ?? source.address,
    remotePort: source.port,
    localAddress: normalizeAddress(destination.address) ?? destination.address,
    localPort: destination.port,
  };
}
