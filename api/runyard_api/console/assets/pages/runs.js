// The runs: found by status, agent and words, which are in the page's address.

import { get, may, view } from "../api.js";
import { badge, button, empty, fill, h, label, runLink, showError, when } from "../elements.js";
import { setQuery } from "../navigation.js";
import { figures } from "./figures.js";
import { run } from "./run.js";

const STATUSES = ["pending", "queued", "running", "waiting_for_input", "awaiting_review", "completed", "failed",
  "stopped"];

export default async function runs(main, id) {
  if (id) return run(main, id);
  const wanted = () => ({ status: "", agent: "", q: "", ...Object.fromEntries(view.query) });
  const search = h("input", { type: "search", id: "search", placeholder: "Search titles, or paste a run id  ( / )",
    "aria-label": "Search runs", value: wanted().q });
  const agents = h("select", { "aria-label": "Agent" }, h("option", { value: "" }, "All agents"));
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Status" });
  const list = h("ul", { class: "rows", id: "runs" });
  const more = h("div", { class: "more" });
  const panel = h("div", { class: "figures", id: "figures" });
  let size = 30, timer;
  const change = (part) => { setQuery(part); size = 30; draw().catch(showError); };
  search.addEventListener("input", () => {
    clearTimeout(timer);
    const text = search.value.trim();
    if (/^[0-9a-f-]{36}$/i.test(text)) location.hash = runLink(text);
    else timer = setTimeout(() => change({ q: text }), 200);
  });
  agents.addEventListener("change", () => change({ agent: agents.value }));
  async function draw() {
    fill(chips, ["", ...STATUSES].map((status) => h("button", { type: "button", class: "chip",
      "data-key": status || "all", "aria-pressed": String(wanted().status === status),
      onclick: () => change({ status }) }, status ? label(status) : "all")));
    const query = new URLSearchParams({ limit: String(Math.min(size, 100)) });
    if (wanted().status) query.set("status", wanted().status);
    if (wanted().agent) query.set("agent_id", wanted().agent);
    if (wanted().q) query.set("q", wanted().q);
    const page = await get(`/tasks?${query}`);
    const rows = page.data;
    for (let at = page; rows.length < size && at.has_more;) { // beyond a page's hundred
      query.set("cursor", at.next_cursor);
      at = await get(`/tasks?${query}`);
      rows.push(...at.data);
      page.has_more = at.has_more;
    }
    fill(list, rows.map(runRow));
    fill(more, page.has_more ? button("Show more", () => { size += 70; return draw(); }, "quiet")
      : !rows.length && empty("No runs here yet.", h("a", { href: "#/agents" }, "Run an agent")));
  }
  main.append(h("h1", {}, "Runs"), panel, h("div", { class: "filters" }, search, agents), chips, list, more);
  view.refresh = () => Promise.all([draw(), figures(panel)]);
  const [known] = await Promise.all([get("/agents?limit=100").catch(() => ({ data: [] })), view.refresh()]);
  agents.append(...known.data.map((a) => h("option", { value: a.agent_group_id,
    selected: a.agent_group_id === wanted().agent }, a.full_name)));
}

function runRow(task) {
  return h("li", {}, h("a", { class: "row", href: runLink(task.task_id), "data-key": task.task_id },
    badge(task.status), h("span", { class: "name" }, task.agent), h("span", { class: "title" }, task.title ?? "—"),
    h("code", {}, task.task_id.slice(-12)), when(task.created_at)));
}
