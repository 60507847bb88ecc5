// The live page: takes each state as it comes, and shows it.

import { drawExposure, Lines, ratioFormat } from "./charts.js";
import { heard } from "./clock.js";
import { Evictions } from "./evictions.js";
import { ago, count, duration, percent, plural, rate } from "./format.js";
import { Stream } from "./stream.js";
import { Window } from "./window.js";

const $ = (id) => document.getElementById(id);
const KINDS = ["passed", "refused", "failed", "other"];
const COLORS = ["--proxied", "--refused", "--failed", "--other"];

let previous = null;
let lostAt = null;

const traffic = new Lines($("traffic"), COLORS);
const hits = new Lines($("hits"), ["--good"], { most: 1, format: ratioFormat });
const evictions = new Evictions({ onToken: (token) => stream.resume(token) });
const revoked = new Window({
  list: $("tokens"),
  status: $("lapses"),
  onEvict: (key, button) => evictions.ask({ token_key: key }, button),
});
const stream = new Stream({
  onState: show,
  onUp: () => {
    chip("link", "good", "Live");
    lostAt = null;
    $("lost").hidden = true;
    document.body.classList.remove("stale");
  },
  onLost: lost,
  onRefused: (_status, why) => {
    chip("link", "bad", "Locked");
    evictions.needToken(why);
  },
});

function lost() {
  revoked.freeze();
  previous = null;
  if (lostAt !== null) return;
  lostAt = new Date();
  chip("link", "bad", "Connection lost");
  chip("store", "off", "Store unknown");
  chip("feed", "off", "Feed unknown");
  const since = lostAt.toLocaleTimeString("en-GB");
  $("lost").textContent = `Connection lost at ${since}. What is shown is from before then. Trying to reconnect…`;
  $("lost").hidden = false;
  document.body.classList.add("stale");
}

function chip(id, state, text) {
  $(id).dataset.state = state;
  if ($(id).textContent !== text) $(id).textContent = text;
}

function show(state) {
  heard(state.at);
  const at = Date.parse(state.at) / 1000;
  const seconds = previous && at - previous.at;
  const outcomes = totals(state.traffic.by_route);
  showHealth(state);
  showWindow(state);
  showRoutes(state);
  showTraffic(at, seconds, outcomes);
  showCache(at, state.cache);
  showExposure(state.exposure);
  evictions.allow(state.evictions_allowed, state.feed.enabled);
  $("version").textContent = `Version ${state.version}`;
  $("uptime").textContent = `Up for ${duration(Math.floor(state.uptime_seconds))}`;
  previous = { at, outcomes, cache: state.cache };
}

function showHealth({ mode, store, feed }) {
  $("mode").textContent = mode === "evict" ? "Revocations evict" : "Revocations lapse";
  chip("store", store.reachable ? "good" : "bad", store.reachable ? "Store answers" : "Store unreachable");
  if (!feed.enabled) chip("feed", "off", "Feed off");
  else if (!feed.up) chip("feed", "bad", "Feed down");
  else chip("feed", "good", feed.lag_seconds === null ? "Feed up" : `Feed up, heard ${ago(feed.lag_seconds)}`);
}

function round(seconds) {
  return seconds < 1 ? Math.round(seconds * 1000) / 1000 : Math.round(seconds);
}

function showWindow({ revoked: book, mode, feed, evictions_allowed: evictable }) {
  document.body.classList.toggle("open", book.count > 0);
  $("passing").textContent = count(book.count);
  $("passing-label").textContent = book.count === 1 ? "revoked token still passes" : "revoked tokens still pass";
  $("window-says").textContent = says(book.count, mode, feed);
  $("left-out").hidden = !book.left_out;
  $("left-out").textContent = `And ${count(book.left_out)} more, which lapse later. /api/revoked lists all.`;
  revoked.show(book.tokens, { whole: book.left_out === 0, evictable });
}

function says(open, mode, feed) {
  if (!feed.enabled) return "The feed is off: revocations elsewhere aren't seen before tokens lapse.";
  if (!feed.up) return "The feed is down: revocations elsewhere aren't seen until it is back.";
  if (mode === "evict") return "A revocation takes a token's facts away at once.";
  return open
    ? "Each passes until its facts reach max age, and no longer."
    : "A revoked token shows here until its facts reach max age.";
}

function showRoutes({ routes, traffic: { by_route: byRoute } }) {
  const rows = routes.map((route) => {
    const row = document.createElement("tr");
    const requests = Object.values(byRoute[route.name] ?? {}).reduce((sum, value) => sum + value, 0);
    const cells = route.public
      ? [route.name, "public", "–", count(requests)]
      : [route.name, duration(route.max_age_seconds), duration(route.bound_seconds), count(requests)];
    cells.forEach((text, index) => {
      const cell = document.createElement("td");
      const name = document.createElement(index ? "span" : "bdi");
      name.textContent = text;
      cell.append(name);
      if (index === 2) cell.className = "bound";
      row.append(cell);
    });
    return row;
  });
  $("bounds").tBodies[0].replaceChildren(...rows);
}

function totals(byRoute) {
  const sums = {};
  for (const outcomes of Object.values(byRoute)) {
    for (const [outcome, total] of Object.entries(outcomes)) sums[outcome] = (sums[outcome] ?? 0) + total;
  }
  return sums;
}

function kind(outcome) {
  if (outcome === "proxied" || outcome === "answered") return 0;
  if (/^(upstream_|store_|server_|too_many)/.test(outcome)) return 2;
  return outcome.startsWith("client_") ? 3 : 1;
}

function showTraffic(at, seconds, outcomes) {
  const rates = Object.entries(outcomes).map(([outcome, total]) => {
    const more = previous ? total - (previous.outcomes[outcome] ?? 0) : 0;
    // Less than before: the gateway has been started anew.
    return { outcome, total, kind: kind(outcome), rate: seconds > 0 ? Math.max(0, more) / seconds : 0 };
  });
  const sum = (some) => some.reduce((all, { rate: one }) => all + one, 0);
  if (seconds > 0) {
    $("rate").textContent = rate(sum(rates));
    traffic.add(at, KINDS.map((_, index) => sum(rates.filter((one) => one.kind === index))));
  } else {
    traffic.add(at, KINDS.map(() => null)); // nothing is known of the time before
  }
  rates.sort((one, other) => one.kind - other.kind || one.outcome.localeCompare(other.outcome));
  $("outcomes").replaceChildren(...rates.map(({ outcome, total, kind: index, rate: now }) => {
    const item = document.createElement("li");
    const line = document.createElement("i");
    line.className = `kind-${index}`;
    const name = document.createElement("span");
    name.textContent = outcome.replaceAll("_", " ");
    const number = document.createElement("b");
    number.textContent = `${rate(now)}/s`;
    item.title = `${count(total)} in all`;
    item.append(line, name, number);
    return item;
  }));
}

function showCache(at, cache) {
  const more = (name) => Math.max(0, cache[name] - (previous?.cache[name] ?? cache[name]));
  const found = more("hits") + more("negative_hits");
  const asked = found + more("misses");
  const found_ever = cache.hits + cache.negative_hits;
  const asked_ever = found_ever + cache.misses;
  $("ratio").textContent = asked_ever ? percent(found_ever / asked_ever) : "–";
  hits.add(at, [asked ? found / asked : null]);
  const evicted = Object.values(cache.evictions).reduce((sum, value) => sum + value, 0);
  const causes = Object.entries(cache.evictions).filter(([, value]) => value).map(([cause, value]) => `${count(value)} ${cause}`);
  const facts = [
    ["tokens", count(cache.entries)],
    ["unknown", count(cache.negative_entries)],
    ["store asked", count(cache.misses)],
    ["evicted", evicted ? causes.join(", ") : "0"],
  ];
  $("cache").replaceChildren(...facts.map(([name, value]) => {
    const pair = document.createElement("div");
    const term = document.createElement("dt");
    const number = document.createElement("dd");
    term.textContent = name;
    number.textContent = value;
    pair.append(term, number);
    return pair;
  }));
}

// The longest first: a mean hides the one token that was misused for all of the window.
function showExposure(exposure) {
  const { count: total, sum, le, counts } = exposure;
  const longest = le[counts.findLastIndex((value) => value)];
  $("exposed").textContent = !total ? "–" : longest === undefined ? `> ${duration(le.at(-1))}` : `≤ ${duration(longest)}`;
  $("exposed-label").textContent = total
    ? `the longest from revocation to the last acceptance, of ${plural(total, "token", "tokens")}; ${duration(round(sum / total))} on average`
    : "from revocation to the last acceptance";
  drawExposure($("exposure"), exposure);
}

stream.run();
