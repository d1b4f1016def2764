/**
 * What a server shows to its clients: a certificate chain and its private key. What reads and checks
 * them is in `identity.ts`, which is loaded with the first.
 *
 * @module
 */
import type { KeyObject, X509Certificate } from "node:crypto";
import type { Certificate, KeyType } from "./certificate.ts";
import type { Material } from "./source.ts";
import { digestOf } from "./watch.ts";

/** What an {@linkcode Identity} is made of. */
export interface IdentityParts {
  /** The server's own certificate first. */
  readonly chain: readonly Certificate[];
  /** The private key of the first. */
  readonly key: KeyObject;
  /** The kind of key. */
  readonly keyType: KeyType;
  /** What it was read from. */
  readonly materials: readonly Material[];
}

/** Makes an identity of what was checked. */
export let makeIdentity: (parts: IdentityParts) => Identity;

/** Gives an identity's private key as unencrypted PKCS#8 PEM: for the TLS stack, and nothing else. */
export let keyPemOf: (identity: Identity) => string;

/** Gives a digest of the contents of an identity's files as they were read, to notice changes. */
export let filesDigestOf: (identity: Identity) => string;

/**
 * A checked certificate chain and its private key; made by `loadIdentity()`. The key is no
 * property, so that no log has it, however an identity or what holds it is printed or copied.
 */
export class Identity {
  /** The chain as PEM, the server's own certificate first. */
  readonly certPem: string;
  /** The server's own certificate. */
  readonly leaf: X509Certificate;
  /** The server's own certificate and those that link it to its root. */
  readonly chain: readonly X509Certificate[];
  /**
   * The DNS names it is for, in normal form (RFC 9525): those of the subject alternative name; the
   * common name only where there is no such extension.
   */
  readonly names: readonly string[];
  /** The IP addresses it is for, in normal form (RFC 5952); an IPv4 address is never in IPv6 form. */
  readonly addresses: readonly string[];
  /** The kind of key. */
  readonly keyType: KeyType;
  /** When the server's own certificate starts to be valid. */
  readonly validFrom: Date;
  /** When the server's own certificate expires. */
  readonly validTo: Date;
  /** SHA-256 of the server's own certificate, as `AB:CD:…`. */
  readonly fingerprint256: string;
  /** The absolute paths of the files it was read from. */
  readonly files: readonly string[];
  // Private in the language's sense: neither inspect() nor anything else shows such a field.
  readonly #keyPem: string;
  readonly #filesDigest: string;

  static {
    makeIdentity = (parts) => new Identity(parts); // only loadIdentity can, as it has checked them
    keyPemOf = (identity) => identity.#keyPem;
    filesDigestOf = (identity) => identity.#filesDigest;
  }

  private constructor({ chain, key, keyType, materials }: IdentityParts) {
    const leaf = chain[0]!;
    this.chain = chain.map(({ x509 }) => x509);
    this.leaf = leaf.x509;
    this.certPem = this.chain.map((certificate) => certificate.toString()).join("");
    this.#keyPem = key.export({ type: "pkcs8", format: "pem" }) as string;
    this.names = leaf.names;
    this.addresses = leaf.addresses;
    this.keyType = keyType;
    this.validFrom = leaf.x509.validFromDate;
    this.validTo = leaf.x509.validToDate;
    this.fingerprint256 = leaf.x509.fingerprint256;
    const contents = new Map<string, Uint8Array>();
    for (const { file, bytes } of materials) if (file !== undefined) contents.set(file, bytes);
    this.files = [...contents.keys()];
    this.#filesDigest = digestOf([...contents.values()]);
  }
}
