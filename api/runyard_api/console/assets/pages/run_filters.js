// What the page of runs asks for: its filters, which are in the page's address, as parameters of the API and as fields.

import { view } from "../api.js";
import { fill, h, label } from "../elements.js";

export const STATUSES = ["pending", "queued", "running", "waiting_for_input", "awaiting_review", "completed", "failed",
  "stopped"];
const RANGES = { "1h": ["Last hour", 3600], "24h": ["Last 24 hours", 86400], "7d": ["Last 7 days", 604800],
  "30d": ["Last 30 days", 2592000] };
// By name in the address: the parameter of the API, and what the field is called.
const IDS = { session: ["session_id", "Session"], parent: ["parent_id", "Children of run"],
  user: ["end_user_id", "End user"], by: ["created_by", "Started by"], schedule: ["schedule_id", "Schedule"],
  error: ["error_code", "Error code"] };
const HINTS = { by: "key:… or user:…", error: "such as worker_lost" };

export const wanted = () => ({ status: "", agent: "", q: "", since: "", after: "", before: "",
  ...Object.fromEntries(view.query) });

// The parameters of GET /tasks, which bulk actions take as their filter.
export function parameters() {
  const given = wanted();
  const found = { status: given.status, agent_id: given.agent, q: given.q };
  if (RANGES[given.since]) found.created_after = new Date(Date.now() - RANGES[given.since][1] * 1000).toISOString();
  if (given.after) found.created_after = given.after;
  if (given.before) found.created_before = given.before;
  for (const [name, [parameter]] of Object.entries(IDS)) found[parameter] = given[name];
  return Object.fromEntries(Object.entries(found).filter(([, value]) => value));
}

// The filters in words, for what asks whether they are meant.
export const inWords = () => Object.keys(parameters()).length
  ? `that match ${[...view.query].map(([name, value]) => `${name} ${value}`).join(", ")}` : "of all agents";

export function chips(change) { // of statuses: each is pressed by itself, "all" lets go of them
  const node = h("div", { class: "chips", role: "group", "aria-label": "Status" });
  const draw = () => {
    const chosen = new Set(wanted().status.split(",").filter(Boolean));
    fill(node, ["", ...STATUSES].map((status) => h("button", { type: "button", class: "chip",
      "data-key": status || "all", "aria-pressed": String(status ? chosen.has(status) : !chosen.size),
      onclick: () => {
        if (!status) chosen.clear();
        else if (!chosen.delete(status)) chosen.add(status);
        change({ status: [...chosen].join() });
        draw();
      } }, status ? label(status) : "all")));
  };
  draw();
  return node;
}

const local = (iso) => { // as a field for dates and times has it
  if (!iso) return "";
  const at = new Date(iso);
  return new Date(at - at.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
};

export function range(change) { // a span that ends now, or one between two moments
  const moments = ["after", "before"].map((name) => h("input", { type: "datetime-local", value: local(wanted()[name]),
    "aria-label": name === "after" ? "Created after" : "Created before", "data-key": name,
    onchange: (event) => change({ [name]: event.target.value && new Date(event.target.value).toISOString() }) }));
  const own = () => wanted().since === "own" || wanted().after || wanted().before;
  const between = h("div", { class: "between", hidden: !own() }, moments[0], h("span", {}, "to"), moments[1]);
  const select = h("select", { "aria-label": "Time range", "data-key": "since", onchange: () => {
    between.hidden = select.value !== "own";
    if (between.hidden) moments.forEach((input) => { input.value = ""; });
    change(between.hidden ? { since: select.value, after: "", before: "" } : { since: "own" });
  } }, h("option", { value: "" }, "Any time"),
  Object.entries(RANGES).map(([name, [text]]) => h("option", { value: name, selected: wanted().since === name }, text)),
  h("option", { value: "own", selected: Boolean(own()) }, "Between…"));
  return { select, between };
}

export function more(change) { // fields for ids, folded unless one is in use
  const used = Object.keys(IDS).filter((name) => wanted()[name]);
  const count = h("small", {}, used.length ? `${used.length} in use` : "");
  const fields = Object.entries(IDS).map(([name, [, text]]) => {
    const input = h("input", { id: `filter-${name}`, value: wanted()[name] ?? "", spellcheck: "false", placeholder: HINTS[name],
      "data-key": `filter-${name}`, onchange: () => change({ [name]: input.value.trim() }) });
    return h("div", { class: "field" }, h("label", { for: input.id }, text), input);
  });
  return h("details", { class: "more-filters", open: used.length > 0 }, h("summary", {}, "More filters ", count),
    h("div", { class: "fields" }, fields));
}

/* ---- filters and columns by name, kept in this browser ---- */

const VIEWS = "runyard.runs.views";

export function kept(name, otherwise) { // a value of this browser; `otherwise` where it has none that can be read
  try { return JSON.parse(localStorage.getItem(name)) ?? otherwise; } catch { return otherwise; }
}
export const keep = (name, value) => localStorage.setItem(name, JSON.stringify(value));

export const views = {
  all: () => kept(VIEWS, {}),
  save: (name, query) => keep(VIEWS, { ...views.all(), [name]: query }),
  remove: (name) => keep(VIEWS, Object.fromEntries(Object.entries(views.all()).filter(([one]) => one !== name))),
};

