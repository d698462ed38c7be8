// The form of a schedule, new or to change, with the next times as one writes.

import { get, patch, post } from "../api.js";
import { fill, h, section, showError } from "../elements.js";
import { form, labelled } from "../forms.js";
import { FIELDS, runFields } from "./run_form.js";
import { upcoming } from "./schedules.js";

const KINDS = [["cron", "Again and again (cron)"], ["date", "Once, at a date"], ["delay", "Once, after a delay"]];
const LINES = [["", "Write your own"], ["0 * * * *", "Every hour"], ["0 9 * * *", "Every day at 9:00"],
  ["0 9 * * mon-fri", "Monday to Friday at 9:00"], ["0 9 * * mon", "Every Monday at 9:00"], ["0 9 1 * *", "The 1st of every month at 9:00"]];
const UNITS = [[1, "seconds"], [60, "minutes"], [3600, "hours"], [86400, "days"]];
const OVERLAP = [["", "the default: skip it"], ["skip", "skip it"], ["queue", "wait for the earlier run"], ["allow", "run both"],
  ["stop_running", "stop the earlier run"]];
const MISSED = [["", "the default: make up for the last"], ["none", "leave them out"], ["last", "make up for the last"], ["all", "make up for all"]];

const select = (id, text, options, value, name = id) => {
  const node = h("select", { id, name, "data-key": id }, options.map(([key, words]) =>
    h("option", { value: key, selected: String(key) === String(value ?? "") }, words)));
  return { node: h("div", { class: "field" }, h("label", { for: id }, text), node), input: node };
};
const typed = (id, text, attributes, hint) => {
  const { input, nodes } = labelled(text, id, { required: false, "data-key": id, name: id, ...attributes });
  return { input, node: h("div", { class: "field" }, nodes, hint && h("small", {}, hint)) };
};
const number = (input) => (input.value.trim() === "" ? null : Number(input.value));

// Draws it; `made` gets the schedule once it is stored. `s` is the one to change, `agent` whose name to begin with.
export async function scheduleForm(main, s, agent, made) {
  const { data } = await get("/agents?limit=100");
  const names = [...new Set([...data.filter((one) => one.is_active).map((one) => one.full_name), s?.agent ?? agent].filter(Boolean))].sort();
  const time = times(s), rules = policies(s);
  const title = typed("name", "Name", { maxlength: 200, value: s?.name });
  const chosen = select("agent", "Agent", names.map((one) => [one, one]), s?.agent ?? agent ?? names[0]);
  const run = h("div", {}), next = h("div", { "aria-live": "polite" });
  let fields = null, before = "", given = s?.run ?? {};
  const load = async () => {
    const found = await get(`/agents/${chosen.input.value}`);
    try { given = fields?.read() ?? given; } catch { /* what was typed for another agent is no run yet */ }
    fields = runFields(found, given, { files: false });
    fill(run, fields.node);
    try { before = JSON.stringify(fields.read()); } catch { before = ""; } // a required argument is missing
  };
  if (s) chosen.input.disabled = true; // a schedule keeps its agent
  chosen.input.addEventListener("change", () => load().catch(showError));
  const look = looked(time, rules, next);
  const store = async () => {
    const body = { name: title.input.value.trim() || null, timezone: time.zone.input.value, schedule: time.read(), ...rules.read(!s), run: fields.read() };
    if (s && JSON.stringify(body.run) === before) delete body.run;
    else if (s) body.run = merged(s.run, body.run);
    made(s ? await patch(`/schedules/${s.id}`, changed(body, s)) : await post("/schedules", { ...body, agent: chosen.input.value }));
  };
  const filled = form(store, s ? "Save" : "Make the schedule", [h("div", { class: "split" },
    h("div", {}, section("When", title.node, time.node), section("What", chosen.node, run)),
    h("div", {}, section("Next times", next), section("Rules", rules.node)))]);
  filled.addEventListener("input", look);
  main.append(filled);
  look();
  await load();
}

// What the form does not show of a run stays. Credentials are not shown: with them a run cannot be written back.
function merged(stored, run) {
  const rest = Object.fromEntries(Object.entries(stored).filter(([name]) => !FIELDS.includes(name)));
  const same = stored.callback && run.callback?.url === stored.callback.url;
  const whole = { ...rest, ...run, ...(same && { callback: stored.callback }) };
  if (JSON.stringify(whole).includes("********")) {
    throw new Error("The run has credentials, which the console does not have. Change it over the API, or make a new schedule.");
  }
  return whole;
}

function changed(body, s) { // what is as it was is left out: new times count from now
  const same = body.schedule === s.schedule && body.timezone === s.timezone;
  const { schedule, timezone, ...rest } = body;
  return same ? rest : { schedule, timezone, ...rest };
}

function times(s) {
  const kind = select("kind", "Runs", KINDS, s?.kind ?? "cron");
  const lines = select("line", "Common times", LINES, "");
  const cron = typed("schedule", "Cron line", { class: "code", value: s?.kind === "cron" ? s.schedule : "0 9 * * mon-fri", spellcheck: "false" },
    "Minute, hour, day of month, month, day of week.");
  const date = typed("date", "Date and time", { type: "datetime-local", name: "schedule", value: s?.kind === "date" ? `${s.schedule}`.slice(0, 16) : "" });
  const delay = typed("delay", "Delay", { type: "number", min: 0, step: "any", name: "schedule", value: s?.kind === "delay" ? s.schedule : 10 });
  const unit = select("unit", "Unit", UNITS, s?.kind === "delay" ? 1 : 60);
  const here = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const zone = typed("timezone", "Time zone", { list: "zones", value: s?.timezone ?? here });
  const zones = h("datalist", { id: "zones" }, ["UTC", ...Intl.supportedValuesOf("timeZone")].map((one) => h("option", { value: one })));
  const parts = { cron: [lines.node, cron.node, zone.node], date: [date.node, zone.node], delay: [delay.node, unit.node] };
  const all = h("div", {}, lines.node, cron.node, date.node, h("div", { class: "pairs two" }, delay.node, unit.node), zone.node, zones);
  const show = () => Object.values(parts).flat().forEach((node) => { node.hidden = !parts[kind.input.value].includes(node); });
  kind.input.addEventListener("change", show);
  lines.input.addEventListener("change", () => { if (lines.input.value) cron.input.value = lines.input.value; });
  show();
  return { node: h("div", {}, kind.node, all), zone, read: () => {
    if (kind.input.value === "cron") return cron.input.value.trim();
    if (kind.input.value === "date") return s?.kind === "date" && date.input.value === `${s.schedule}`.slice(0, 16) ? s.schedule : date.input.value;
    return Number(delay.input.value) * Number(unit.input.value);
  } };
}

function policies(s) {
  const overlap = select("overlap", "While an earlier run goes on", s ? OVERLAP.slice(1) : OVERLAP, s?.overlap);
  const missed = select("catch_up", "Of times that were missed", s ? MISSED.slice(1) : MISSED, s?.catch_up);
  const most = typed("max_fires", "Ends after so many runs", { type: "number", min: 1, value: s?.max_fires });
  const failures = typed("pause_after_failures", "Pauses after so many failures in a row", { type: "number", min: 1, value: s?.pause_after_failures });
  const jitter = typed("jitter_s", "Spread over, seconds", { type: "number", min: 0, step: "any", value: s?.jitter_s || null });
  const end = typed("end_at", "Ends at", { type: "datetime-local", value: local(s?.end_at) });
  const ends = () => end.input.value && new Date(end.input.value).toISOString();
  return { node: h("div", {}, [overlap, missed, most, end, failures, jitter].map((one) => one.node)), most, ends,
    read: (fresh) => Object.fromEntries(Object.entries({ overlap: overlap.input.value, catch_up: missed.input.value,
      max_fires: number(most.input), pause_after_failures: number(failures.input), jitter_s: number(jitter.input) ?? 0, end_at: ends() || null })
      .filter(([, value]) => value !== "" && !(fresh && value === null))) };
}

function local(at) { // as a datetime-local field has it, on this machine's clocks
  if (!at) return null;
  const date = new Date(at);
  return new Date(date - date.getTimezoneOffset() * 60000).toISOString().slice(0, 16);
}

function looked(time, rules, node) { // shows the next times shortly after the last key
  let timer = null, latest = 0;
  const show = async () => {
    const mine = ++latest, given = time.read();
    const body = { schedule: given, timezone: time.zone.input.value || "UTC", count: 8,
      ...(rules.ends() && { end_at: rules.ends() }), ...(number(rules.most.input) && { max_fires: number(rules.most.input) }) };
    try {
      if (given === "") return fill(node, h("p", { class: "dim" }, "Write when it runs."));
      const found = await post("/schedules/preview", body);
      if (mine === latest) fill(node, found.data.length ? upcoming(found.data) : h("p", { class: "bad" }, "It is never due."));
    } catch (error) {
      if (mine === latest) fill(node, h("p", { class: "bad", role: "alert" }, error.message));
    }
    return null;
  };
  return () => { clearTimeout(timer); timer = setTimeout(show, 250); };
}
