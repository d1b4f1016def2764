/**
 * Writes metrics as Prometheus reads them: the text format 0.0.4, and OpenMetrics 1.0.0.
 *
 * @module
 */

/** The text formats. */
export type ExpositionFormat = "prometheus" | "openmetrics";

/** The labels of a sample; those that are `undefined` are left out. */
export type Labels = Readonly<Record<string, string | undefined>>;

/** What of a metric family both formats say. */
interface Family {
  /** The name, without `_total`. */
  readonly name: string;
  /** A sentence about it. */
  readonly help: string;
  /** The unit, with which the name ends. */
  readonly unit?: string;
}

/** Gathers metric families as text. */
export class Exposition {
  readonly #format: ExpositionFormat;
  #text = "";

  /** Makes an empty text. */
  constructor(format: ExpositionFormat) {
    this.#format = format;
  }

  /** Adds a counter with its samples. */
  counter(family: Family, samples: Iterable<readonly [value: number, labels?: Labels]>): void {
    const name = `${family.name}_total`;
    this.#describe(this.#format === "openmetrics" ? family : { ...family, name }, "counter");
    for (const [value, labels] of samples) this.#sample(name, value, labels);
  }

  /** Adds a gauge with its samples. */
  gauge(family: Family, samples: Iterable<readonly [value: number, labels?: Labels]>): void {
    this.#describe(family, "gauge");
    for (const [value, labels] of samples) this.#sample(family.name, value, labels);
  }

  /** Adds a histogram; `counts` are those of each bucket alone, with what is above the last bound. */
  histogram(
    family: Family,
    bounds: readonly number[],
    series: Iterable<
      { readonly labels: Labels; readonly counts: readonly number[]; readonly sum: number }
    >,
  ): void {
    const { name } = family;
    this.#describe(family, "histogram");
    for (const { labels, counts, sum } of series) {
      let count = 0;
      for (const [index, bound] of [...bounds, Infinity].entries()) {
        count += counts[index]!;
        this.#sample(`${name}_bucket`, count, { ...labels, le: boundText(bound, this.#format) });
      }
      this.#sample(`${name}_sum`, sum, labels);
      this.#sample(`${name}_count`, count, labels);
    }
  }

  /** All of it. */
  end(): string {
    return this.#format === "openmetrics" ? `${this.#text}# EOF\n` : this.#text;
  }

  #describe({ name, help, unit }: Family, type: string): void {
    const isOpen = this.#format === "openmetrics";
    const text = isOpen ? escapeLabel(help) : escapeHelp(help);
    this.#text += `# HELP ${name} ${text}\n# TYPE ${name} ${type}\n`;
    if (isOpen && unit !== undefined) this.#text += `# UNIT ${name} ${unit}\n`;
  }

  #sample(name: string, value: number, labels: Labels = {}): void {
    const shown = Object.entries(labels).flatMap(([label, text]) =>
      text === undefined ? [] : [`${label}="${escapeLabel(text)}"`]
    );
    this.#text += `${name}${shown.length > 0 ? `{${shown.join(",")}}` : ""} ${number(value)}\n`;
  }
}

function number(value: number): string {
  if (value === Infinity) return "+Inf";
  return value === -Infinity ? "-Inf" : String(value);
}

/** OpenMetrics wants a bound to look like a floating point number. */
function boundText(bound: number, format: ExpositionFormat): string {
  if (bound === Infinity) return "+Inf";
  return format === "openmetrics" && Number.isInteger(bound) ? `${bound}.0` : String(bound);
}

/** A help in the text format, which knows no escaped quotes. */
function escapeHelp(text: string): string {
  return text.replaceAll("\\", "\\\\").replaceAll("\n", "\\n");
}

/** The value of a label, and a help in OpenMetrics. */
function escapeLabel(text: string): string {
  return escapeHelp(text).replaceAll('"', '\\"');
}
