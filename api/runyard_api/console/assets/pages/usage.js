// Usage: tokens and cost over time, by agent, model, API key or end user; what is left to spend.

import { get, view } from "../api.js";
import { empty, fill, h, section, showError, table } from "../elements.js";
import { setQuery } from "../navigation.js";
import { chart, colour, count, money, rangeChips, ready, shown, span } from "./charts.js";

const BY = { agent: "Agent", model: "Model", key: "API key", end_user: "End user" };
const MEASURES = { cost: ["Cost", money, (sums) => sums.cost],
  tokens: ["Tokens", count, (sums) => sums.input_tokens + sums.output_tokens],
  runs: ["Runs", count, (sums) => sums.submitted] };
const ROWS = 200;

export default async function usage(main) {
  await ready();
  const by = () => (BY[view.query.get("by")] ? view.query.get("by") : "agent");
  const measure = () => (MEASURES[view.query.get("show")] ? view.query.get("show") : "cost");
  const sums = h("div", { class: "figures", id: "sums" });
  const place = h("div");
  const rows = h("div", { id: "usage" });
  const heading = h("h2");
  let current = null, shape = "";
  async function draw() {
    const asked = new URLSearchParams({ ...span(), by: by(), limit: String(ROWS) });
    const found = await get(`/statistics/runs?${asked}`);
    fill(sums, inFigures(found.total, found.balance));
    const [title, show, read] = MEASURES[measure()];
    if (!current || shape !== measure()) {
      current = chart(title, show);
      shape = measure();
      fill(place, current.node);
    }
    heading.textContent = `${title} by ${BY[by()].toLowerCase()}`;
    const steps = shown(found);
    const most = found.groups.filter((group) => group.series?.some((point) => read(point))).slice(0, 8);
    current.draw(steps.map((point) => point.at), most.map((group, number) => ({ label: nameOf(group, by()),
      colour: colour(number), values: group.series.slice(0, steps.length).map(read), fill: most.length === 1 })));
    fill(rows, found.groups.length ? listed(found.groups, by(), found.total)
      : empty("Nothing was used in this time.", h("a", { href: "#/agents" }, "Run an agent")));
  }
  const change = (part) => { setQuery(part); draw().catch(showError); };
  const choice = (name, label, options, value) => h("select", { "aria-label": label, "data-key": name,
    onchange: (event) => change({ [name]: event.target.value }) }, Object.entries(options).map(([key, text]) =>
    h("option", { value: key, selected: key === value }, text)));
  main.append(h("div", { class: "overview-head" }, h("h1", {}, "Usage"), h("div", { class: "choices" },
    choice("by", "By", Object.fromEntries(Object.entries(BY).map(([key, text]) => [key, `By ${text.toLowerCase()}`])), by()),
    choice("show", "Show", Object.fromEntries(Object.entries(MEASURES).map(([key, [text]]) => [key, text])), measure()),
    rangeChips((name) => change({ since: name })))), sums,
    h("section", { class: "card" }, heading, place), section("In figures", rows));
  view.refresh = draw;
  await draw();
}

function inFigures(total, balance) {
  const one = (text, value, bad) => h("div", { class: bad ? "warn" : "" }, h("b", {}, value), text);
  return [one("cost", money(total.cost)), one("tokens in", count(total.input_tokens)),
    one("of them cached", count(total.cached_tokens)), one("tokens out", count(total.output_tokens)),
    one("model turns", count(total.turns)), one("runs", count(total.submitted)),
    balance != null && one("left to spend", money(balance), balance <= 0)];
}

const nameOf = (group, by) => group.name ?? (group.id == null ? "Others" : by === "model" ? group.id : group.id.slice(-12));

function listed(groups, by, total) {
  const cells = groups.map((group) => {
    const sums = group.total;
    const name = nameOf(group, by);
    return [by === "agent" && group.id ? h("a", { href: `#/runs?agent=${group.id}` }, name)
      : by === "end_user" && group.id ? h("a", { href: `#/runs?user=${group.id}` }, name) : name,
    money(sums.cost), total.cost ? `${(100 * sums.cost / total.cost).toFixed(0)} %` : "—", count(sums.input_tokens),
    count(sums.output_tokens), count(sums.turns), ...(by === "model" ? [] : [count(sums.submitted), count(sums.failed)])];
  });
  return table([BY[by], "Cost", "Share", "Tokens in", "Tokens out", "Turns", ...(by === "model" ? [] : ["Runs", "Failed"])],
    cells, `Usage by ${BY[by].toLowerCase()}`);
}
