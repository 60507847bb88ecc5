// The gateway's clock as the page sees it, whatever the browser's own says.

let offset = null;

export function heard(at) {
  const latest = Date.parse(at) - performance.now();
  // The event that took least time to get here is the most right.
  offset = offset === null || Math.abs(latest - offset) > 2000 ? latest : Math.max(offset, latest);
}

export function now() {
  return offset + performance.now();
}
