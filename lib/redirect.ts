/**
 * The server beside an HTTPS server: on plain HTTP it answers an authority's challenges, and sends
 * everything else to HTTPS.
 *
 * @module
 */
import * as v from "valibot";
import { checkOptions, given, members, number, withoutUndefined } from "./options.ts";
import { type HttpsServer, serve } from "./server.ts";
import type { CertificateSource } from "./tls/certificate_source.ts";

/** The options of {@linkcode redirectServer}. */
export interface RedirectServerOptions {
  /** The name or address to listen on. Default: every address of this machine. */
  readonly hostname?: string;
  /** The port; 0 lets the system choose. Default: 80. */
  readonly port?: number;
  /** The port that clients are sent to. Default: 443. */
  readonly httpsPort?: number;
  /** The source of certificates whose challenges are answered. Default: none. */
  readonly certificates?: CertificateSource;
  /** Stops the server when it is aborted. Default: none. */
  readonly signal?: AbortSignal;
}

const SCHEMA = members({
  hostname: v.optional(v.string("must be a name or address")),
  port: v.optional(number("a port", 0, 65535), 80),
  httpsPort: v.optional(number("a port", 1, 65535), 443),
  certificates: v.optional(given<CertificateSource>("a source of certificates")),
  signal: v.optional(given<AbortSignal>("an AbortSignal")),
});

/**
 * Starts a server for plain HTTP that answers the challenges of `certificates` and redirects every
 * other request to the same host and path on HTTPS, with 308, which keeps method and body.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option
 * @throws {ListenError} when the address cannot be opened
 */
export async function redirectServer(options: RedirectServerOptions = {}): Promise<HttpsServer> {
  const { httpsPort, ...rest } = checkOptions(
    "redirectServer()",
    SCHEMA,
    withoutUndefined(options),
  );
  const given = withoutUndefined(rest) as Omit<RedirectServerOptions, "httpsPort">;
  return await serve({ ...given, transportMode: "insecure" }, (request) => {
    const location = httpsAddress(request, httpsPort);
    return new Response(null, { status: 308, headers: { Location: location } });
  });
}

/** The address of a request on HTTPS. */
function httpsAddress({ url }: Request, port: number): string {
  const address = new URL(url);
  address.protocol = "https:";
  address.port = port === 443 ? "" : String(port);
  return address.href;
}
