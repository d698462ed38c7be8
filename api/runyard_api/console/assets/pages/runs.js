// The runs: found by filters that are in the page's address, acted on by many at once, exported.

import { get, view } from "../api.js";
import { button, dialog, empty, fill, h, runLink, showError } from "../elements.js";
import { form, labelled } from "../forms.js";
import { setQuery } from "../navigation.js";
import { copyLink } from "./copying.js";
import { figures } from "./figures.js";
import { run } from "./run.js";
import { selection } from "./run_bulk.js";
import { exporter } from "./run_export.js";
import { chips, more as moreFilters, parameters, range, views, wanted } from "./run_filters.js";
import { chooser, heads, runRow } from "./run_rows.js";

const FIRST = 30, STEP = 70, MOST_EMPTY = 5; // pages without a match that one look for words goes on behind

export default async function runs(main, id) {
  if (id) return run(main, id);
  const list = h("ul", { class: "rows runs", id: "runs" });
  const below = h("div", { class: "more" });
  const panel = h("div", { class: "figures", id: "figures" });
  let size = FIRST;
  const draw = async () => {
    const { rows, more } = await found(size);
    chosen.shown(rows, more);
    fill(list, rows.length > 0 && [heads(list, chosen.everyBox()), ...rows.map((task) => runRow(task, chosen.box(task)))]);
    fill(below, more ? button("Show more", () => { size += STEP; return draw(); }, "quiet") : !rows.length && nothing());
  };
  const chosen = selection(draw);
  const change = (part) => { setQuery(part); size = FIRST; chosen.clear(); saved.draw(); draw().catch(showError); };
  const saved = savedViews();
  const search = searchField(change);
  const agents = h("select", { "aria-label": "Agent", "data-key": "agent",
    onchange: () => change({ agent: agents.value }) }, h("option", { value: "" }, "All agents"));
  const time = range(change);
  main.append(h("h1", {}, "Runs"), panel,
    h("div", { class: "filters runs-filters" }, search, agents, time.select), time.between, chips(change),
    h("div", { class: "tools" }, moreFilters(change), saved.node, chooser(() => draw().catch(showError)),
      exporter(chosen.result)),
    chosen.bar, chosen.result, list, below);
  view.refresh = () => Promise.all([draw(), figures(panel)]);
  const [known] = await Promise.all([get("/agents?limit=100").catch(() => ({ data: [] })), view.refresh()]);
  agents.append(...known.data.map((a) => h("option", { value: a.agent_group_id,
    selected: a.agent_group_id === wanted().agent }, a.full_name)));
}

async function found(size) { // so many of those that match, newest first
  const query = new URLSearchParams({ ...parameters(), limit: String(Math.min(size, 100)) });
  const rows = [];
  for (let pages = 0; ; pages++) {
    const page = await get(`/tasks?${query}`);
    rows.push(...page.data);
    if (!page.has_more || rows.length >= size || pages - rows.length / 100 > MOST_EMPTY) {
      return { rows, more: page.has_more };
    }
    query.set("cursor", page.next_cursor);
  }
}

const nothing = () => (Object.keys(parameters()).length
  ? empty("No run matches these filters.", h("a", { href: "#/runs" }, "Show all runs"))
  : empty("No runs here yet.", h("a", { href: "#/agents" }, "Run an agent")));

function searchField(change) {
  let timer;
  const search = h("input", { type: "search", id: "search", placeholder: "Search titles, or paste a run id  ( / )",
    "aria-label": "Search runs", "data-key": "search", value: wanted().q, oninput: () => {
      clearTimeout(timer);
      const text = search.value.trim();
      if (/^[0-9a-f-]{36}$/i.test(text)) location.hash = runLink(text);
      else timer = setTimeout(() => change({ q: text }), 200);
    } });
  return search;
}

function savedViews() { // filters under a name, as links that can be shared
  const place = h("div", { class: "dropped" });
  const node = h("details", { class: "drop" }, h("summary", {}, "Views"), place);
  function draw() {
    const all = Object.entries(views.all());
    fill(place, all.map(([name, query]) => h("div", { class: "view" }, h("a", { href: `#/runs?${query}`,
      "aria-current": String(query === view.query.toString()) }, name),
    button("Delete", () => { views.remove(name); draw(); }, "quiet"))),
    !all.length && h("p", { class: "dim" }, "Filters can be saved under a name."),
    view.query.size > 0 && button("Save this view", save),
    button("Copy link", copyLink, "quiet"));
  }
  async function save() {
    const name = await dialog("Save these filters as a view", (close) => {
      const { input, nodes } = labelled("Name", "view-name", { maxlength: 60 });
      return [form(async () => {
        if (!input.value.trim()) throw new Error("A view needs a name.");
        close(input.value.trim());
      }, "Save", nodes), button("Leave it", () => close())];
    });
    if (!name) return;
    views.save(name, view.query.toString());
    draw();
  }
  draw();
  return { node, draw };
}
