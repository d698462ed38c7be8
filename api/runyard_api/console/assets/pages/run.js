// One run: its timeline as it happens, its facts, and what it asks of people.

import { get, may, post, view } from "../api.js";
import { ENDED, badge, button, duration, fill, h, json, label, runLink, section, showError, toast, when }
  from "../elements.js";
import { question } from "../forms.js";
import { follow } from "../stream.js";
import { traceback } from "../traceback.js";

export async function run(main, id) {
  const path = `/tasks/${encodeURIComponent(id)}`;
  const head = h("div", {}), facts = h("div", {}), people = h("div", {}), steps = h("ol", { class: "steps" });
  const log = h("ol", { class: "log", id: "log" }), speech = h("div", { class: "speech", id: "tokens" });
  const state = h("small", { class: "link" });
  let asked = "", latest = 0, timer = null, last = null;
  async function draw() {
    const task = await get(path);
    document.title = `${task.agent} · ${label(task.status)} · Runyard`;
    fill(head, runHead(task, path));
    fill(facts, runFacts(task));
    const open = [...(task.questions ?? []), ...(task.reviews ?? [])];
    const ids = open.map((q) => q.id).join();
    if (ids !== asked) { // what is typed into an open form stays
      asked = ids;
      fill(people, open.map((q) => h("section", { class: "card ask" }, question(q))));
    }
  }
  const later = () => { timer ??= setTimeout(() => { timer = null; draw().catch(showError); }, 150); };
  function heard({ event, data }) {
    if (event === "token") {
      if (data.data?.text) speech.append(data.data.text);
      return;
    }
    if (data.seq <= latest) return;
    latest = data.seq;
    log.append(logLine(data, last));
    if (data.type === "step" || data.type === "tool_result") {
      const took = data.data.seconds != null ? `${data.data.seconds} s` : last && duration(last.at, data.at);
      steps.append(h("li", { class: data.data.outcome === "failed" ? "bad" : "" },
        h("span", {}, data.data.name ?? data.data.tool), h("small", {}, `attempt ${data.attempt} · ${took}`)));
    }
    if (["message", "model_turn", "finish", "fail", "stop", "claim"].includes(data.type)) speech.replaceChildren();
    last = data;
    later();
  }
  await draw();
  view.refresh = draw; // a place in the queue changes without an event of this run
  main.append(h("a", { class: "back", href: "#/runs" }, "← Runs"), head, h("div", { class: "split" },
    h("div", {}, people, section("Timeline", log, speech, state)),
    h("div", {}, facts, section("Steps", steps))));
  follow(`${path}/events?after=0`, view.shown.signal, heard, (on) => { state.textContent = on ? "" : "reconnecting…"; })
    .then(() => { speech.replaceChildren(); state.textContent = ""; });
}

function runHead(task, path) {
  return [h("div", { class: "head" }, h("h1", {}, task.title ?? task.agent), badge(task.status),
    h("div", { class: "actions" },
      ENDED.has(task.status) ? button("Run again", async () => {
        location.hash = runLink((await post(`${path}/retry`, { fresh: true })).task_id);
      }) : button("Cancel", async () => { await post(`${path}/cancel`, {}); toast("Stopped."); }, "danger"),
      ["failed", "stopped"].includes(task.status) && button("Retry from the last step", async () => {
        location.hash = runLink((await post(`${path}/retry`, {})).task_id);
      }, "primary"))),
  h("p", { class: "sub" }, h("a", { href: `#/agents/${encodeURIComponent(task.agent)}` }, task.agent),
    ` ${task.version} · attempt ${task.attempt} · via ${task.front} · `, when(task.created_at),
    task.started_at ? ` · ${duration(task.started_at, task.finished_at)}` : "", " · ", h("code", {}, task.task_id))];
}

function held({ limit, position, estimate_s, basis }) {
  if (limit === "worker") return h("section", { class: "card hold" }, h("h2", {}, "No worker has this agent"), h("p", {}, basis));
  const why = { retry: "It waits to be tried again.", resume: "It goes on as soon as its limits have a free slot." }[limit]
    ?? (limit?.startsWith("child:") ? "It waits for a run it started." : null);
  return h("section", { class: "card hold" }, h("h2", {}, "Held back"),
    why ? h("p", {}, why) : h("p", {}, "The limit ", h("code", {}, limit ?? "?"), " is full."),
    h("p", {}, `Place ${position} in the queue`,
      estimate_s != null ? `, about ${Math.max(1, Math.round(estimate_s))} s to go.` : "."));
}

function runFacts(task) {
  const given = task.input ?? {};
  const usage = Object.entries(task.usage ?? {}).filter(([, value]) => typeof value === "number");
  return [task.queue && held(task.queue),
    task.error && h("section", { class: "card bad" }, h("h2", {}, `Failed: ${task.error.code}`),
      h("p", {}, task.error.message), task.error.cause && h("small", {}, `cause: ${task.error.cause}`),
      task.error.details?.traceback && traceback(task.error.details.traceback)),
    task.output != null && section("Output", json(task.output)),
    section("Input", given.message && h("p", { class: "input-text" }, given.message),
      given.args !== undefined ? json(given.args) : !given.message && h("p", { class: "dim" }, "Nothing was given.")),
    (usage.length || task.cost > 0) && section("Usage", h("p", {},
      [...usage.map(([name, value]) => `${name.replaceAll("_", " ")} ${value.toLocaleString()}`),
        task.cost > 0 && `$${task.cost.toFixed(4)}`].filter(Boolean).join(" · "))),
    (task.parent_id || task.retry_of) && section("Related",
      task.parent_id && h("p", {}, "Started by ", h("a", { href: runLink(task.parent_id) }, task.parent_id)),
      task.retry_of && h("p", {}, "Repeats ", h("a", { href: runLink(task.retry_of) }, task.retry_of)))];
}

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

function short(value) {
  const text = typeof value === "string" ? value : JSON.stringify(value) ?? "";
  return text.length > 160 ? `${text.slice(0, 160)}…` : text;
}

function logLine(event, before) {
  const data = event.data ?? {};
  const { status, ...more } = data;
  const trace = data.error?.details?.traceback;
  if (trace) more.error = { ...data.error, details: { ...data.error.details, traceback: undefined } };
  const since = before ? `+${duration(before.at, event.at)}` : "";
  const title = [h("b", {}, event.type.replaceAll("_", " ")), h("span", {}, SUMMARIES[event.type]?.(data) ?? ""),
    h("small", { title: new Date(event.at).toLocaleString() }, since)];
  const detail = Object.keys(more).length > 0;
  return h("li", { class: `${event.type} to-${status ?? ""}` },
    detail ? h("details", {}, h("summary", {}, title), trace && traceback(trace), json(more)) : h("div", { class: "plain" }, title));
}
