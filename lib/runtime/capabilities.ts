/**
 * What the running runtime is, and what it can do of all that the options may ask.
 *
 * @module
 */
import { ConfigError } from "../errors.ts";
import { type Runtime, runtime, type RuntimeName } from "./current.ts";
import { internals, type InternalState } from "./internals.ts";

export type { RuntimeName } from "./current.ts";
export type { InternalState } from "./internals.ts";

/** The oldest versions that the test suite has passed on. */
const OLDEST: Record<RuntimeName, string> = { deno: "2.9.6", bun: "1.4.5", node: "24.0.0" };

/**
 * Throws when the runtime is older than the oldest one that works: older versions of Bun ignore
 * certificate selection in silence, which no server may do.
 *
 * @throws {ConfigError} `NOT_SUPPORTED`
 */
export function assertRuntime(current: Runtime = runtime): void {
  const oldest = OLDEST[current.name];
  if (compareVersions(current.version, oldest) >= 0) return;
  throw new ConfigError(
    "NOT_SUPPORTED",
    `${current.name} ${current.version} is too old: use ${current.name} ${oldest} or newer`,
  );
}

function compareVersions(a: string, b: string): number {
  const [left, right] = [a, b].map((version) => version.split(/[.+-]/).map(Number));
  for (let i = 0; i < 3; i++) {
    const difference = (left?.[i] ?? 0) - (right?.[i] ?? 0);
    if (difference !== 0) return difference;
  }
  return 0;
}

/**
 * What works on the running runtime. An option that asks for what is `false` here throws
 * `NOT_SUPPORTED`; nothing is ignored in silence.
 */
export interface Capabilities {
  /** The runtime that this is true of. */
  readonly runtime: RuntimeName;
  /** TLS versions that can be served. */
  readonly tlsVersions: readonly ["TLSv1.2", "TLSv1.3"];
  /** Certificates chosen by ClientHello: options `identities`, `certSelect`, `strictSni`. */
  readonly certSelect: boolean;
  /** Application protocols agreed on in the handshake: option `alpnProtocols`. */
  readonly alpn: boolean;
  /** Client certificates, required or optional: options `clientAuth`, `cacert`, `verifyClient`. */
  readonly clientCertificates: boolean;
  /** PROXY headers of versions 1 and 2: option `proxyProtocol`. */
  readonly proxyProtocol: boolean;
  /** A choice of cipher suites: option `ciphers`. */
  readonly ciphers: boolean;
  /** Sessions resumed with tickets. */
  readonly sessionTickets: boolean;
  /** Tickets turned off: `sessionTickets: false`. */
  readonly sessionTicketsOff: boolean;
  /** Ticket keys shared between machines: option `sessionTicketKeys`. */
  readonly sessionTicketKeys: boolean;
  /** OCSP answers stapled to the certificate: option `ocspStapling`. */
  readonly ocspStapling: boolean;
  /** Requests in TLS 1.3 early data (0-RTT): option `earlyData`. */
  readonly earlyData: boolean;
  /** A port that several processes share: option `reusePort`. Linux only. */
  readonly reusePort: boolean;
  /** UNIX sockets: option `path`. */
  readonly unixSockets: boolean;
  /** Sockets that another program has opened: option `fd`. */
  readonly inheritedSockets: boolean;
  /** HTTP/2: option `http2`. */
  readonly http2: boolean;
  /** Keys that never leave their hardware: `useSecureElement` and `useEcdsaPeripheral`. */
  readonly secureElement: boolean;
  /**
   * What is used of the runtime without being documented, by name, and whether its trial succeeded;
   * true of now, as some trials are made when they are needed. See docs/internals.md.
   */
  readonly internals: Readonly<Record<string, InternalState>>;
}

/** Looked for and not imported: there are platforms without it. */
const platform = (globalThis as { process?: { platform?: string } }).process?.platform;

/** What works on the running runtime; the tests hold it to each entry. */
export const capabilities: Capabilities = Object.freeze({
  runtime: runtime.name,
  tlsVersions: Object.freeze(["TLSv1.2", "TLSv1.3"] as const),
  certSelect: true,
  alpn: true,
  clientCertificates: true,
  proxyProtocol: true,
  ciphers: runtime.name !== "deno",
  sessionTickets: true,
  sessionTicketsOff: runtime.name !== "deno",
  sessionTicketKeys: false,
  ocspStapling: false,
  earlyData: false,
  reusePort: platform === "linux",
  unixSockets: platform !== "win32",
  inheritedSockets: platform !== "win32",
  http2: true,
  secureElement: false,
  get internals() {
    return internals();
  },
});
