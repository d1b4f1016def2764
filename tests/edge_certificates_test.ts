/** Certificates that a proxy has verified and forwards to an edge app. */
import assert from "node:assert/strict";
import { beforeAll, describe, test } from "bun:test";
import { Buffer } from "node:buffer";
import { X509Certificate } from "node:crypto";
import { createEdgeApp, type EdgeOptions } from "../lib/edge/mod.ts";
import type { Session } from "../lib/http/session.ts";
import { createCertificateAuthority } from "../lib/tls/dev_certificates.ts";
import { peerCertificate } from "../lib/tls/peer_certificate.ts";
import { ORIGIN } from "./edge_support.ts";
import { countCpu } from "./support.ts";
import { assertRuntime } from "./runtime.ts";

assertRuntime();

/** What an app knows of the TLS connection of a request. */
async function tlsOf(
  request: Request,
  options: EdgeOptions = {},
): Promise<Session["tls"] | undefined> {
  let tls: Session["tls"];
  const app = createEdgeApp(options, (_, { session }) => {
    tls = session.tls;
    return new Response();
  });
  assert.equal((await app.fetch(request)).status, 200);
  return tls;
}

describe("forwarded certificates", () => {
  let x509: X509Certificate;
  let clientCert: string;
  let xfcc: string;

  beforeAll(async () => {
    const ca = await createCertificateAuthority();
    const { cert } = await ca.issue({
      usage: "client",
      subject: "C=DE, O=Example, CN=pump 7",
      names: ["pump.example"],
    });
    const leaf = /-----BEGIN[^]*?-----END CERTIFICATE-----\n?/.exec(cert)![0];
    x509 = new X509Certificate(leaf);
    clientCert = `:${Buffer.from(x509.raw).toString("base64")}:`;
    xfcc = `By=spiffe://a;Hash=ab;Cert="${
      encodeURIComponent(leaf)
    }";Subject="CN=x,O=\\"y\\";z";URI=`;
  });

  const asking = (headers: Record<string, string>) => new Request(ORIGIN, { headers });

  for (const field of ["client-cert", "x-forwarded-client-cert"] as const) {
    const trusting: EdgeOptions = { trustForwardedCertificates: field };
    const good = () => field === "client-cert" ? clientCert : xfcc;

    test(`${field} gives what the certificate says`, async () => {
      const tls = await tlsOf(asking({ [field]: good() }), trusting);
      const certificate = tls?.peerCertificate;
      assert.equal(tls?.authorized, true);
      assert.equal(tls?.authorizationError, undefined);
      assert.equal(certificate?.subject, "C=DE, O=Example, CN=pump 7");
      assert.equal(certificate?.serialNumber, peerCertificate(x509.raw).serialNumber);
      assert.equal(certificate?.fingerprint256, x509.fingerprint256);
      assert.equal(certificate?.validTo.getTime(), new Date(x509.validTo).getTime());
      assert.equal(certificate?.validFrom.getTime(), new Date(x509.validFrom).getTime());
      assert.equal(certificate?.subjectAltName, x509.subjectAltName);
      assert.deepEqual(Buffer.from(certificate!.der), Buffer.from(x509.raw));
      assert.throws(() => certificate?.x509, { code: "NOT_SUPPORTED" });
    });

    test(`${field} is not believed unless it is named`, async () => {
      const other = field === "client-cert" ? "x-forwarded-client-cert" : "client-cert";
      assert.equal(await tlsOf(asking({ [field]: good() })), undefined);
      const wrong = { trustForwardedCertificates: other } as const;
      assert.equal(await tlsOf(asking({ [field]: good() }), wrong), undefined);
    });

    test(`${field} that is absent says nothing`, async () => {
      assert.equal(await tlsOf(asking({}), trusting), undefined);
    });

    for (
      const [what, spoil] of [
        ["is no certificate", () => field === "client-cert" ? ":AAAA:" : "Cert=AAAA"],
        ["comes twice", (value) => `${value}, ${value}`],
        ["goes on", (value) => `${value},x`],
        ["is cut", (value) => value.slice(0, 40)],
        ["has other characters", (value) => value.replace("MII", "M!I")],
        ["has half an escape", () => field === "client-cert" ? ":%:" : 'Cert="%E0%A4%A"'],
        ["has no end", () => field === "client-cert" ? ":AAAA" : 'Cert="AAAA\\"'],
      ] as [string, (value: string) => string][]
    ) {
      test(`${field} that ${what} is no certificate`, async () => {
        const tls = await tlsOf(asking({ [field]: spoil(good()) }), trusting);
        assert.equal(tls?.peerCertificate, undefined);
        assert.equal(tls?.authorized, false);
        assert.match(tls?.authorizationError ?? "", /malformed/);
      });
    }
  }

  test("X-Forwarded-Client-Cert with two certificates in one element is none", async () => {
    const trusting: EdgeOptions = { trustForwardedCertificates: "x-forwarded-client-cert" };
    const tls = await tlsOf(asking({ "x-forwarded-client-cert": `${xfcc};${xfcc}` }), trusting);
    assert.equal(tls?.authorized, false);
  });

  test("a long field that is not one is refused in time", async () => {
    const trusting: EdgeOptions = { trustForwardedCertificates: "x-forwarded-client-cert" };
    const cpuMs = countCpu();
    for (
      const value of ['A="' + "\\\\".repeat(100_000), "A=;".repeat(60_000), "A".repeat(200_000)]
    ) {
      const tls = await tlsOf(asking({ "x-forwarded-client-cert": value }), trusting);
      assert.equal(tls?.authorized, false);
    }
    assert.ok(cpuMs() < 2_000);
  });

  describe("Cloudflare's facts", () => {
    const CF = {
      tlsVersion: "TLSv1.3",
      tlsCipher: "AEAD-AES256-GCM-SHA384",
      httpProtocol: "HTTP/2",
    };
    const SHOWN = {
      certPresented: "1",
      certVerified: "SUCCESS",
      certRevoked: "0",
      certSubjectDN: "CN=pump 7",
      certIssuerDN: "CN=Fleet",
      certSerial: "0a",
      certFingerprintSHA256: "ab01",
      certNotBefore: "Jan  1 00:00:00 2026 GMT",
      certNotAfter: "Jan  1 00:00:00 2027 GMT",
    };
    const from = (cf: object, headers: Record<string, string> = {}) =>
      Object.assign(asking(headers), { cf });

    test("are known without a certificate", async () => {
      const tls = await tlsOf(from({ ...CF, tlsClientAuth: { certPresented: "0" } }));
      assert.equal(tls?.protocol, "TLSv1.3");
      assert.equal(tls?.cipher, "AEAD-AES256-GCM-SHA384");
      assert.equal(tls?.alpn, "h2");
      assert.equal(tls?.peerCertificate, undefined);
      assert.equal(tls?.authorized, false);
      assert.equal(await tlsOf(from({ tlsVersion: "" })), undefined); // plain HTTP
    });

    test("are known of a certificate whose bytes are not", async () => {
      const tls = await tlsOf(from({ ...CF, tlsClientAuth: SHOWN }));
      assert.equal(tls?.authorized, true);
      assert.equal(tls?.peerCertificate?.subject, "CN=pump 7");
      assert.equal(tls?.peerCertificate?.fingerprint256, "AB:01");
      assert.equal(tls?.peerCertificate?.validTo.toISOString(), "2027-01-01T00:00:00.000Z");
      assert.throws(() => tls?.peerCertificate?.der, { code: "NOT_SUPPORTED" });
    });

    test("are read of the certificate itself, where it is one", async () => {
      const tls = await tlsOf(
        from({ ...CF, tlsClientAuth: { ...SHOWN, certRFC9440: clientCert } }),
      );
      assert.equal(tls?.peerCertificate?.fingerprint256, x509.fingerprint256);
      const odd = await tlsOf(from({ ...CF, tlsClientAuth: { ...SHOWN, certRFC9440: ":AAAA:" } }));
      assert.equal(odd?.peerCertificate?.subject, "CN=pump 7");
    });

    for (
      const [what, facts, why] of [
        ["failed", { certVerified: "FAILED:self signed" }, "FAILED:self signed"],
        ["was revoked", { certRevoked: "1" }, "REVOKED"],
      ] as const
    ) {
      test(`do not authorize a certificate that ${what}`, async () => {
        const tls = await tlsOf(from({ ...CF, tlsClientAuth: { ...SHOWN, ...facts } }));
        assert.equal(tls?.authorized, false);
        assert.equal(tls?.authorizationError, why);
      });
    }

    test("give the address, which is the client's word elsewhere", async () => {
      const app = createEdgeApp({}, (_, { session }) => new Response(session.remoteAddress));
      const headers = { "cf-connecting-ip": "192.0.2.9" };
      assert.equal(await (await app.fetch(from(CF, headers))).text(), "192.0.2.9");
      assert.equal(await (await app.fetch(asking(headers))).text(), "");
    });
  });
});
