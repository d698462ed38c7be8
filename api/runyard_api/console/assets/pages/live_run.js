// A run as it goes on, inside another page: what it answers, what it asks, and what it came to.

import { get, may, post, view } from "../api.js";
import { ENDED, badge, button, fill, h, json, runLink, showError, toast } from "../elements.js";
import { question } from "../forms.js";
import { follow } from "../stream.js";

// The value as people read it: text as text, the rest as JSON.
export const shown = (value) => (typeof value === "string" ? h("div", { class: "answer" }, value) : json(value));

const STEPS = { // the events that say what a run does now
  step: (data) => data.name,
  tool_call: (data) => data.tool,
  progress: (data) => [data.fraction != null && `${Math.round(data.fraction * 100)} %`, data.message].filter(Boolean).join(" "),
  log: (data) => data.message,
};

// What follows the run `id` until it has ended or the page is left; `ended` is called with the task.
export function liveRun(id, ended = () => {}) {
  const head = h("p", { class: "sub" }), doing = h("p", { class: "dim doing" }), speech = h("div", { class: "speech" });
  const asked = h("div", {}), result = h("div", {});
  const path = `/tasks/${id}`;
  let open = "", last = null, timer = null;

  async function draw() {
    const task = await get(path);
    last = task;
    fill(head, badge(task.status), " ", h("a", { href: runLink(id) }, "Open the run"), " ",
      !ENDED.has(task.status) && may("runs:cancel") &&
        button("Cancel", async () => { await post(`${path}/cancel`, {}); toast("Stopped."); await draw(); }, "quiet danger"));
    const questions = [...(task.questions ?? []), ...(task.reviews ?? [])];
    const ids = questions.map((one) => one.id).join();
    if (ids !== open) { // what is typed into an open form stays
      open = ids;
      fill(asked, questions.map((one) => h("section", { class: "card ask" }, question(one))));
    }
    if (!ENDED.has(task.status)) return;
    fill(speech);
    fill(doing);
    fill(result, task.error && h("p", { class: "bad", role: "alert" }, `${task.error.code}: ${task.error.message}`),
      task.output != null && shown(task.output));
  }

  const later = () => { timer ??= setTimeout(() => { timer = null; draw().catch(showError); }, 150); };
  function heard({ event, data }) {
    if (event === "token") return data.data?.text && speech.append(data.data.text);
    if (data.type in STEPS) fill(doing, h("span", {}, STEPS[data.type](data.data ?? {}) || ""));
    if (["message", "model_turn", "finish", "fail", "stop", "claim"].includes(data.type)) speech.replaceChildren();
    if (data.data?.status || data.type === "ask" || data.type === "review") later();
    return null;
  }

  const node = h("div", { class: "live", "aria-live": "polite", "data-run": id }, head, asked, doing, speech, result);
  (async () => {
    await draw();
    await follow(`${path}/events?after=0`, view.shown.signal, heard);
    clearTimeout(timer);
    if (view.shown.signal.aborted) return;
    await draw();
    await ended(last);
  })().catch(showError);
  return node;
}
