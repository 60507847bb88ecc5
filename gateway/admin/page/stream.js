// The stream of states. By fetch and not by EventSource, which can't send a token.

const SILENCE_MS = 5000; // there is an event every second, so this long without one is a loss

export class Stream {
  constructor({ onState, onUp, onLost, onRefused }) {
    Object.assign(this, { onState, onUp, onLost, onRefused });
    this.token = null;
    this.retryMs = 2000;
    this.wake = () => {};
  }

  // Connects, and connects again, as long as the page is there.
  async run() {
    for (;;) {
      const refused = await this.watch();
      if (refused) await new Promise((resolve) => { this.wake = resolve; });
      else await new Promise((resolve) => setTimeout(resolve, this.retryMs));
    }
  }

  // With a token after a refusal.
  resume(token) {
    this.token = token;
    this.wake();
  }

  async watch() {
    const ended = new AbortController();
    let watchdog = setTimeout(() => ended.abort(), SILENCE_MS);
    try {
      const headers = this.token ? { Authorization: `Bearer ${this.token}` } : {};
      const response = await fetch("/api/events", { headers, cache: "no-store", signal: ended.signal });
      if (!response.ok) {
        const { error_description: why } = await response.json();
        if (response.status === 401 || response.status === 403) {
          this.onRefused(response.status, why);
          return true;
        }
        throw new Error(why);
      }
      this.onUp();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let buffer = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new Error("the stream has ended");
        clearTimeout(watchdog);
        watchdog = setTimeout(() => ended.abort(), SILENCE_MS);
        const blocks = (buffer + value).split("\n\n");
        buffer = blocks.pop();
        blocks.forEach((block) => this.take(block));
      }
    } catch (error) {
      if (error instanceof TypeError || error instanceof DOMException || error instanceof Error) this.onLost();
      return false;
    } finally {
      clearTimeout(watchdog);
      ended.abort();
    }
  }

  take(block) {
    const fields = Object.fromEntries(block.split("\n").map((line) => {
      const colon = line.indexOf(":");
      return [line.slice(0, colon), line.slice(colon + 1).trimStart()];
    }));
    if (fields.retry) this.retryMs = Number(fields.retry);
    if (fields.event === "state") this.onState(JSON.parse(fields.data));
  }
}
