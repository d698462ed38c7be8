// Charts over time. Each has a legend with the values under the pointer, and a table for those who do not see it.

import { ROOT, view } from "../api.js";
import { fill, h, seconds, table } from "../elements.js";
import uPlot from "../vendor/uPlot.esm.js";

const HEIGHT = 190, MOST_ROWS = 400;

// The style sheets of charts, which no other page needs.
const styles = Promise.all(["vendor/uPlot.min.css", "pages/charts.css"].map((name) => new Promise((loaded) => {
  const link = h("link", { rel: "stylesheet", href: `${ROOT}console/${name}`, onload: loaded, onerror: loaded });
  document.head.append(link);
})));
export const ready = () => styles;

const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
export const count = (n) => (n == null ? "—" : n < 10000 ? whole.format(n) : compact.format(n));
export const money = (n) => (n == null ? "—" : `$${n === 0 ? "0" : n < 0.01 ? n.toPrecision(2) : n < 1000 ? n.toFixed(2)
  : compact.format(n)}`);
export const length = (s) => (s == null ? "—" : s === 0 ? "0" : seconds(s));
export const colour = (index) => `var(--s${index % 10})`;

function resolved(text) { // a colour of the style sheet as the canvas takes it, by day or by night
  const probe = h("i", { hidden: true });
  probe.style.color = text;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
}

const pale = (rgb) => rgb.replace(/rgba?\(([^)]+)\)/, (_, parts) => `rgba(${parts.split(",").slice(0, 3).join(",")}, .12)`);

const night = matchMedia("(prefers-color-scheme: dark)");

// `name` is what it shows; `show` writes a value. `draw(at, series)` takes the beginnings of the steps (ISO texts) and
// [{ label, colour, values, fill }], null where there is nothing to show.
export function chart(name, show = count) {
  const plot = h("div", { class: "plot", role: "img", "aria-label": `${name}: a chart; the same as a table is below it` });
  const legend = h("ul", { class: "legend", "aria-hidden": "true" });
  const place = h("div");
  const details = h("details", { ontoggle: () => tabulate() }, h("summary", {}, "As a table",
    h("span", { class: "unseen" }, ` of ${name}`)), place);
  const node = h("div", { class: "chart" }, plot, legend, details);
  let drawn = null, shown = { at: [], series: [] }, shape = "";

  function tabulate() {
    if (!details.open) return;
    const rows = shown.at.map((at, row) => [new Date(at).toLocaleString(), ...shown.series.map((s) => show(s.values[row]))]);
    fill(place, table(["Time", ...shown.series.map((s) => s.label)], rows.reverse().slice(0, MOST_ROWS), name));
  }
  function showAt(index) {
    const row = index ?? null;
    fill(legend, shown.series.map((s) => {
      const mark = h("i");
      mark.style.background = s.colour;
      return h("li", {}, mark, s.label, row != null && h("b", {}, show(s.values[row])));
    }), row != null && h("li", { class: "at" }, new Date(shown.at[row]).toLocaleString([], { dateStyle: "short", timeStyle: "short" })));
  }
  function end() {
    drawn?.destroy();
    drawn = null;
  }
  function begin(data) {
    end();
    plot.classList.remove("none");
    plot.replaceChildren();
    drawn = new uPlot(options(plot.clientWidth, shown.series, show, showAt), data, plot);
  }
  function draw(at, series) {
    shown = { at, series };
    tabulate();
    showAt(null);
    if (!series.some((s) => s.values.some((v) => v))) {
      end();
      shape = "";
      plot.classList.add("none");
      return plot.replaceChildren("Nothing in this time.");
    }
    const data = [at.map((one) => Date.parse(one) / 1000), ...series.map((s) => s.values)];
    const now = JSON.stringify([series.map((s) => [s.label, s.colour]), plot.clientWidth > 0]);
    if (drawn && now === shape) drawn.setData(data);
    else begin(data);
    shape = now;
  }
  const again = () => { shape = ""; if (drawn) draw(shown.at, shown.series); };
  const watch = new ResizeObserver(() => {
    if (drawn && plot.clientWidth && drawn.width !== plot.clientWidth) drawn.setSize({ width: plot.clientWidth, height: HEIGHT });
  });
  watch.observe(plot);
  night.addEventListener("change", again);
  view.shown.signal.addEventListener("abort", () => {
    watch.disconnect();
    night.removeEventListener("change", again);
    end();
  });
  return { node, draw };
}

function options(width, series, show, showAt) {
  const text = resolved("var(--dim)"), line = resolved("var(--line)");
  const axis = { stroke: text, font: "12px system-ui, sans-serif", grid: { stroke: line, width: 1 }, ticks: { show: false } };
  return {
    width, height: HEIGHT, padding: [10, 12, 0, 0], legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, sync: { key: "time" }, points: { size: 6 } },
    scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.08 : 1] } },
    axes: [{ ...axis, space: 70 }, { ...axis, size: 58, space: 34, values: (_, splits) => splits.map((v) => show(v)) }],
    series: [{}, ...series.map((s) => {
      const stroke = resolved(s.colour);
      return { label: s.label, stroke, width: 1.75, fill: s.fill ? pale(stroke) : undefined, spanGaps: false, points: { size: 4 } };
    })],
    hooks: { setCursor: [(u) => showAt(u.cursor.idx)] },
  };
}

// Ranges of time, by their names in the address of the page, as the page of runs has them too.
export const RANGES = { "1h": ["1 h", 3600], "24h": ["24 h", 86400], "7d": ["7 d", 604800], "30d": ["30 d", 2592000] };
export const range = () => (RANGES[view.query.get("since")] ? view.query.get("since") : "24h");

export function rangeChips(change) {
  const node = h("div", { class: "chips", role: "group", "aria-label": "Time range" });
  const draw = () => fill(node, Object.entries(RANGES).map(([name, [text]]) => h("button", { type: "button", class: "chip",
    "data-key": name, "aria-pressed": String(range() === name), onclick: () => { change(name); draw(); } }, text)));
  draw();
  return node;
}

// The steps of an answer that a chart of counts shows: the last one, which is under way, once half of it is over.
export const shown = ({ series, step }) => series.filter(({ at }, index) => step <= 60 || index < series.length - 1
  || Date.now() - Date.parse(at) > step * 500);

// The time of the range that ends now, as parameters of the API.
export const span = () => ({ since: new Date(Date.now() - RANGES[range()][1] * 1000).toISOString() });
