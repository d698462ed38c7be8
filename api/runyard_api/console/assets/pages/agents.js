// The agents, found by name; one of them with a form to run it, its versions and what it is made of.

import { get, may, patch, remove, view } from "../api.js";
import { badge, button, dangerous, empty, fill, h, json, label, runLink, section, showError, title, toast, when }
  from "../elements.js";
import { setQuery } from "../navigation.js";
import { publishForm, template } from "./agent_publish.js";
import { versions } from "./agent_versions.js";
import { tryIt } from "./agent_try.js";

const agentPath = (name) => `/agents/${name.split("/").map((part) => encodeURIComponent(part).replace("%40", "@")).join("/")}`;
const link = (name, tab) => `#/agents/${encodeURIComponent(name)}${tab ? `?tab=${tab}` : ""}`;

export default async function agents(main, name) {
  if (name) return agent(main, name);
  if (view.query.has("publish")) return publishNew(main);
  const search = h("input", { type: "search", id: "search", placeholder: "Search agents  ( / )",
    "aria-label": "Search agents", value: view.query.get("q") });
  const kinds = h("select", { "aria-label": "Kind", onchange: () => { setQuery({ kind: kinds.value }); draw(); } },
    [["", "All kinds"], ["declared", "declared"], ["python", "python"]].map(([value, text]) =>
      h("option", { value, selected: value === (view.query.get("kind") ?? "") }, text)));
  const list = h("ul", { class: "rows" }), more = h("div", { class: "more" });
  let found = [], late = new Map(), next = null, timer = null;

  async function load(cursor) {
    const query = new URLSearchParams({ limit: "100", ...(search.value.trim() && { q: search.value.trim() }),
      ...(cursor && { cursor }) });
    const [page, runs] = await Promise.all([get(`/agents?${query}`), cursor ? null : get("/tasks?limit=100")]);
    if (runs) late = Map.groupBy(runs.data, (run) => run.agent_group_id);
    found = cursor ? found.concat(page.data) : page.data;
    next = page.has_more ? page.next_cursor : null;
    draw();
  }

  function draw() {
    const byAgent = Map.groupBy(found, (one) => one.agent_group_id);
    const rows = [...byAgent.values()].map((all) => all.find((one) => one.is_current) ?? all[0])
      .filter((one) => !kinds.value || one.kind === kinds.value).sort((a, b) => a.full_name.localeCompare(b.full_name));
    fill(list, rows.map((one) => agentRow(one, late.get(one.agent_group_id) ?? [],
      byAgent.get(one.agent_group_id).some((other) => other.status === "draft" && !other.is_current))));
    fill(more, next ? button("Show more", () => load(next), "quiet") : !rows.length && (search.value || kinds.value
      ? empty("No agent is called so.")
      : empty("No agents are published. Start a worker that has some, or publish a declared agent here.")));
  }

  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => { setQuery({ q: search.value.trim() }); load().catch(showError); }, 200);
  });
  main.append(title("Agents", may("agents:write") && h("a", { class: "button", href: "#/agents?publish=declared" },
    "Publish an agent")), h("div", { class: "filters" }, search, kinds), list, more);
  view.refresh = () => found.length <= 100 && load();
  await load();
}

function agentRow(a, runs, draft) {
  return h("li", {}, h("a", { class: "row agent", href: link(a.full_name), "data-key": a.full_name },
    h("span", { class: "name" }, a.full_name), h("span", { class: "title" }, a.description ?? ""), lately(runs),
    h("code", {}, a.version), h("small", {}, [a.kind, draft && "draft", a.shared && "shared"].filter(Boolean).join(" · ")),
    a.is_active ? null : h("small", { class: "off" }, "deactivated")));
}

function lately(runs) { // its last runs, the newest at the right
  const some = runs.slice(0, 8);
  const counts = Object.entries(Object.groupBy(some, (run) => run.status)).map(([s, of]) => `${of.length} ${label(s)}`);
  return h("span", { class: "lately", title: some.length ? `Last ${some.length} runs: ${counts.join(", ")}` : "No recent run" },
    h("span", { class: "unseen" }, some.length ? `last runs: ${counts.join(", ")}` : "no recent run"),
    some.toReversed().map((run) => h("i", { class: run.status, "aria-hidden": "true" })));
}

async function publishNew(main) {
  main.append(h("a", { class: "back", href: "#/agents" }, "← Agents"), h("h1", {}, "Publish an agent"),
    section("Manifest", publishForm(template, (made) => { location.hash = link(made.full_name); })));
}

const TABS = [["", "Try it"], ["versions", "Versions and tags"], ["definition", "Definition"]];

async function agent(main, name) {
  const path = agentPath(name);
  const a = await get(path);
  const tab = view.query.get("tab") ?? "";
  main.append(h("a", { class: "back", href: "#/agents" }, "← Agents"),
    h("div", { class: "head" }, h("h1", {}, a.full_name), a.is_active ? null : badge("deactivated"),
      h("div", { class: "actions" }, agentActions(path, a))),
    h("p", { class: "sub" }, a.description ?? ""),
    h("div", { class: "chips tabs", role: "group", "aria-label": "Parts" }, TABS.map(([key, text]) => h("a",
      { class: "chip", href: link(name, key), "data-key": `tab-${key}`, "aria-current": key === tab ? "page" : "false" }, text))));
  if (tab === "versions") return versions(main, path, a);
  if (tab === "definition") return main.append(section("Definition", h("p", { class: "sub" },
    "The manifest of the version that runs. Credentials are not shown."), json(a.manifest)));
  const runs = h("div", {});
  main.append(h("div", { class: "split" }, tryIt(path, a, () => recent(runs, a).catch(showError)),
    h("div", {}, about(a), section("Recent runs", runs))));
  view.refresh = () => recent(runs, a);
  await recent(runs, a);
}

function agentActions(path, a) {
  const again = () => dispatchEvent(new HashChangeEvent("hashchange"));
  const activate = async (active) => {
    await patch(path, { is_active: active });
    toast(active ? "Activated." : "Deactivated: it takes no further runs.");
    again();
  };
  return [may("schedules:write") && h("a", { class: "button", href: `#/schedules?new=${encodeURIComponent(a.full_name)}` },
    "Schedule it"),
  may("agents:write") && (a.is_active
    ? dangerous("Deactivate", `Deactivate ${a.full_name}? New runs are refused; those under way go on.`, () => activate(false))
    : button("Activate", () => activate(true), "primary")),
  may("agents:delete") && dangerous("Delete", `Delete ${a.full_name} with all its versions? Its runs stay.`, async () => {
    await remove(path);
    toast("Deleted.");
    location.hash = "#/agents";
  })];
}

function about(a) {
  const m = a.manifest;
  const facts = [["kind", a.kind], ["version", a.version], ["published", when(a.updated_at)],
    ["runs at once", m.max_concurrent], ["isolation", m.isolation], ["memory, MiB", m.memory_mb],
    ["processor seconds", m.cpu_seconds], ["timeout", m.timeout && `${m.timeout} s`], ["model", m.model], ["mode", m.mode],
    ["tools", m.tools?.length && m.tools.map((tool) => (typeof tool === "string" ? tool : tool.name ?? tool.type)).join(", ")],
    ["needs review", m.review?.length && m.review.join(", ")]];
  return section("About", h("dl", { class: "facts" }, facts.filter(([, value]) => value != null && value !== 0)
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, typeof value === "number" ? `${value}` : value)])));
}

async function recent(node, a) {
  const { data } = await get(`/tasks?limit=8&agent_id=${a.agent_group_id}`);
  fill(node, data.length ? h("ul", { class: "brief" }, data.map((run) => h("li", {}, badge(run.status),
    h("a", { href: runLink(run.task_id), "data-key": run.task_id }, run.title ?? run.task_id.slice(-12)), when(run.created_at))))
    : h("p", { class: "dim" }, "It has not run yet."));
}
