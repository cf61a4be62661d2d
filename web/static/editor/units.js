// Durations and rates as files write them: `1m30s`, `200ms`, `150/s`.

const UNITS = { us: 1e-6, "µs": 1e-6, ms: 1e-3, s: 1, m: 60, min: 60, h: 3600 };

// Seconds of a duration, or null when it is none.
export function seconds(text) {
  const written = String(text ?? "").trim();
  if (written === "0") return 0;
  if (!/^([0-9]+(\.[0-9]+)?\s*(us|µs|ms|s|min|m|h)\s*)+$/.test(written)) return null;
  let sum = 0;
  for (const [, number, , unit] of written.matchAll(/([0-9]+(\.[0-9]+)?)\s*(us|µs|ms|s|min|m|h)/g)) {
    sum += Number(number) * UNITS[unit];
  }
  return sum;
}

// A duration as people write it, to the millisecond.
export function duration(value) {
  const ms = Math.max(0, Math.round(value * 1000));
  if (ms === 0) return "0s";
  if (ms % 3_600_000 === 0) return `${ms / 3_600_000}h`;
  if (ms % 60_000 === 0) return `${ms / 60_000}m`;
  if (ms % 1000 === 0) return ms > 60_000 ? `${Math.floor(ms / 60_000)}m${(ms % 60_000) / 1000}s` : `${ms / 1000}s`;
  return ms < 1000 ? `${ms}ms` : `${ms / 1000}s`;
}

// Events per second of a rate, or null when it is none. A number alone is one per second.
export function perSecond(text) {
  const found = /^\s*([0-9]+(?:\.[0-9]+)?)\s*(?:\/\s*(s|m|min|h))?\s*$/.exec(String(text ?? ""));
  if (!found) return null;
  const unit = (found[2] ?? "s")[0];
  return Number(found[1]) / (unit === "s" ? 1 : unit === "m" ? 60 : 3600);
}

// A number with no more digits than a reader needs.
export function short(number) {
  return Number(number.toPrecision(3)).toString();
}
