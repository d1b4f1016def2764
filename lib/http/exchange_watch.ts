/**
 * Counts the exchanges of one server, and follows each for those who listen: one check where nothing
 * does.
 *
 * @module
 */
import { contain, watch } from "../contain/callbacks.ts";
import { within } from "../contain/within.ts";
import type { HttpsdError } from "../errors.ts";
import {
  type ExchangeEnd,
  type ExchangeFacts,
  type ExchangeObservation,
  type ExchangeObserver,
  ExchangeRecord,
  type ExchangeReport,
} from "./exchange_report.ts";
import { assertObserver } from "./observer.ts";

/** How long a server that stops waits for its observers, in ms. */
const SETTLE_MS = 500;

/** What an exchange watch reports to. */
export interface WatchReports {
  /** Takes the report of an exchange that has ended; not called before `hears` is set. */
  ended(exchange: ExchangeReport): void;
  /** Reports what an observer threw. */
  observerFailed(cause: unknown): void;
}

/** What exchanges need of what watches them. */
export type Watching = Pick<ExchangeWatch, "begins" | "tell" | "run" | "ends">;

/** Watches the exchanges of one server. */
export class ExchangeWatch {
  /** How many have begun. */
  begun = 0;
  /** How many have ended, by the class of their status: 1 for 1xx …; 0 for those without one. */
  readonly byClass: [number, number, number, number, number, number] = [0, 0, 0, 0, 0, 0];
  /** How many have not ended as a whole, by what ended them. */
  readonly cut: { client: number; server: number } = { client: 0, server: 0 };
  readonly #reports: WatchReports;
  #hears = false;
  #observers: readonly ExchangeObserver[] = [];
  /** Those of them who are told of each beginning, and those who are told of each end only. */
  #beginners: readonly ExchangeObserver[] = [];
  #enders: readonly ExchangeObserver[] = [];
  /** Whether anything listens: then each exchange has a record. */
  #isOn = false;
  /** What the clock of the exchanges has to be added for the time of day, and when that was found. */
  #timeOfDay = 0;
  #foundAt = -Infinity;

  /** Makes a watch that only counts. */
  constructor(reports: WatchReports) {
    this.#reports = reports;
  }

  /** How many have ended. */
  get ended(): number {
    const [none, informational, successful, redirected, refused, failed] = this.byClass;
    return none + informational + successful + redirected + refused + failed;
  }

  /** Reports each exchange that begins from now on. */
  hear(): void {
    this.#hears = this.#isOn = true;
  }

  /**
   * Adds an observer; the function that is returned removes it.
   *
   * @throws {ConfigError} `INVALID_CONFIG` for what is not an observer
   */
  observe(observer: ExchangeObserver): () => void {
    assertObserver(observer);
    this.#setObservers([...this.#observers, observer]);
    return () => this.#setObservers(this.#observers.filter((other) => other !== observer));
  }

  #setObservers(observers: readonly ExchangeObserver[]): void {
    this.#observers = observers;
    this.#beginners = observers.filter(({ begin }) => begin !== undefined);
    this.#enders = observers.filter(({ begin }) => begin === undefined);
    this.#isOn = this.#hears || observers.length > 0;
  }

  /** Counts an exchange that begins, and returns its record if there is to be one. */
  begins(facts: ExchangeFacts): ExchangeRecord | undefined {
    this.begun++;
    return this.#isOn ? this.#record(facts) : undefined;
  }

  #record(facts: ExchangeFacts): ExchangeRecord {
    const began = facts.clock.now();
    if (began - this.#foundAt >= SECOND_MS) {
      this.#timeOfDay = Date.now() - began;
      this.#foundAt = began;
    }
    return new ExchangeRecord(facts, began, this.#timeOfDay + began);
  }

  /** Tells those who observe that an exchange has begun; one of them may end its session. */
  tell(record: ExchangeRecord): void {
    for (const observer of this.#beginners) {
      try {
        const observation = observer.begin!(record) ?? undefined; // programs return null too
        if (observation === undefined) continue;
        watch(observation, (cause) => this.#reports.observerFailed(cause)); // async ones, too
        record.follow(observation);
        if (record.ended !== undefined) this.#end(observation, record);
      } catch (cause) {
        this.#reports.observerFailed(cause);
      }
    }
  }

  /** Has observers hand over what they still have; never rejects. */
  async settle(): Promise<void> {
    await Promise.all(this.#observers.map(async (observer) => {
      try {
        if (observer.settle !== undefined) await within(SETTLE_MS, () => observer.settle!());
      } catch (cause) {
        this.#reports.observerFailed(cause);
      }
    }));
  }

  /** Runs what answers a request as those want it who observe it: once, whatever they do. */
  run({ observation, moreObservations = [] }: ExchangeRecord, handle: () => void): void {
    let run = once(handle);
    for (const follower of [observation!, ...moreObservations]) {
      if (follower.run === undefined) continue;
      const inner = run;
      run = once(() => {
        contain(() => follower.run!(inner), (cause) => this.#reports.observerFailed(cause));
        inner(); // unless it was called
      });
    }
    run();
  }

  /** Counts an exchange that has ended, and reports it if it has a record. */
  ends(
    record: ExchangeRecord | undefined,
    status: number | undefined,
    end: ExchangeEnd,
    error: HttpsdError | undefined,
  ): void {
    this.byClass[classOf(status)]!++;
    if (end !== "whole") this.cut[end]++;
    if (record === undefined) return;
    record.end(end, error);
    const { observation, moreObservations } = record;
    if (observation !== undefined) this.#end(observation, record);
    if (moreObservations !== undefined) {
      for (const other of moreObservations) this.#end(other, record);
    }
    for (const observer of this.#enders) this.#end(observer, record);
    if (this.#hears) this.#reports.ended(record);
  }

  #end(observation: Pick<ExchangeObservation, "ended">, record: ExchangeRecord): void {
    try {
      const result: unknown = observation.ended?.(record);
      if (result !== undefined) watch(result, (cause) => this.#reports.observerFailed(cause));
    } catch (cause) {
      this.#reports.observerFailed(cause);
    }
  }
}

/** The time of day may be set while the clock goes on. */
const SECOND_MS = 1_000;

function once(call: () => void): () => void {
  let isCalled = false;
  return () => {
    if (isCalled) return;
    isCalled = true;
    call();
  };
}

/** The first digit of a status; 0 for none, and for statuses that are of no class. */
function classOf(status: number | undefined): number {
  const first = status === undefined ? 0 : Math.trunc(status / 100);
  return first <= 5 ? first : 0;
}
