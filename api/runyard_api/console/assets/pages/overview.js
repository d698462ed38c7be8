// The overview: what runs did in a time, how long they waited, what waits now, why runs failed, what it cost.

import { get, may, view } from "../api.js";
import { empty, fill, h, section, showError, table } from "../elements.js";
import { setQuery } from "../navigation.js";
import { chart, colour, count, length, money, range, rangeChips, ready, shown, span } from "./charts.js";
import { figures } from "./figures.js";

const STATUSES = { pending: ["Waiting to start", 0], queued: ["Held back", 3], running: ["Running", 1],
  waiting_for_input: ["Need an answer", 4], awaiting_review: ["Need a review", 5] };
const LINES = 6; // limits or organisations in one chart

export default async function overview(main) {
  await ready();
  const panel = h("div", { class: "figures", id: "figures" });
  const sums = h("div", { class: "figures", id: "sums" });
  const failures = h("div", { id: "failures" });
  const charts = {
    throughput: chart("Runs"), wait: chart("Time to start", length), run: chart("Run time", length),
    queue: chart("Unfinished runs"), blockers: chart("Queued runs by limit"), organisations: chart("Waiting runs by organisation"),
    tokens: chart("Tokens"), cost: chart("Cost", money), workers: chart("Workers"),
  };
  const card = (title, name, options = {}) => {
    const node = section(title, charts[name].node);
    node.hidden = Boolean(options.hidden);
    return node;
  };
  const organisations = card("Waiting runs by organisation", "organisations", { hidden: true });
  const workers = card("Workers and their runs", "workers", { hidden: true });
  const whole = () => view.query.get("scope") === "installation";
  const scope = scopes(() => draw().catch(showError));
  async function draw() {
    const asked = new URLSearchParams({ ...span(), ...(whole() && { scope: "installation" }) });
    const [runs, queue] = await Promise.all([get(`/statistics/runs?${asked}`), get(`/statistics/queue?${asked}`), figures(panel)]);
    fill(sums, inFigures(runs));
    drawRuns(charts, runs);
    drawQueue(charts, queue);
    organisations.hidden = !queue.organisations;
    workers.hidden = !queue.series.some((point) => point.workers);
    fill(failures, runs.failures.length ? failureTable(runs.failures, runs.total.failed)
      : empty("No run failed in this time."));
  }
  main.append(h("div", { class: "overview-head" }, h("h1", {}, "Overview"), h("div", { class: "choices" }, scope,
    rangeChips((name) => { setQuery({ since: name }); draw().catch(showError); }))), panel, sums,
    h("div", { class: "charts" }, card("Runs", "throughput"), card("Unfinished runs", "queue"),
      card("Time to start", "wait"), card("Run time", "run"), card("Held back by", "blockers"), organisations,
      section("Failures by cause", failures), card("Tokens", "tokens"), card("Cost", "cost"), workers));
  view.refresh = draw;
  await draw();
}

function scopes(change) { // the operator may see all organisations at once
  const node = h("select", { "aria-label": "Whose runs", hidden: true, onchange: () => {
    setQuery({ scope: node.value });
    change();
  } }, h("option", { value: "" }, "This organisation"), h("option", { value: "installation" }, "All organisations"));
  if (may("ops:read")) {
    get("/ops/queue").then((queue) => {
      node.hidden = queue.scope !== "installation";
      node.value = view.query.get("scope") ?? "";
    }).catch(showError);
  }
  return node;
}

function inFigures({ total }) {
  const one = (text, value, bad) => h("div", { class: bad ? "warn" : "" }, h("b", {}, value), text);
  const ended = total.completed + total.failed + total.stopped;
  return [one("submitted", count(total.submitted)), one("completed", count(total.completed)),
    one(ended ? `failed (${(100 * total.failed / ended).toFixed(1)} %)` : "failed", count(total.failed), total.failed > 0),
    one("to start, p50 / p95", `${length(total.wait.p50)} / ${length(total.wait.p95)}`),
    one("run time, p50 / p95", `${length(total.run.p50)} / ${length(total.run.p95)}`),
    one("tokens in / out", `${count(total.input_tokens)} / ${count(total.output_tokens)}`), one("cost", money(total.cost))];
}

function drawRuns(charts, found) {
  const series = shown(found);
  const at = series.map((point) => point.at);
  const of = (read) => series.map(read);
  const lines = (chart, ...named) => chart.draw(at, named.map(([label, number, read, filled]) =>
    ({ label, colour: colour(number), values: of(read), fill: filled })));
  lines(charts.throughput, ["Submitted", 0, (p) => p.submitted], ["Completed", 1, (p) => p.completed, true],
    ["Failed", 2, (p) => p.failed, true], ["Stopped", 8, (p) => p.stopped]);
  for (const name of ["wait", "run"]) {
    lines(charts[name], ["p50", 0, (p) => p[name].p50], ["p95", 3, (p) => p[name].p95]);
  }
  lines(charts.tokens, ["Input", 0, (p) => p.input_tokens, true], ["Cached", 5, (p) => p.cached_tokens],
    ["Output", 3, (p) => p.output_tokens, true]);
  lines(charts.cost, ["Cost", 1, (p) => p.cost, true]);
}

function drawQueue(charts, { series, organisations }) {
  const at = series.map((point) => point.at);
  const line = (field, name, label, number, read = (depth) => depth.mean) => ({ label, colour: colour(number),
    values: series.map((point) => (point.samples ? (point[field]?.[name] ? read(point[field][name]) : 0) : null)) });
  charts.queue.draw(at, Object.entries(STATUSES).map(([name, [label, number]]) => line("statuses", name, label, number)));
  const most = (field) => { // the names with the most, so that a chart can be read
    const totals = new Map();
    for (const point of series) {
      for (const [name, depth] of Object.entries(point[field] ?? {})) totals.set(name, (totals.get(name) ?? 0) + depth.mean);
    }
    return [...totals].sort((a, b) => b[1] - a[1]).slice(0, LINES).map(([name]) => name);
  };
  charts.blockers.draw(at, most("blockers").map((name, number) => line("blockers", name, name, number)));
  charts.organisations.draw(at, most("organisations").map((id, number) =>
    line("organisations", id, organisations?.[id] ?? id.slice(-12), number)));
  charts.workers.draw(at, [line("workers", "alive", "Workers", 1), line("workers", "capacity", "Slots", 8),
    line("workers", "running", "Runs", 0)]);
}

const failureTable = (failures, total) => table(["Cause", "Code", "Runs", "Share"], failures.slice(0, 12).map((one) => [
  one.cause, h("a", { href: `#/runs?status=failed&since=${range()}` }, one.code), count(one.count),
  `${(100 * one.count / Math.max(1, total)).toFixed(0)} %`]), "Failures by cause");
