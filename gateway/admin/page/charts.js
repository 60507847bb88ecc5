// What has been over the last two minutes, and the distribution of exposures.

import uPlot from "./vendor/uplot/uPlot.esm.js";
import { count, duration, rate } from "./format.js";

const POINTS = 120;
const LEAST_SECONDS = 30;
const color = (name) => () => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export class Lines {
  constructor(element, names, { most = null, format = rate } = {}) {
    this.data = [[], ...names.map(() => [])];
    const axis = { stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 }, ticks: { show: false }, font: "11px system-ui, sans-serif" };
    this.plot = new uPlot(
      {
        width: element.clientWidth || 300,
        height: element.clientHeight || 150,
        cursor: { show: false },
        legend: { show: false },
        padding: [8, 24, 0, 0],
        scales: { x: { time: true }, y: { range: (_, __, high) => [0, most ?? Math.max(1, high * 1.15)] } },
        axes: [
          { ...axis, space: 70, values: (_, ticks) => ticks.map((at) => new Date(at * 1000).toLocaleTimeString("en-GB")), size: 26 },
          { ...axis, space: 34, size: 44, values: (_, ticks) => ticks.map(format) },
        ],
        series: [
          {},
          ...names.map((name) => ({ stroke: color(name), width: 2, points: { show: false }, spanGaps: false })),
        ],
      },
      this.data,
      element,
    );
    this.waiting = document.createElement("p");
    this.waiting.textContent = "Drawn from when this page was opened; the first points come in seconds.";
    element.append(this.waiting);
    new ResizeObserver(() => this.plot.setSize({ width: element.clientWidth, height: element.clientHeight })).observe(element);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.plot.redraw());
  }

  add(at, values) {
    this.data[0].push(at);
    values.forEach((value, index) => this.data[index + 1].push(value));
    if (this.data[0].length > POINTS) this.data.forEach((column) => column.shift());
    this.waiting.hidden ||= this.data.slice(1).some((column) => column.filter((value) => value !== null).length > 1);
    const latest = this.data[0].at(-1);
    this.plot.setData(this.data, false);
    const span = Math.min(POINTS, Math.max(LEAST_SECONDS, latest - this.data[0][0]));
    this.plot.setScale("x", { min: latest - span, max: latest });
  }
}

export const ratioFormat = (share) => (share === null ? "" : `${Math.round(100 * share)}%`);

// Bars for the exposures that there are, from the bucket before the first to the one after the last.
export function drawExposure(element, { le, counts, count: total }) {
  if (!total) {
    const text = document.createElement("p");
    text.textContent = "No revoked token has lapsed or been evicted yet.";
    element.replaceChildren(text);
    return;
  }
  const first = Math.max(0, counts.findIndex((value) => value) - 1);
  const last = Math.min(counts.length - 1, counts.findLastIndex((value) => value) + 1);
  const shown = counts.slice(first, last + 1);
  const most = Math.max(...shown);
  const every = Math.ceil(shown.length / (element.clientWidth / 48));
  element.replaceChildren(...shown.map((value, index) => {
    const bucket = first + index;
    const name = bucket < le.length ? `≤ ${duration(le[bucket])}` : `> ${duration(le.at(-1))}`;
    const column = document.createElement("div");
    column.title = `${name}: ${count(value)}`;
    const number = document.createElement("b");
    number.textContent = value ? count(value) : "";
    const bar = document.createElement("i");
    bar.style.height = `${Math.max(value ? 2 : 0, (82 * value) / most)}%`;
    const label = document.createElement("span");
    label.textContent = index % every ? "" : name;
    column.append(number, bar, label);
    return column;
  }));
  const said = shown.map((value, index) => value && `${count(value)} up to ${duration(le[first + index] ?? Infinity)}`);
  element.ariaLabel = `Distribution of exposures: ${said.filter(Boolean).join(", ")}`;
}
