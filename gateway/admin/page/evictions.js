// Evictions, and the admin token they need, which is kept in memory only.

import { plural } from "./format.js";

const $ = (id) => document.getElementById(id);

export class Evictions {
  constructor({ onToken }) {
    this.onToken = onToken;
    this.token = null;
    this.pending = null;
    this.locked = false;
    $("evict").addEventListener("submit", (event) => {
      event.preventDefault();
      this.submit();
    });
    $("by").addEventListener("change", () => this.chosen());
    $("ask").addEventListener("submit", (event) => {
      event.preventDefault();
      this.given($("token").value);
    });
    $("ask-cancel").addEventListener("click", () => this.cancel());
    $("ask").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.cancel();
    });
    $("evict").addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.calm();
    });
    $("forget-token").addEventListener("click", () => this.forget());
    this.chosen();
  }

  // What the gateway lets one do.
  allow(allowed, fleet) {
    $("evict").hidden = !allowed;
    if (!allowed) $("evicted").textContent = "The setting admin.token isn't set, so nothing can be evicted.";
    $("scope").options[1].disabled = !fleet;
  }

  chosen() {
    const all = $("by").value === "all";
    $("value").hidden = all;
    $("value").required = !all;
    this.calm();
  }

  calm() {
    this.sure = false;
    this.button().textContent = "Evict";
  }

  button() {
    return $("evict").querySelector("button");
  }

  submit() {
    const by = $("by").value;
    if (by === "all" && !this.sure) {
      this.sure = true;
      this.button().textContent = "Really evict all?";
      return;
    }
    this.calm();
    const what = by === "all" ? { all: true } : { [by]: $("value").value.trim() };
    this.ask({ ...what, scope: $("scope").value }, this.button());
  }

  // The stream itself needs the token.
  needToken(why) {
    this.locked = true;
    this.show(why);
  }

  show(why) {
    $("ask-why").textContent = `${why} The token stays in this page's memory and is gone with it.`;
    $("ask").hidden = false;
    $("token").focus();
  }

  given(token) {
    this.token = token;
    $("token").value = "";
    $("ask").hidden = true;
    $("forget-token").hidden = false;
    (this.pending?.[1] ?? $("window")).focus();
    if (this.locked) {
      this.locked = false;
      this.onToken(token);
    }
    if (this.pending) this.ask(...this.pending);
  }

  cancel() {
    $("ask").hidden = true;
    $("token").value = "";
    // The row whose button was pressed may have lapsed meanwhile.
    const from = this.pending?.[1];
    (from?.checkVisibility({ visibilityProperty: true }) ? from : $("window")).focus();
    this.pending = null;
  }

  forget() {
    this.token = null;
    $("forget-token").hidden = true;
    this.onToken(null);
  }

  async ask(what, from) {
    this.pending = [what, from];
    if (this.token === null) {
      this.show("Evicting needs the setting admin.token.");
      return;
    }
    // Not disabled, which would lose the focus.
    if (from.ariaBusy === "true") return;
    from.ariaBusy = "true";
    try {
      const response = await fetch("/api/evict", {
        method: "POST",
        headers: { "Content-Type": "application/json", Authorization: `Bearer ${this.token}` },
        body: JSON.stringify(what),
      });
      const answer = await response.json();
      if (response.status === 401) {
        this.forget();
        this.show(answer.error_description);
        return;
      }
      this.pending = null;
      this.say(response.ok ? evictedText(answer) : answer.error_description);
    } catch {
      this.pending = null;
      this.say("The gateway didn't answer.");
    } finally {
      from.ariaBusy = null;
    }
  }

  say(text) {
    $("evicted").textContent = text;
  }
}

function evictedText({ evicted, scope, gateways }) {
  const here = `Evicted ${plural(evicted, "token", "tokens")} here`;
  if (scope === "gateway") return `${here}.`;
  return gateways == null ? `${here}, and told the fleet.` : `${here}, and told ${plural(gateways, "gateway", "gateways")} in the fleet.`;
}
