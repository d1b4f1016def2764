/**
 * A client of certificate authorities (RFC 8555): accounts, orders, renewal information, revocation.
 *
 * @example
 * ```ts
 * import { acmeClient, LETS_ENCRYPT_STAGING, newAccountKey } from "@httpsd/httpsd/acme";
 *
 * const client = acmeClient({
 *   directory: LETS_ENCRYPT_STAGING,
 *   accountKey: await newAccountKey(), // keep it: it is the account
 *   agreeToTerms: true,
 * });
 * ```
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { contain } from "../contain/callbacks.ts";
import { AcmeError } from "../errors.ts";
import { checkOptions, LONGEST_MS, withoutUndefined } from "../options.ts";
import { assertRuntime } from "../runtime/capabilities.ts";
import { Account } from "./account.ts";
import { readAuthorities } from "./authorities.ts";
import { type Deadline, within } from "./deadline.ts";
import { readSigningKey, signerOf } from "./jws.ts";
import { CALL, CLIENT, ORDER, REVOKE, UPDATE } from "./options.ts";
import { orderCertificate } from "./order.ts";
import { certificateId, derOfFirst, renewalInfoOf, renewalUrl } from "./renewal_info.ts";
import { Requests } from "./requests.ts";
import type {
  AcmeAccount,
  AcmeClient,
  AcmeClientOptions,
  AcmeDirectory,
  CallOptions,
  OrderOptions,
  RenewalInfo,
  RevocationReason,
  RevokeOptions,
} from "./types.ts";

/** The numbers of the reasons (RFC 5280 section 5.3.1). */
const REASONS: Readonly<Record<RevocationReason, number>> = {
  unspecified: 0,
  keyCompromise: 1,
  affiliationChanged: 3,
  superseded: 4,
  cessationOfOperation: 5,
};

/** How many requests a call other than `order()` may take the time of. */
const CALL_REQUESTS = 4;

/**
 * Makes a client of one CA with one account. Nothing is sent before it is asked for something.
 *
 * @throws {ConfigError} `INVALID_CONFIG` naming the option, `INVALID_CERTIFICATE` for an account key
 * that cannot be read
 */
export function acmeClient(options: AcmeClientOptions): AcmeClient {
  assertRuntime();
  const checked = checkOptions("acmeClient()", CLIENT, withoutUndefined(options));
  const { ca, requestMs, orderMs } = checked;
  readSigningKey(checked.accountKey, "accountKey");
  let authorities: string | undefined;
  const line = async () => {
    if (ca !== undefined) authorities ??= await readAuthorities(ca);
    return { requestMs, ca: authorities };
  };
  const requests = new Requests(new URL(checked.directory), line);
  const account = new Account(requests, checked as AcmeClientOptions);
  const call = async <T>(
    name: string,
    signal: AbortSignal | undefined,
    work: (deadline: Deadline) => Promise<T>,
  ): Promise<T> =>
    await within(Math.min(CALL_REQUESTS * requestMs, LONGEST_MS), name, signal, work);
  const signalOf = (name: string, given: CallOptions = {}) =>
    checkOptions(name, CALL, withoutUndefined(given)).signal;

  return {
    async directory(given) {
      const signal = signalOf("directory()", given);
      return await call("directory()", signal, async (deadline): Promise<AcmeDirectory> => {
        const found = await requests.directory(deadline);
        const { termsOfService, website, externalAccountRequired, profiles, renewalInfo } = found;
        return {
          ...(termsOfService === undefined ? {} : { termsOfService }),
          ...(website === undefined ? {} : { website }),
          externalAccountRequired,
          profiles: { ...profiles },
          renewalInfo,
        };
      });
    },
    async account(given) {
      const signal = signalOf("account()", given);
      return await call("account()", signal, (deadline) => account.find(deadline));
    },
    async updateAccount(given): Promise<AcmeAccount> {
      const name = "updateAccount()";
      const { email, signal } = checkOptions(name, UPDATE, withoutUndefined(given));
      return await call(name, signal, (deadline) => account.update(email, deadline));
    },
    async rollKey(accountKey, given) {
      const signal = signalOf("rollKey()", given);
      await call("rollKey()", signal, (deadline) => account.rollKey(accountKey, deadline));
    },
    async deactivate(given) {
      const signal = signalOf("deactivate()", given);
      await call("deactivate()", signal, (deadline) => account.deactivate(deadline));
    },
    async order(given) {
      const { onFailure, signal, ...order } = checkOptions(
        "order()",
        ORDER,
        withoutUndefined(given),
      );
      const report = (error: AcmeError): void => {
        if (onFailure === undefined) return console.error(error);
        contain(() => onFailure(error), (cause) => console.error(cause));
      };
      const context = { requests, account, report, expires: Date.now() + orderMs };
      const what = `The order of ${order.names.join(", ").slice(0, 200)}`;
      return await within(
        orderMs,
        what,
        signal,
        (deadline) => orderCertificate(order as OrderOptions, context, deadline),
        (cause) => report(listenerFailed(cause)),
      );
    },
    async revoke(given) {
      const checked = checkOptions("revoke()", REVOKE, withoutUndefined(given));
      await call(
        "revoke()",
        checked.signal,
        (deadline) => revoke(checked as RevokeOptions, deadline),
      );
    },
    async renewalInfo(certificate, given): Promise<RenewalInfo | undefined> {
      const signal = signalOf("renewalInfo()", given);
      const id = certificateId(certificate);
      return await call("renewalInfo()", signal, async (deadline) => {
        const { renewal } = await requests.directory(deadline);
        if (renewal === undefined || id === undefined) return undefined;
        return renewalInfoOf(await requests.get(renewalUrl(renewal, id), deadline), Date.now());
      });
    },
  };

  async function revoke(asked: RevokeOptions, deadline: Deadline): Promise<void> {
    const { certificate, reason, privateKey } = asked;
    const der = derOfFirst(certificate, "certificate");
    const payload = {
      certificate: Buffer.from(der).toString("base64url"),
      ...(reason === undefined ? {} : { reason: REASONS[reason] }),
    };
    const url = await requests.resource("revokeCert", deadline);
    if (privateKey === undefined) {
      await account.post({ url, payload }, deadline);
      return;
    }
    const signer = await signerOf(readSigningKey(privateKey, "privateKey"));
    await requests.post({ url, payload }, signer, { jwk: signer.jwk }, deadline);
  }
}

function listenerFailed(cause: unknown): AcmeError {
  return new AcmeError("ACME_SOLVER_FAILED", "A listener of an order's signal failed", { cause });
}
