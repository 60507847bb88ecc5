// The window: each revoked token that still passes, how long it will, and how often it has.

import { ago, count, countdown, isolated, plural } from "./format.js";
import { now } from "./clock.js";

const FAREWELL_MS = 4000;
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Window {
  constructor({ list, status, onEvict }) {
    Object.assign(this, { list, status, onEvict });
    this.rows = new Map();
    this.running = false;
    this.drawn = 0;
    list.addEventListener("scroll", () => this.hint());
    new ResizeObserver(() => this.hint()).observe(list);
  }

  // Rows may end just where the list is cut off: that there are more is shown by fading the end.
  hint() {
    const { scrollTop, clientHeight, scrollHeight } = this.list;
    this.list.classList.toggle("more", scrollTop + clientHeight < scrollHeight - 4);
  }

  // `whole` is whether the state lists all of them: only then is who isn't listed gone.
  show(tokens, { whole, evictable }) {
    this.evictable = evictable;
    const listed = new Set(tokens.map((token) => token.token_key));
    const gone = [...this.rows.values()].filter((row) => !row.lapsed && !listed.has(row.token.token_key));
    const ended = gone.filter((row) => whole || row.lapsesAt <= now() + 1000);
    gone.filter((row) => !ended.includes(row)).forEach((row) => this.drop(row));
    ended.forEach((row) => this.farewell(row));
    this.announce(ended);
    const focused = document.activeElement;
    tokens.forEach((token, place) => this.place(token, place));
    if (focused !== document.activeElement && this.list.contains(focused)) focused.focus(); // its row was moved
    this.running = true;
    this.hint();
    this.draw();
    this.schedule();
  }

  freeze() {
    this.running = false;
  }

  place(token, place) {
    let row = this.rows.get(token.token_key);
    if (row?.lapsed) {
      this.drop(row); // revoked, evicted, and revoked again
      row = null;
    }
    if (!row) {
      row = this.build(token);
      this.rows.set(token.token_key, row);
    }
    row.token = token;
    row.revokedAt = Date.parse(token.revoked_at);
    row.lapsesAt = Date.parse(token.lapses_at);
    row.button.hidden = !this.evictable;
    const at = this.list.children[place];
    if (at !== row.element) this.list.insertBefore(row.element, at ?? null);
  }

  build(token) {
    const element = document.createElement("li");
    element.className = "token";
    element.dataset.key = token.token_key;
    const cell = (className, text = "", kind = "span") => {
      const span = document.createElement(kind);
      span.className = className;
      span.textContent = text;
      return span;
    };
    const short = token.token_key.slice(0, 12);
    const name = cell("name");
    // Isolated: a name with characters that turn the direction of writing turns nothing beside it.
    const client = token.client_id ?? "unknown client";
    const who = cell("who", client, "bdi");
    const key = cell("key", ` ${short}…`);
    key.title = token.token_key;
    const what = cell("what");
    const left = cell("left");
    const bar = cell("bar");
    bar.ariaHidden = "true";
    name.append(who, key, document.createElement("br"), what);
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Evict";
    button.ariaLabel = `Evict token ${short} of ${isolated(client)}`;
    button.addEventListener("click", () => this.onEvict(token.token_key, button));
    element.append(name, left, button, bar);
    return { token, element, what, left, bar, button, lapsed: false };
  }

  farewell(row) {
    const focused = row.element.contains(document.activeElement);
    row.lapsed = true;
    row.evicted = row.lapsesAt > now() + 1500;
    row.element.classList.add("lapsed");
    row.left.textContent = row.evicted ? "evicted" : "lapsed";
    row.what.textContent = `passed ${plural(row.token.stale_accepts, "time", "times")} after its revocation`;
    if (focused) this.goOn(row); // its button can't be seen any more
    setTimeout(() => this.drop(row), FAREWELL_MS);
  }

  drop(row) {
    if (this.rows.get(row.token.token_key) === row) this.rows.delete(row.token.token_key);
    if (row.element.contains(document.activeElement)) this.goOn(row);
    row.element.remove();
  }

  // A keyboard that was on a row goes on with the next one that has something to press.
  goOn(row) {
    const later = [...this.list.children].slice([...this.list.children].indexOf(row.element) + 1);
    const next = later.find((element) => !element.classList.contains("lapsed") && !element.querySelector("button").hidden);
    (next?.querySelector("button") ?? this.list.closest("section")).focus();
  }

  announce(rows) {
    if (!rows.length) return;
    const evicted = rows.filter((row) => row.evicted).length;
    const lapsed = rows.length - evicted;
    this.status.textContent = [
      lapsed && `${plural(lapsed, "revoked token has", "revoked tokens have")} lapsed.`,
      evicted && `${plural(evicted, "revoked token was", "revoked tokens were")} evicted.`,
    ].filter(Boolean).join(" ");
  }

  draw() {
    const instant = now();
    for (const row of this.rows.values()) {
      if (row.lapsed) continue;
      const left = Math.max(0, row.lapsesAt - instant);
      const passed = row.token.stale_accepts;
      const last = row.token.last_accept_at;
      row.left.textContent = countdown(left / 1000);
      row.bar.style.transform = `scaleX(${Math.min(1, left / Math.max(1, row.lapsesAt - row.revokedAt))})`;
      const since = `revoked ${ago((instant - row.revokedAt) / 1000)}`;
      const text = passed
        ? `passed ${count(passed)}× since, last ${ago((instant - Date.parse(last)) / 1000)} · ${since}`
        : `not used since · ${since}`;
      if (row.what.textContent !== text) row.what.textContent = text;
    }
  }

  schedule() {
    if (this.scheduled || !this.running || !this.rows.size) return;
    this.scheduled = true;
    // Ten times a second reads as smooth; every event is enough for who wants less motion.
    requestAnimationFrame((instant) => {
      this.scheduled = false;
      if (!this.running) return;
      if (!still.matches && instant - this.drawn > 90) {
        this.draw();
        this.drawn = instant;
      }
      this.schedule();
    });
  }
}
