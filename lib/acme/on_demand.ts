/**
 * Whether a certificate may be got for a name that a client asks for: clients choose the names, so the
 * program is asked, and only so often.
 *
 * @module
 */
import { within } from "../contain/within.ts";
import { HttpsdError } from "../errors.ts";
import { shown } from "../options.ts";
import type { Clock } from "./clock.ts";

/** Certificates for names that are not known before a client asks. */
export interface OnDemandOptions {
  /**
   * Asked before a certificate is ordered for a name, in lower case; not for one that is in the
   * storage. Only `true` lets it be ordered; anything else, a throw, or 5 s without an answer refuses
   * the client with the alert `unrecognized_name`.
   */
  readonly ask: (name: string) => boolean | Promise<boolean>;
  /** How many times `ask` is called in a minute at most; clients beyond are refused. Default: 10. */
  readonly maxPerMinute?: number;
}

const ASK_MS = 5_000;
const MINUTE_MS = 60_000;

/** Asks the program about names. */
export class Admission {
  readonly #options: Required<OnDemandOptions>;
  readonly #clock: Clock;
  readonly #report: (error: HttpsdError) => void;
  /** When the questions of the last minute were asked. */
  #asked: number[] = [];

  /** `report` is called with what is wrong with an answer. */
  constructor(
    options: Required<OnDemandOptions>,
    clock: Clock,
    report: (error: HttpsdError) => void,
  ) {
    this.#options = options;
    this.#clock = clock;
    this.#report = report;
  }

  /** Whether a certificate may be ordered for a name. Never rejects. */
  async admits(name: string): Promise<boolean> {
    const now = this.#clock.now();
    this.#asked = this.#asked.filter((time) => time > now - MINUTE_MS && time <= now);
    if (this.#asked.length >= this.#options.maxPerMinute) return false;
    this.#asked.push(now);
    try {
      const answer: unknown = await within(ASK_MS, () => this.#options.ask(name));
      if (typeof answer === "boolean") return answer;
      throw new HttpsdError(
        "HOOK_FAILED",
        `Hook ask returned ${shown(answer)}, which lets no name in: return true or false`,
      );
    } catch (cause) {
      this.#report(
        cause instanceof HttpsdError
          ? cause
          : new HttpsdError("HOOK_FAILED", "Hook ask threw", { cause }),
      );
      return false;
    }
  }
}
