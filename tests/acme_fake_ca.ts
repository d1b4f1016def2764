/**
 * A CA that does as a case says, and else what RFC 8555 says: hostile answers are data in
 * tests/cases/acme.json.
 *
 * @module
 */
import { once } from "node:events";
import { readFileSync } from "node:fs";
import type net from "node:net";
import type { AddressInfo } from "node:net";
import tls from "node:tls";
import { createCertificateAuthority, type IssueOptions } from "../lib/tls/dev_certificates.ts";
import { expand, type Text } from "./cases_loader.ts";
import { certificates } from "./support.ts";

/** What a client asks a CA for. */
export type Resource =
  | "directory"
  | "newNonce"
  | "newAccount"
  | "newOrder"
  | "authorization"
  | "challenge"
  | "order"
  | "finalize"
  | "certificate"
  | "alternate"
  | "renewalInfo";

/** A hostile answer, and what comes of it. */
export interface HostileCase {
  /** What is special about it. */
  readonly name: string;
  /** For which resource it is given. */
  readonly at: Resource;
  /**
   * All bytes of the answer; without it, it is made of the members below. `{base}` is the CA's origin,
   * `{host}` that without its scheme.
   */
  readonly raw?: Text;
  /** The status. Default: 200. */
  readonly status?: number;
  /** Fields. Default: a media type of JSON. */
  readonly fields?: Record<string, Text>;
  /** Members of the JSON that differ from those of a right answer; `null` leaves one out. */
  readonly changes?: Record<string, unknown>;
  /** The body, instead of JSON. */
  readonly body?: Text;
  /** What comes behind the answer, without end. */
  readonly forever?: Text;
  /** How the end of the answer is: it is closed, or nothing more comes. Default: `"closed"`. */
  readonly end?: "closed" | "silent";
  /** How often it is given, before the answers are right. Default: always. */
  readonly times?: number;
  /** The call that is made. Default: `"order"`. */
  readonly call?: "order" | "renewalInfo" | "revoke";
  /** The names that are ordered. Default: {@linkcode NAME}. */
  readonly names?: readonly string[];
  /** What the certificate is made with. */
  readonly issue?: {
    readonly names?: string[];
    readonly expired?: boolean;
    readonly other?: boolean;
  };
  /** The error; without it the call does not fail. */
  readonly error?: {
    readonly code: string;
    readonly message?: string;
    readonly retryAfterMs?: number;
    readonly problem?: unknown;
  };
  /** Members of what the call gives. */
  readonly gives?: Record<string, unknown>;
  /** The most requests that the client may make. Default: 40. */
  readonly requests?: number;
}

/** The cases of tests/cases/acme.json. */
export function hostileCases(): HostileCase[] {
  const text = readFileSync(new URL("./cases/acme.json", import.meta.url), "utf8");
  return (JSON.parse(text) as { cases: HostileCase[] }).cases;
}

/** A CA in this process. */
export interface FakeCa extends AsyncDisposable {
  /** The URL of its directory. */
  readonly directory: string;
  /** PEM of the authority that its own certificate is verified by. */
  readonly ca: string;
  /** How often each resource was asked for. */
  readonly asked: ReadonlyMap<Resource, number>;
  /** How many connections are open. */
  open(): number;
}

/** The name that is ordered of it. */
export const NAME = "shop.example";

/** Starts a CA that certifies `key`, PEM, and has one hostile answer. */
export async function startFakeCa(hostile: HostileCase, key: string): Promise<FakeCa> {
  const { ca, cert, key: ownKey } = await certificates();
  const asked = new Map<Resource, number>();
  const sockets = new Set<net.Socket>();
  let isProven = false;
  let isFinal = false;
  let base = "";

  const chain = async (): Promise<string> => {
    const { names = [NAME], expired = false, other = false } = hostile.issue ?? {};
    const past = { notBefore: new Date("2020-01-01"), notAfter: new Date("2020-02-01") };
    const options: IssueOptions = {
      names,
      ...(other ? {} : { key }),
      ...(expired ? past : {}),
    };
    return (await (await createCertificateAuthority()).issue(options)).cert;
  };

  const right = async (resource: Resource): Promise<Right> => {
    switch (resource) {
      case "directory":
        return { json: directoryAt(base), nonce: "" };
      case "newNonce":
        return { body: "" };
      case "newAccount":
        return { status: 201, location: "account", json: { status: "valid" } };
      case "newOrder":
      case "order": {
        const status = isFinal ? "valid" : isProven ? "ready" : "pending";
        const urls = { finalize: `${base}/finalize`, certificate: `${base}/certificate` };
        const json = { status, authorizations: [`${base}/authorization`], ...urls };
        return { status: resource === "newOrder" ? 201 : 200, location: "order", json };
      }
      case "authorization": {
        const challenge = { type: "http-01", status: "pending", url: `${base}/challenge` };
        const challenges = [{ ...challenge, token: "A".repeat(43) }];
        const identifier = { type: "dns", value: NAME };
        return { json: { status: isProven ? "valid" : "pending", identifier, challenges } };
      }
      case "challenge":
        isProven = true;
        return { json: { status: "processing" } };
      case "finalize":
        isFinal = true;
        return { json: { status: "processing" } };
      case "certificate":
      case "alternate":
        return { body: await chain(), mediaType: "application/pem-certificate-chain" };
      case "renewalInfo": {
        const suggestedWindow = { start: "2030-01-01T00:00:00Z", end: "2030-01-02T00:00:00Z" };
        return { json: { suggestedWindow } };
      }
    }
  };

  const server = tls.createServer({ cert, key: ownKey }, (socket) => {
    sockets.add(socket);
    socket.on("error", () => {});
    socket.on("close", () => sockets.delete(socket));
    void requestOf(socket).then(async (resource) => {
      const count = (asked.get(resource) ?? 0) + 1;
      asked.set(resource, count);
      const answer = await right(resource);
      if (hostile.at !== resource || count > (hostile.times ?? Infinity)) {
        socket.end(textOf({}, answer, base), "latin1");
        return;
      }
      const text = textOf(hostile, answer, base);
      if (text !== "") socket.write(text, "latin1"); // Deno never ends what was written nothing
      if (hostile.forever !== undefined) flood(socket, expand(hostile.forever));
      else if (hostile.end !== "silent") socket.end();
    });
  });
  server.on("tlsClientError", () => {});
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  base = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return {
    directory: `${base}/directory`,
    ca,
    asked,
    open: () => sockets.size,
    async [Symbol.asyncDispose]() {
      for (const socket of sockets) socket.destroy();
      await once(server.close(), "close");
    },
  };
}

interface Right {
  readonly status?: number;
  readonly location?: string;
  readonly json?: Record<string, unknown>;
  readonly body?: string;
  readonly mediaType?: string;
  readonly nonce?: string;
}

function directoryAt(base: string): Record<string, unknown> {
  return {
    newNonce: `${base}/newNonce`,
    newAccount: `${base}/newAccount`,
    newOrder: `${base}/newOrder`,
    revokeCert: `${base}/revokeCert`,
    keyChange: `${base}/keyChange`,
    renewalInfo: `${base}/renewalInfo`,
  };
}

/** What an answer is on the wire; `base` is put in for `{base}`. */
function textOf(hostile: Partial<HostileCase>, right: Right, base: string): string {
  const put = (text: Text) =>
    expand(text).replaceAll("{base}", base)
      .replaceAll("{host}", new URL(base).host);
  if (hostile.raw !== undefined) return put(hostile.raw);
  const json = hostile.changes === undefined ? right.json : changed(right.json, hostile.changes);
  const body = put(hostile.body ?? right.body ?? JSON.stringify(json));
  const status = hostile.status ?? right.status ?? 200;
  const fields: Record<string, string> = {
    "content-type": right.mediaType ?? "application/json",
    "replay-nonce": right.nonce ?? "bm9uY2U",
    ...(right.location === undefined ? {} : { location: `${base}/${right.location}` }),
    ...Object.fromEntries(
      Object.entries(hostile.fields ?? {}).map(([name, value]) => [name, put(value)]),
    ),
    ...(hostile.forever === undefined ? { "content-length": String(body.length) } : {}),
    connection: "close",
  };
  const lines = Object.entries(fields).filter(([, value]) => value !== "")
    .map(([name, value]) => `${name}: ${value}\r\n`);
  return `HTTP/1.1 ${status} Status\r\n${lines.join("")}\r\n${body}`;
}

function changed(
  json: Record<string, unknown> | undefined,
  changes: Record<string, unknown>,
): Record<string, unknown> {
  const all = Object.entries({ ...json, ...changes });
  return Object.fromEntries(all.filter(([, value]) => value !== null));
}

/** Reads a request to its end; resolves with the last part of its path. */
async function requestOf(socket: net.Socket): Promise<Resource> {
  let text = "";
  for (;;) {
    const head = text.indexOf("\r\n\r\n");
    if (head !== -1) {
      const length = Number(/content-length: *(\d+)/i.exec(text)?.[1] ?? 0);
      if (text.length >= head + 4 + length) break;
    }
    const [chunk] = await once(socket, "data");
    text += chunk.toString("latin1");
  }
  const [, resource] = /^\w+ \/(\w+)/.exec(text)!;
  return resource as Resource;
}

/** Writes without end, as fast as the other side reads. */
function flood(socket: net.Socket, text: string): void {
  const more = () => {
    while (!socket.destroyed && socket.write(text, "latin1"));
  };
  socket.on("drain", more);
  more();
}
