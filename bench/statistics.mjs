/**
 * What becomes of the samples of a row. A sample is one slot or one run of one contestant:
 * `operations`, and what the server used for them (see `used` in processes.mjs).
 */

/** A server that had nothing to do for more of the time than this was not measured at its work. */
const MIN_BUSY = 0.8;

/** The value below which that share of the values lies. */
export function quantile(values, share) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(share * sorted.length))];
}

export const median = (values) => quantile(values, 0.5);

const isSaturated = ({ operations, busy }) => operations > 0 && busy >= MIN_BUSY;

/** What one contestant's samples say: medians, and whether the server was at work in most of them. */
export function summary(samples) {
  const counted = samples.filter(({ operations }) => operations > 0);
  if (counted.length === 0) throw new Error("Nothing was answered");
  return {
    cost: median(counted.map(({ cpu, operations }) => cpu / operations)),
    faults: median(counted.map(({ faults, operations }) => faults / operations)),
    busy: median(samples.map(({ busy }) => busy)),
    rounds: samples.length,
    saturated: samples.filter(isSaturated).length,
  };
}

/**
 * How much more one contestant does per CPU second than another, round by round: the median and
 * the quartiles of those rounds in which both were saturated; `undefined` when those are fewer than
 * half, or than three.
 */
export function pairedRatio(samples, ofSamples) {
  const ratios = samples.flatMap((sample, round) => {
    const of = ofSamples[round];
    if (!isSaturated(sample) || !isSaturated(of)) return [];
    return [of.cpu / of.operations / (sample.cpu / sample.operations)];
  });
  if (ratios.length < Math.max(3, samples.length / 2)) return undefined;
  return {
    median: median(ratios),
    low: quantile(ratios, 0.25),
    high: quantile(ratios, 0.75),
    rounds: ratios.length,
  };
}
