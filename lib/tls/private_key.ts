/**
 * Private keys in all their forms: PKCS#8 (RFC 5958), PKCS#1 (RFC 8017), SEC1 (RFC 5915),
 * in PEM or DER, encrypted or not, as the runtime's own key objects, or from a provider.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { createPrivateKey, KeyObject } from "node:crypto";
import { runtime } from "../runtime/current.ts";
import { ConfigError } from "../errors.ts";
import {
  givenMaterial,
  invalid,
  labelsOf,
  type Material,
  type PemBlock,
  pemBlocks,
  type PemOrDer,
  readSource,
  type Source,
} from "./source.ts";

/** A private key as a provider hands it over. A `CryptoKey` must be extractable. */
export type KeyMaterial = PemOrDer | CryptoKey | KeyObject;

/**
 * A key that lives elsewhere: in a secret manager, in a file with an encryption of its own, wrapped
 * by a hardware token. It is called each time the identity is loaded, and the TLS stack gets the key
 * itself: neither Deno nor Bun lets a signature be made outside.
 */
export interface KeyProvider {
  /** Fetches the key. What it throws or rejects with becomes the `cause` of a `ConfigError`. */
  load(): KeyMaterial | Promise<KeyMaterial>;
}

/** Where a private key comes from. */
export type KeySource = Source | CryptoKey | KeyObject | KeyProvider | KeyProvider["load"];

/** A private key and where it comes from. */
export interface LoadedKey {
  /** The key. */
  readonly key: KeyObject;
  /** What messages call the place it comes from. */
  readonly name: string;
  /** The text, bytes or file it was read from; `undefined` when it was a key object. */
  readonly material: Material | undefined;
}

/**
 * Reads option `key`.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE` when there is no private key, or the passphrase does
 * not open it; `NOT_SUPPORTED` when it is a `CryptoKey` that may not be extracted
 */
export async function loadKey(
  source: KeySource,
  passphrase: string | undefined,
): Promise<LoadedKey> {
  if (isKeyObject(source)) return await fromObject(source, "Option key");
  const load = providerOf(source);
  if (load !== undefined) return await askProvider(load, passphrase);
  return fromMaterial(await readSource(source as Source, "key"), passphrase);
}

/**
 * Parses a private key.
 *
 * @throws {ConfigError} `INVALID_CERTIFICATE`
 */
export function parseKey(material: Material, passphrase: string | undefined): KeyObject {
  const blocks = pemBlocks(material);
  if (blocks === undefined) return parseDer(material, passphrase);
  const block = findKey(blocks);
  if (block !== undefined) return parsePem(block, material.name, passphrase);
  throw invalid(
    `${material.name} has no private key, it has ${labelsOf(blocks)}: give the key's file`,
  );
}

/** The first private key among PEM blocks. */
export function findKey(blocks: readonly PemBlock[]): PemBlock | undefined {
  return blocks.find(({ label }) => label.endsWith("PRIVATE KEY"));
}

async function askProvider(
  load: KeyProvider["load"],
  passphrase: string | undefined,
): Promise<LoadedKey> {
  let answer: KeyMaterial;
  try {
    answer = await load();
  } catch (cause) {
    throw invalid(`The key provider failed: ${reason(cause)}`, { cause });
  }
  const name = "The key provider's answer";
  if (isKeyObject(answer)) return await fromObject(answer, name);
  return fromMaterial(givenMaterial(answer, name), passphrase);
}

function fromMaterial(material: Material, passphrase: string | undefined): LoadedKey {
  return { key: parseKey(material, passphrase), name: material.name, material };
}

function providerOf(source: KeySource): KeyProvider["load"] | undefined {
  if (typeof source === "function") return source;
  const isProvider = typeof source === "object" && source !== null && "load" in source;
  return isProvider ? () => source.load() : undefined;
}

function isKeyObject(value: unknown): value is KeyObject | CryptoKey {
  return value instanceof KeyObject || value instanceof CryptoKey;
}

async function fromObject(key: KeyObject | CryptoKey, name: string): Promise<LoadedKey> {
  if (key.type !== "private") {
    throw invalid(`${name} is a ${key.type} key: give the private one`);
  }
  if (key instanceof KeyObject) return { key, name, material: undefined };
  if (!key.extractable) {
    throw new ConfigError(
      "NOT_SUPPORTED",
      `${name} is a CryptoKey that may not be extracted, and ${runtime.name}'s TLS needs the key ` +
        "itself: make or import it with extractable: true",
    );
  }
  const pkcs8 = await crypto.subtle.exportKey("pkcs8", key);
  const exported = createPrivateKey({ key: Buffer.from(pkcs8), format: "der", type: "pkcs8" });
  return { key: exported, name, material: undefined };
}

function parsePem(block: PemBlock, name: string, passphrase: string | undefined): KeyObject {
  const encrypted = block.label.startsWith("ENCRYPTED ") || block.text.includes(",ENCRYPTED");
  if (encrypted && passphrase === undefined) throw locked(name);
  try {
    return createPrivateKey({
      key: block.text,
      format: "pem",
      ...(encrypted && { passphrase: passphrase! }),
    });
  } catch (cause) {
    throw encrypted ? unopened(name, cause) : unreadable(name, cause);
  }
}

/** DER does not say what it is, so every form is tried. */
function parseDer({ name, bytes }: Material, passphrase: string | undefined): KeyObject {
  const key = Buffer.from(bytes);
  const causes: unknown[] = [];
  for (const type of ["pkcs8", "sec1", "pkcs1"] as const) {
    try {
      const secret = type === "pkcs8" && passphrase !== undefined ? { passphrase } : {};
      return createPrivateKey({ key, format: "der", type, ...secret });
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code === "ERR_MISSING_PASSPHRASE") throw locked(name);
      causes.push(cause);
    }
  }
  const cause = new AggregateError(causes, "Not PKCS#8, not SEC1, not PKCS#1");
  throw passphrase === undefined ? unreadable(name, cause) : unopened(name, cause);
}

function locked(name: string): ConfigError {
  return invalid(`${name} is an encrypted private key: give its passphrase in option passphrase`);
}

/** Deno reports "bad decrypt" for encryptions that it does not know too. */
function unopened(name: string, cause: unknown): ConfigError {
  return invalid(
    `${name} does not open as a private key: correct option passphrase; if it is right, ` +
      `${runtime.name} cannot read this encryption, so renew it with ` +
      '"openssl pkcs8 -topk8 -v2 aes-256-cbc"',
    { cause },
  );
}

function unreadable(name: string, cause: unknown): ConfigError {
  return invalid(
    `${name} is not a private key that ${runtime.name} can read: give PKCS#8, PKCS#1 or SEC1 in PEM ` +
      "or DER",
    { cause },
  );
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
