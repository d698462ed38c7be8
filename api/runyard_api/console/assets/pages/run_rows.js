// The rows of the page of runs, and the columns that a person has chosen for them.

import { badge, duration, h, runLink, when } from "../elements.js";
import { keep, kept } from "./run_filters.js";

const CHOSEN = "runyard.runs.columns";
const tokens = (usage) => (usage?.input_tokens ?? 0) + (usage?.output_tokens ?? 0);
const short = (id) => id && h("code", { title: id }, id.length > 20 ? `…${id.slice(-12)}` : id);

// By name: its heading, its width, and what it shows of a run.
export const COLUMNS = {
  version: ["Version", "5rem", (t) => t.version],
  wait: ["Wait", "5rem", (t) => duration(t.created_at, t.started_at ?? t.finished_at)],
  duration: ["Duration", "5rem", (t) => t.started_at && duration(t.started_at, t.finished_at)],
  attempt: ["Attempts", "5rem", (t) => t.attempt],
  tokens: ["Tokens", "5.5rem", (t) => tokens(t.usage) > 0 && tokens(t.usage).toLocaleString()],
  cost: ["Cost", "5rem", (t) => t.cost > 0 && `$${t.cost.toFixed(4)}`],
  session: ["Session", "8rem", (t) => short(t.session_id)],
  user: ["End user", "8rem", (t) => short(t.end_user_id)],
  by: ["Started by", "8rem", (t) => short(t.created_by)],
  via: ["Via", "5rem", (t) => t.front],
  id: ["Id", "8rem", (t) => short(t.task_id)],
  created: ["Created", "11rem", (t) => new Date(t.created_at).toLocaleString()],
};

export const columns = {
  get chosen() { return kept(CHOSEN, ["duration", "id"]).filter((name) => name in COLUMNS); },
  set chosen(names) { keep(CHOSEN, names); },
};

export function chooser(changed) { // which columns are shown
  return h("details", { class: "drop" }, h("summary", {}, "Columns"), h("div", { class: "dropped" },
    Object.entries(COLUMNS).map(([name, [text]]) => {
      const box = h("input", { type: "checkbox", checked: columns.chosen.includes(name), onchange: () => {
        const chosen = new Set(columns.chosen);
        if (box.checked) chosen.add(name);
        else chosen.delete(name);
        columns.chosen = Object.keys(COLUMNS).filter((one) => chosen.has(one));
        changed();
      } });
      return h("label", {}, box, text);
    })));
}

export function heads(list, box) { // the headings above the rows, for wide screens: each cell has its name for itself
  const shown = columns.chosen;
  list.style.setProperty("--columns", ["8.5rem", "minmax(8rem, 1.1fr)", "minmax(7rem, 2fr)",
    ...shown.map((name) => COLUMNS[name][1]), "5.5rem"].join(" "));
  return h("li", { class: "heads" }, box, h("div", { class: "row-cells", "aria-hidden": "true" }, h("span", {}, "Status"),
    h("span", {}, "Agent"), h("span", {}, "Run"), shown.map((name) => h("span", {}, COLUMNS[name][0])),
    h("span", { class: "last" }, "When")));
}

export function runRow(task, box) {
  return h("li", {}, box, h("a", { class: "row row-cells", href: runLink(task.task_id), "data-key": task.task_id },
    badge(task.status), h("span", { class: "name" }, task.agent, task.parent_id && h("small", { title: "Started by another run" }, " ↳")),
    task.title ? h("span", { class: "title" }, task.title) : h("span", { class: "title code" }, task.preview ?? "—"),
    columns.chosen.map((name) => h("span", { class: "cell" }, h("span", { class: "cell-name" }, `${COLUMNS[name][0]} `),
      COLUMNS[name][2](task) || "—")),
    when(task.created_at)));
}
