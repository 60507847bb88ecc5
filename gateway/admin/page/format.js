// How numbers read. Pure.

const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });

export function count(value) {
  return whole.format(value);
}

export function rate(value) {
  return value >= 100 ? whole.format(value) : number.format(value);
}

export function percent(share) {
  return `${(100 * share).toFixed(share > 0.9995 || share === 0 ? 0 : 1)}%`;
}

// A setting's duration: 0s, 250ms, 15s, 15m, 1h 30m.
export function duration(seconds) {
  if (seconds === null) return "unbounded";
  if (seconds === 0) return "0s";
  if (seconds < 1) return `${number.format(seconds * 1000)}ms`;
  if (seconds < 60) return `${number.format(seconds)}s`;
  if (seconds < 3600) return parts(seconds, 60, "m", "s");
  if (seconds < 86400) return parts(seconds, 3600, "h", "m");
  return parts(seconds, 86400, "d", "h");
}

function parts(seconds, unit, name, smaller) {
  const size = { s: 1, m: 60, h: 3600 }[smaller];
  const rest = Math.floor((seconds % unit) / size);
  return `${Math.floor(seconds / unit)}${name}${rest ? ` ${rest}${smaller}` : ""}`;
}

// A countdown: 14:59, or 9.4 s for what is about to end.
export function countdown(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(1)} s`;
  const left = Math.ceil(seconds);
  const minutes = Math.floor(left / 60);
  const tail = String(left % 60).padStart(2, "0");
  if (minutes < 60) return `${minutes}:${tail}`;
  return `${Math.floor(minutes / 60)}:${String(minutes % 60).padStart(2, "0")}:${tail}`;
}

export function ago(seconds) {
  return seconds < 1 ? "just now" : `${duration(Math.floor(seconds))} ago`;
}

// A text between marks that keep what it does to the direction of writing within it.
export function isolated(text) {
  return `\u2068${text}\u2069`;
}

export function plural(value, one, many) {
  return `${count(value)} ${value === 1 ? one : many}`;
}
