/**
 * Decides which clients can verify the signatures of which keys.
 *
 * @module
 */
import type { KeyType } from "./certificate.ts";
import type { ClientHello } from "./client_hello.ts";

/**
 * Whether a client can verify the signatures of a kind of key: by its `signature_algorithms` (RFC
 * 8446 section 4.2.3), and if TLS 1.2 is its best, also by its cipher suites and its curves (RFC
 * 8422 sections 2 and 5.1).
 */
export function canVerify(hello: ClientHello, keyType: KeyType): boolean {
  const { schemes, tls12Schemes, tls12Suites, curve } = SIGNING[keyType];
  if (hello.versions.includes(TLS_1_3)) return overlap(schemes, hello.signatureAlgorithms);
  return overlap([...schemes, ...tls12Schemes], hello.signatureAlgorithms) &&
    overlap(tls12Suites, hello.cipherSuites) &&
    (curve === undefined || hello.groups.length === 0 || hello.groups.includes(curve));
}

const TLS_1_3 = 0x0304;

/** What a client must have to verify a key's signatures; numbers from IANA's "TLS Parameters". */
interface Signing {
  /** Signature schemes of TLS 1.3 and 1.2. */
  readonly schemes: readonly number[];
  /** Signature schemes of TLS 1.2 only. */
  readonly tls12Schemes: readonly number[];
  /** Cipher suites of TLS 1.2. */
  readonly tls12Suites: readonly number[];
  /** The key's curve, which a TLS 1.2 client must name among its groups, if it names any. */
  readonly curve?: number;
}

// GCM, ChaCha20-Poly1305 and CBC, all with forward secrecy.
const ECDHE_RSA = [0xc02f, 0xc030, 0xcca8, 0xc027, 0xc028, 0xc013, 0xc014];
const ECDHE_ECDSA = [0xc02b, 0xc02c, 0xcca9, 0xc023, 0xc024, 0xc009, 0xc00a];

/**
 * In TLS 1.2 a scheme such as ecdsa_secp256r1_sha256 names only the hash; the curve is required too,
 * because Deno's TLS signs with the curve's own hash only.
 */
const SIGNING: Readonly<Record<KeyType, Signing>> = {
  "rsa": { // rsa_pss_rsae_*; rsa_pkcs1_*
    schemes: [0x0804, 0x0805, 0x0806],
    tls12Schemes: [0x0401, 0x0501, 0x0601],
    tls12Suites: ECDHE_RSA,
  },
  "ec-p256": { schemes: [0x0403], tls12Schemes: [], tls12Suites: ECDHE_ECDSA, curve: 23 },
  "ec-p384": { schemes: [0x0503], tls12Schemes: [], tls12Suites: ECDHE_ECDSA, curve: 24 },
  "ec-p521": { schemes: [0x0603], tls12Schemes: [], tls12Suites: ECDHE_ECDSA, curve: 25 },
  "ed25519": { schemes: [0x0807], tls12Schemes: [], tls12Suites: ECDHE_ECDSA },
};

function overlap(ours: readonly number[], theirs: readonly number[]): boolean {
  return ours.some((value) => theirs.includes(value));
}
