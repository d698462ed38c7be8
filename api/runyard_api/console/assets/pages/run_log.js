// The log of a run as a story: an event in a few words, which opens to all it holds.

import { duration, fill, h, json } from "../elements.js";
import { traceback } from "../traceback.js";

const short = (value) => {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
};

const SUMMARIES = { // an event of the log in a few words
  submit: (d) => (d.held_by ? `held by ${d.held_by}` : "stored"),
  hold: (d) => d.held_by && `held by ${d.held_by}`,
  admit: (d) => d.after && `after ${d.after}`,
  ask: (d) => d.asked?.map((q) => q.text).join(" · "),
  review: (d) => d.asked?.map((q) => q.text).join(" · "),
  answer: (d) => Object.values(d.answers ?? {}).map(short).join(" · "),
  decide: (d) => [d.decision, d.reason].filter(Boolean).join(": "),
  step: (d) => d.name,
  progress: (d) => `${Math.round((d.fraction ?? 0) * 100)} % ${d.message ?? ""}`,
  log: (d) => d.message,
  message: (d) => d.text,
  thinking: (d) => d.text,
  custom: (d) => `${d.name}: ${short(d.data)}`,
  tool_call: (d) => `${d.tool}(${short(d.arguments)})`,
  tool_result: (d) => `${d.tool}: ${d.outcome}, ${d.seconds} s`,
  model_turn: (d) => `${d.model}: ${d.usage?.input_tokens} in, ${d.usage?.output_tokens} out`,
  handoff: (d) => `${d.from} → ${d.to}`,
  fail: (d) => d.error?.message ?? d.message ?? d.code,
  retry: (d) => d.error?.message ?? d.code,
};
export const summary = (event) => SUMMARIES[event.type]?.(event.data ?? {}) ?? "";

export function logLine(event, before, opened) { // `opened` is called with the event's number when it is opened
  const data = event.data ?? {};
  const { status, ...more } = data;
  const trace = data.error?.details?.traceback;
  if (trace) more.error = { ...data.error, details: { ...data.error.details, traceback: undefined } };
  const since = before ? `+${duration(before.at, event.at)}` : "";
  const title = [h("b", {}, event.type.replaceAll("_", " ")), h("span", {}, summary(event)),
    h("small", { title: new Date(event.at).toLocaleString() }, since)];
  const detail = Object.keys(more).length > 0;
  const open = (change) => { if (change.target.open) opened(event.seq); };
  return h("li", { class: `${event.type} to-${status ?? ""}`, "data-seq": event.seq },
    detail ? h("details", { ontoggle: open }, h("summary", {}, title), trace && traceback(trace), json(more))
      : h("div", { class: "plain" }, title));
}

const WRITTEN = new Set(["log", "progress", "custom", "print"]);

export function logs(node, events) { // what the agent wrote, found by words and by kind
  const kinds = [...new Set(events.filter((e) => WRITTEN.has(e.type)).map((e) => e.type))];
  const list = h("ol", { class: "lines", id: "lines", tabindex: 0, "aria-label": "Log" });
  const words = h("input", { type: "search", "aria-label": "Filter the log", placeholder: "Filter", "data-key": "log-words",
    oninput: () => draw() });
  const kind = h("select", { "aria-label": "Kind of line", "data-key": "log-kind", onchange: () => draw() },
    h("option", { value: "" }, "All kinds"), kinds.map((one) => h("option", { value: one }, one)));
  const state = h("p", { class: "dim", role: "status" });
  function draw(all = events) {
    events = all;
    const part = words.value.trim().toLowerCase();
    const found = events.filter((event) => WRITTEN.has(event.type) && (!kind.value || event.type === kind.value)
      && (!part || JSON.stringify(event.data).toLowerCase().includes(part)));
    fill(list, found.map((event) => h("li", { class: event.data?.level ?? event.type },
      h("time", { title: new Date(event.at).toLocaleString() }, new Date(event.at).toLocaleTimeString(undefined, { hour12: false })),
      h("b", {}, event.data?.level ?? event.type), h("span", {}, `${summary(event)}`))));
    state.textContent = found.length ? "" : part || kind.value ? "No line of the log matches."
      : "This run has logged nothing. ctx.log and ctx.progress write here.";
  }
  fill(node, h("div", { class: "filters log-filters" }, words, kind), list, state);
  draw();
  return draw;
}

export function rawEvents(node, events, chosen, choose) { // each event as the API has it
  const list = h("div", { class: "raw" });
  const kind = h("select", { "aria-label": "Type of event", "data-key": "event-type", onchange: () => draw() });
  let types = "";
  function draw(all = events) {
    events = all;
    const now = [...new Set(events.map((event) => event.type))].sort();
    if (now.join() !== types) {
      types = now.join();
      fill(kind, h("option", { value: "" }, "All types"), now.map((type) => h("option", { value: type,
        selected: type === kind.value }, type)));
    }
    const open = new Set([...list.querySelectorAll("details[open]")].map((one) => one.dataset.seq));
    if (!list.childElementCount && chosen) open.add(chosen);
    fill(list, events.filter((event) => !kind.value || event.type === kind.value).map((event) => h("details", {
      "data-seq": String(event.seq), open: open.has(String(event.seq)),
      ontoggle: (change) => { if (change.target.open) choose(event.seq); } },
    h("summary", { "data-key": `event-${event.seq}` }, h("code", {}, `${event.seq}`), ` ${event.type} `,
      h("small", {}, `attempt ${event.attempt} · ${event.at}`)), json(event))));
  }
  fill(node, h("div", { class: "filters log-filters" }, kind), list);
  draw();
  list.querySelector(`[data-seq="${CSS.escape(chosen || "none")}"]`)?.scrollIntoView({ block: "center" });
  return draw;
}
