// One run: what it did and when as it happens, what it asks of people, and what can be done with it.

import { get, may, view } from "../api.js";
import { ENDED, badge, duration, fill, h, label, section, showError, when } from "../elements.js";
import { question } from "../forms.js";
import { setQuery } from "../navigation.js";
import { follow } from "../stream.js";
import { actions, againFrom } from "./run_again.js";
import { runAbout } from "./run_about.js";
import { logLine, logs, rawEvents } from "./run_log.js";
import { children, conversation, deliveries } from "./run_parts.js";
import { spans, tried } from "./spans.js";
import { drawWaterfall } from "./waterfall.js";

const TABS = { timeline: "Timeline", conversation: "Conversation", logs: "Logs", children: "Children",
  deliveries: "Deliveries", events: "Events" };
const STEPS = 500, MOST_STEPS = 5000; // of a page, and in all
const RESTS = new Set(["message", "model_turn", "finish", "fail", "stop", "claim"]); // what folds the tokens before it

export async function run(main, id) {
  const path = `/tasks/${encodeURIComponent(id)}`;
  const page = { path, id, events: [], task: null, journal: journalOf(path), tab: null, redraw: null };
  page.head = h("div", {});
  page.about = h("div", {});
  page.people = h("div", {});
  page.panel = h("div", { role: "tabpanel", id: "panel" });
  page.speech = h("div", { class: "speech", id: "tokens" });
  const state = h("small", { class: "link" });
  let timer = null, asked = "";
  const draw = async () => {
    [page.task] = await Promise.all([get(path), page.journal.load()]);
    drawHead(page);
    refill(page.about, runAbout(page.task));
    asked = drawQuestions(page, asked);
    page.redraw?.();
  };
  const later = () => { timer ??= setTimeout(() => { timer = null; draw().catch(showError); }, 150); };
  await draw();
  view.refresh = draw; // a place in the queue changes without an event of this run
  const tabs = h("div", { class: "run-tabs", role: "tablist", "aria-label": "Parts of the run" });
  main.append(h("a", { class: "back", href: "#/runs" }, "← Runs"), page.head, h("div", { class: "split" },
    h("div", {}, page.people, tabs, page.speech, page.panel, state), page.about));
  await openTab(page, tabs, view.query.get("tab") in TABS ? view.query.get("tab") : "timeline");
  follow(`${path}/events?after=0`, view.shown.signal, (item) => heard(page, item, later),
    (on) => { state.textContent = on ? "" : "reconnecting…"; })
    .then(() => { page.speech.replaceChildren(); state.textContent = ""; });
}

function refill(place, content) { // what was unfolded stays so
  const open = [...place.querySelectorAll("details")].map((one) => one.open);
  fill(place, content);
  const now = [...place.querySelectorAll("details")];
  if (now.length === open.length) now.forEach((one, at) => { one.open = open[at]; });
}

function heard(page, { event, data }, later) {
  if (event === "token") {
    if (data.data?.text) page.speech.append(data.data.text);
    return;
  }
  if (data.seq <= (page.events.at(-1)?.seq ?? 0)) return;
  page.events.push(data);
  page.story?.(data);
  if (RESTS.has(data.type)) page.speech.replaceChildren();
  later();
}

function journalOf(path) { // the steps of the run; null for those who do not see them, who have events instead
  const known = new Map();
  let hidden = false;
  return {
    get steps() { return hidden ? null : [...known.values()].sort((a, b) => a.pos - b.pos); },
    async load() {
      if (hidden) return;
      const open = [...known.values()].filter((step) => !step.ended_at).map((step) => step.pos);
      let after = open.length ? Math.min(...open) - 1 : Math.max(0, ...[...known.values()].map((step) => step.pos));
      try {
        for (let more = true; more && known.size < MOST_STEPS;) {
          const found = await get(`${path}/steps?after=${after}&limit=${STEPS}`);
          found.data.forEach((step) => known.set(step.key, step));
          after = found.next_after;
          more = found.has_more;
        }
      } catch (error) {
        if (error.code !== "not_your_agent") throw error;
        hidden = true;
      }
    },
  };
}

const stepsDone = (page) => (page.journal.steps ?? []).some((step) => step.state === "done")
  || page.events.some((event) => ["step", "model_turn", "tool_result"].includes(event.type));

function drawHead(page) {
  const { task, path } = page;
  document.title = `${task.agent} · ${label(task.status)} · Runyard`;
  fill(page.head, h("div", { class: "head" }, h("h1", {}, task.title ?? task.agent), badge(task.status),
    h("div", { class: "actions" }, actions(task, path, stepsDone(page)))),
  h("p", { class: "sub" }, h("a", { href: `#/agents/${encodeURIComponent(task.agent)}` }, task.agent),
    ` ${task.version} · via ${task.front} · `, when(task.created_at),
    task.started_at ? ` · ${duration(task.started_at, task.finished_at)}` : "",
    tried(page.events).map((text) => ` · ${text}`), " · ", h("code", {}, task.task_id)));
}

function drawQuestions(page, asked) { // what is typed into an open form stays
  const open = [...(page.task.questions ?? []), ...(page.task.reviews ?? [])];
  const ids = open.map((q) => q.id).join();
  if (ids !== asked) {
    fill(page.people, open.map((q) => h("section", { class: "card ask" },
      may(q.kind === "review" ? "runs:review" : "runs:answer") ? question(q)
        : [h("h2", {}, q.text ?? q.action ?? "Question"), h("p", { class: "dim" }, "Your role may not answer this.")])));
  }
  return ids;
}

/* ---- the parts of the page ---- */

async function openTab(page, tabs, name) {
  page.tab = name;
  page.redraw = page.story = null;
  fill(tabs, Object.entries(TABS).map(([one, text]) => h("button", { type: "button", role: "tab", id: `tab-${one}`,
    "data-key": `tab-${one}`, "aria-selected": String(one === name), "aria-controls": "panel", tabindex: one === name ? 0 : -1,
    onclick: () => { setQuery({ tab: one === "timeline" ? "" : one, at: "" }); openTab(page, tabs, one).catch(showError); },
    onkeydown: (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      const all = Object.keys(TABS);
      if (step) tabs.querySelector(`#tab-${all[(all.indexOf(one) + step + all.length) % all.length]}`).focus();
    } }, text)));
  tabs.querySelector("[aria-selected=true]").scrollIntoView?.({ block: "nearest", inline: "nearest" });
  page.panel.setAttribute("aria-labelledby", `tab-${name}`);
  const node = h("section", { class: "card" });
  page.panel.replaceChildren(name === "timeline" ? h("div", {}) : node);
  const redraw = await OPEN[name](name === "timeline" ? page.panel.firstChild : node, page);
  if (page.tab === name) page.redraw = redraw;
}

const choose = (at) => setQuery({ at: String(at) });

const OPEN = {
  timeline(node, page) {
    const chart = h("div", {}), log = h("ol", { class: "log", id: "log" });
    const at = view.query.get("at");
    const context = { path: page.path, opened: new Set(at ? [at] : []), choose, again: null };
    node.append(section("Waterfall", chart), section("What happened", log));
    page.story = (event) => {
      const before = page.events[page.events.indexOf(event) - 1];
      log.append(logLine(event, before, choose));
      if (at === String(event.seq)) {
        log.lastChild.querySelector("details")?.setAttribute("open", "");
        log.lastChild.scrollIntoView({ block: "center" });
      }
    };
    page.events.forEach(page.story);
    let drawn = "";
    const draw = () => {
      const ended = ENDED.has(page.task.status);
      context.again = ended && !page.task.ending ? againFrom(page.path) : null;
      const now = `${page.events.length} ${page.task.status} ${(page.journal.steps ?? []).map((s) => s.state).join("")}`;
      if (ended && now === drawn) return;
      drawn = now;
      drawWaterfall(chart, spans(page.events, page.journal.steps), context);
    };
    draw();
    return draw;
  },
  conversation: (node, page) => conversation(node, page.path, () => page.task),
  children: (node, page) => children(node, page.path, page.task),
  deliveries: (node, page) => deliveries(node, page.path),
  logs(node, page) {
    const draw = logs(node, page.events);
    return () => draw(page.events);
  },
  events(node, page) {
    const draw = rawEvents(node, page.events, view.query.get("at"), choose);
    return () => draw(page.events);
  },
};
