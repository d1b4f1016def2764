/**
 * What platforms know of the client besides the request.
 *
 * @module
 */
import { unmapped } from "../mapped_address.ts";
import type { Peer } from "../http/session.ts";

/** What Deno passes as second argument. */
interface DenoInfo {
  readonly remoteAddr?: { readonly hostname?: string; readonly port?: number };
}

/** What Bun passes as second argument: its server. */
interface BunServer {
  requestIP?(request: Request): { readonly address: string; readonly port: number } | null;
}

/** What Cloudflare adds to the request; a client cannot. */
interface CloudflareRequest extends Request {
  readonly cf?: object;
}

/** The address of the client, as far as the platform knows it. */
export function remoteOf(
  request: Request,
  platform: readonly unknown[],
): Pick<Peer, "remoteAddress" | "remotePort"> {
  const given = (platform[0] ?? {}) as DenoInfo & BunServer;
  const { hostname, port } = given.remoteAddr ?? {};
  if (hostname !== undefined) return { remoteAddress: unmapped(hostname), remotePort: port ?? 0 };
  if (typeof given.requestIP === "function") {
    const { address, port } = given.requestIP(request) ?? { address: "", port: 0 };
    return { remoteAddress: unmapped(address), remotePort: port };
  }
  return { remoteAddress: cloudflareAddress(request) ?? "", remotePort: 0 };
}

/** Cloudflare sets the field itself; from elsewhere the client controls it. */
function cloudflareAddress(request: CloudflareRequest): string | undefined {
  if (request.cf === undefined) return undefined;
  return request.headers.get("cf-connecting-ip") ?? undefined;
}
