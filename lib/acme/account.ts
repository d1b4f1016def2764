/**
 * The account at a CA (RFC 8555 section 7.3): found by its key or made, changed, given up.
 *
 * @module
 */
import { AcmeError, ConfigError } from "../errors.ts";
import type { Deadline } from "./deadline.ts";
import { objectOf, urlIn } from "./directory.ts";
import { bindAccount, readSigningKey, sign, type Signer, signerOf } from "./jws.ts";
import { cleaned, isProblem } from "./problem.ts";
import type { Post, Requests } from "./requests.ts";
import type { Answer } from "./transport.ts";
import type { AcmeAccount, AcmeClientOptions } from "./types.ts";

/** What an account is made of. */
export type AccountOptions = Pick<
  AcmeClientOptions,
  "accountKey" | "agreeToTerms" | "email" | "externalAccount"
>;

/** The account of one key at one CA. */
export class Account {
  readonly #requests: Requests;
  readonly #options: AccountOptions;
  #signer: Promise<Signer> | undefined;
  #found: AcmeAccount | undefined;

  /** The options are checked already. */
  constructor(requests: Requests, options: AccountOptions) {
    this.#requests = requests;
    this.#options = options;
  }

  /** The account's key. */
  signer(): Promise<Signer> {
    return this.#signer ??= signerOf(readSigningKey(this.#options.accountKey, "accountKey"));
  }

  /** The account; the CA is asked once. */
  async find(deadline: Deadline): Promise<AcmeAccount> {
    return this.#found ??= await this.#findOrMake(deadline);
  }

  /** Posts in the account's name; once more when the CA has lost the account and makes it again. */
  async post(post: Post, deadline: Deadline): Promise<Answer> {
    const { url } = await this.find(deadline);
    const signer = await this.signer();
    try {
      return await this.#requests.post(post, signer, { kid: url }, deadline);
    } catch (error) {
      if (!(error instanceof AcmeError) || !isProblem(error.problem, "accountDoesNotExist")) {
        throw error;
      }
      if (this.#found?.url === url) this.#found = undefined;
      const again = await this.find(deadline);
      return await this.#requests.post(post, signer, { kid: again.url }, deadline);
    }
  }

  async #findOrMake(deadline: Deadline): Promise<AcmeAccount> {
    const { agreeToTerms, email, externalAccount } = this.#options;
    const { newAccount, termsOfService } = await this.#requests.directory(deadline);
    if (termsOfService !== undefined && !agreeToTerms) {
      throw new ConfigError(
        "INVALID_CONFIG",
        `Option agreeToTerms is not true: read the CA's terms at ${termsOfService} and agree to them`,
      );
    }
    const signer = await this.signer();
    const payload = {
      ...(termsOfService === undefined ? {} : { termsOfServiceAgreed: true }),
      ...(email === undefined ? {} : { contact: contactOf(email) }),
      ...(externalAccount === undefined
        ? {}
        : { externalAccountBinding: await bindAccount(externalAccount, signer, newAccount) }),
    };
    const post = { url: newAccount, payload };
    const answer = await this.#requests.post(post, signer, { jwk: signer.jwk }, deadline);
    const location = answer.field("location");
    const { href } = urlIn(answer, location, "the account");
    // The CA compares it with what it wrote, so it is kept as it was written.
    const url = location !== undefined && URL.canParse(location) ? location : href;
    return usable({ url, status: statusOf(answer) });
  }

  /** Gives the account other addresses. */
  async update(email: string | readonly string[], deadline: Deadline): Promise<AcmeAccount> {
    const { url } = await this.find(deadline);
    const answer = await this.#change({ contact: contactOf(email) }, deadline);
    return this.#found = usable({ url, status: statusOf(answer) });
  }

  /** Gives the account up. */
  async deactivate(deadline: Deadline): Promise<void> {
    await this.#change({ status: "deactivated" }, deadline);
    this.#found = undefined;
  }

  async #change(payload: object, deadline: Deadline): Promise<Answer> {
    const { url } = await this.find(deadline);
    return await this.post({ url: new URL(url), payload }, deadline);
  }

  /** Gives the account another key (section 7.3.5). */
  async rollKey(pem: string, deadline: Deadline): Promise<void> {
    const next = await signerOf(readSigningKey(pem, "accountKey"));
    const keyChange = await this.#requests.resource("keyChange", deadline);
    const { url } = await this.find(deadline);
    const { jwk } = await this.signer();
    const inner = JSON.stringify({ account: url, oldKey: jwk });
    const signed = await sign(inner, next, { jwk: next.jwk }, keyChange, undefined);
    await this.post({ url: keyChange, payload: JSON.parse(signed) }, deadline);
    this.#signer = Promise.resolve(next);
  }
}

function contactOf(email: string | readonly string[]): string[] {
  return [email].flat().map((address) => `mailto:${address}`);
}

function statusOf(answer: Answer): string {
  return cleaned(objectOf(answer)["status"], 100) ?? "";
}

function usable(account: AcmeAccount): AcmeAccount {
  if (account.status === "valid") return account;
  throw new AcmeError(
    "ACME_REFUSED",
    `The account ${account.url} cannot be used: its status is "${account.status}"`,
  );
}
