// How numbers are written, the same as in the server's notation.rs.

export const NONE = "–";

function grouped(value, decimals) {
  return value.toLocaleString("en-US", { minimumFractionDigits: decimals, maximumFractionDigits: decimals });
}

export function count(value) {
  return value == null ? NONE : grouped(value, 0);
}

// Milliseconds: one decimal below 100, none above.
export function ms(value) {
  return value == null ? NONE : `${grouped(value, value < 99.95 ? 1 : 0)} ms`;
}

export function rate(value) {
  return value == null ? NONE : `${grouped(value, 1)} /s`;
}

// A share, 0 to 1, as percent with two decimals.
export function share(value) {
  return value == null ? NONE : `${grouped(value * 100, 2)} %`;
}

// Seconds since the start of the load: 1:05, 1:02:03.
export function clock(seconds) {
  const whole = Math.round(seconds);
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  const two = (number) => String(number).padStart(2, "0");
  return h > 0 ? `${h}:${two(m)}:${two(s)}` : `${m}:${two(s)}`;
}

export function duration(seconds) {
  const whole = Math.round(seconds);
  if (whole < 60) return `${whole} s`;
  const [h, m, s] = [Math.floor(whole / 3600), Math.floor((whole % 3600) / 60), whole % 60];
  return [h && `${h} h`, m && `${m} min`, s && !h && `${s} s`].filter(Boolean).join(" ");
}
