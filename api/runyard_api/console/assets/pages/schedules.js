// The schedules, as a list or on the days to come; one of them with its history; and the form that makes and edits one.

import { get, may, post, remove, view } from "../api.js";
import { badge, button, dialog, empty, fill, h, json, runLink, section, showError, table, title, toast,
  when } from "../elements.js";
import { setQuery } from "../navigation.js";
import { backfill } from "./backfill.js";
import { calendar } from "./calendar.js";
import { scheduleForm } from "./schedule_form.js";

const link = (id) => `#/schedules/${encodeURIComponent(id)}`;
const name = (s) => s.name ?? `${s.agent}, ${s.schedule}`;

const times = (n) => (n === 1 ? "1 run" : `${n} runs`);

// When it runs, in the words it was written with.
const written = (s) => [s.kind === "delay" ? `${s.schedule} s after it was made` : `${s.schedule}`,
  s.kind !== "delay" && s.timezone].filter(Boolean).join(" · ");

export default async function schedules(main, id) {
  const writes = may("schedules:write") && may("runs:create");
  if (view.query.has("new") && writes) return edit(main, null);
  if (id && writes && view.query.has("edit")) return edit(main, await get(`/schedules/${id}`));
  if (id) return schedule(main, id);
  const days = view.query.get("view") === "calendar";
  const list = h("div", {});
  main.append(title("Schedules", h("a", { class: "button", href: days ? "#/schedules" : "#/schedules?view=calendar",
    "data-key": "view" }, days ? "List" : "Calendar"), writes &&
    h("a", { class: "button primary", href: "#/schedules?new=" }, "New schedule")), list);
  if (days) return calendar(list);
  return listed(list);
}

async function listed(main) {
  const states = [["", "all"], ["active", "active"], ["paused", "paused"], ["finished", "finished"]];
  const chips = h("div", { class: "chips", role: "group", "aria-label": "State" });
  const list = h("ul", { class: "rows" }), more = h("div", { class: "more" });
  let size = 50;
  async function draw() {
    const state = view.query.get("state") ?? "";
    fill(chips, states.map(([key, text]) => h("button", { type: "button", class: "chip", "data-key": `state-${key}`,
      "aria-pressed": String(key === state), onclick: () => { setQuery({ state: key }); draw().catch(showError); } }, text)));
    const rows = [];
    let at = { has_more: true };
    while (at.has_more && rows.length < size) {
      at = await get(`/schedules?${new URLSearchParams({ limit: "50", ...(state && { state }),
        ...(at.next_cursor && { cursor: at.next_cursor }) })}`);
      rows.push(...at.data);
    }
    fill(list, rows.map((s) => scheduleRow(s, draw)));
    fill(more, at.has_more ? button("Show more", () => { size += 50; return draw(); }, "quiet")
      : !rows.length && empty("Nothing is scheduled here. A schedule runs an agent at a date, after a delay, or again and again."));
  }
  main.append(chips, list, more);
  view.refresh = draw;
  await draw();
}

function scheduleRow(s, draw) {
  return h("li", { class: "entry schedule" },
    h("div", {}, h("a", { class: "name", href: link(s.id), "data-key": s.id }, name(s)), h("small", {}, written(s))),
    h("span", { class: "dim agent-name" }, s.agent), badge(s.state),
    h("span", { class: "dim" }, s.next_run_at ? ["next ", when(s.next_run_at)] : times(s.fired)),
    h("span", { class: "acts" }, actions(s, draw)));
}

function actions(s, draw, kind = "quiet") {
  if (!may("schedules:write")) return [];
  const act = (text, verb) => button(text, async () => {
    await post(`/schedules/${s.id}/${verb}`);
    toast(`${text}: done.`);
    await draw();
  }, kind);
  return [s.state !== "finished" && may("runs:create") && act("Run now", "trigger"),
    s.state === "active" && act("Pause", "pause"), s.state === "paused" && act("Resume", "resume")];
}

async function schedule(main, id) {
  const path = `/schedules/${id}`;
  const head = h("div", {}), next = h("div", {}), history = h("div", {}), about = h("div", {});
  let size = 20;
  async function draw() {
    const [s, coming, fires] = await Promise.all([get(path), get(`${path}/preview?count=10`).catch(() => ({ data: [] })),
      get(`${path}/fires?limit=${size}`)]);
    document.title = `${name(s)} · Runyard`;
    fill(head, scheduleHead(s, path, draw));
    fill(next, coming.data.length ? upcoming(coming.data) : h("p", { class: "dim" }, "It is not due again."),
      s.state === "paused" && h("p", { class: "dim" }, "As if it were resumed now."));
    fill(history, fires.data.length ? fireTable(fires.data) : h("p", { class: "dim" }, "It has not been due yet."),
      fires.has_more && size < 100 && button("Show more", () => { size = 100; return draw(); }, "quiet"));
    fill(about, facts(s), section("The run it makes", json(s.run)));
  }
  main.append(h("a", { class: "back", href: "#/schedules" }, "← Schedules"), head, h("div", { class: "split" },
    h("div", {}, section("Next", next), section("History", history)), about));
  view.refresh = draw;
  await draw();
}

// Due times to come: on the schedule's clocks, with what a shift of the clocks does to one.
export const upcoming = (found) => h("ol", { class: "times" }, found.map((one) => h("li", {},
  h("span", {}, `${new Date(`${one.local.slice(0, 10)}T12:00:00Z`).toLocaleDateString(undefined, { weekday: "short", timeZone: "UTC" })} `,
    h("code", {}, one.local.slice(0, 16).replace("T", " "))), h("small", {}, when(one.at)), one.note && h("small", { class: "off" }, one.note))));

const fireTable = (fires) => table(["Due", "Outcome", "Run"], fires.map((one) => [when(one.due_at),
  [badge(one.outcome), one.reason && h("small", {}, ` ${one.reason}`)].filter(Boolean),
  one.task_id ? h("a", { href: runLink(one.task_id), "data-key": one.task_id }, one.task?.title ?? one.task_id.slice(-12)) : "—"]), "History");

function scheduleHead(s, path, draw) {
  const stop = async () => {
    const chosen = await dialog(`Delete ${name(s)} and its history? Runs that it made stay.`, (close) => h("div", { class: "actions" },
      button("Delete", () => close("keep"), "danger"), button("Delete and stop its run", () => close("stop"), "danger"),
      button("Leave it", () => close(null))));
    if (!chosen) return;
    await remove(`${path}?stop_running=${chosen === "stop"}`);
    toast("Deleted.");
    location.hash = "#/schedules";
  };
  return [h("div", { class: "head" }, h("h1", {}, name(s)), badge(s.state), h("div", { class: "actions" }, actions(s, draw, ""),
    may("schedules:write") && may("runs:create") && s.kind === "cron" && button("Backfill", () => backfill(s, draw)),
    may("schedules:write") && may("runs:create") && h("a", { class: "button", href: `${link(s.id)}?edit=1` }, "Edit"),
    may("schedules:delete") && button("Delete", stop, "danger"))),
  h("p", { class: "sub" }, h("a", { href: `#/agents/${encodeURIComponent(s.agent)}` }, s.agent), " · ", h("code", {}, written(s)),
    s.paused_reason && ` · paused: ${s.paused_reason}`)];
}

function facts(s) {
  const rows = [["kind", s.kind], ["while one runs", s.overlap], ["missed times", s.catch_up], ["ran", times(s.fired)],
    ["at most", s.max_fires && times(s.max_fires)], ["failures in a row", s.failures || null],
    ["pauses after", s.pause_after_failures && `${s.pause_after_failures} failures`], ["until", when(s.end_at)],
    ["spread over", s.jitter_s ? `${s.jitter_s} s` : null], ["made", when(s.created_at)], ["finished", when(s.finished_at)]];
  return section("About", h("dl", { class: "facts" }, rows.filter(([, value]) => value)
    .flatMap(([key, value]) => [h("dt", {}, key), h("dd", {}, value)])));
}

async function edit(main, s) {
  const back = s ? link(s.id) : "#/schedules";
  main.append(h("a", { class: "back", href: back }, s ? `← ${name(s)}` : "← Schedules"),
    h("h1", {}, s ? "Edit the schedule" : "New schedule"));
  await scheduleForm(main, s, view.query.get("new"), (made) => { location.hash = link(made.id); });
}
