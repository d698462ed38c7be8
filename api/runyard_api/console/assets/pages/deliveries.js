// Deliveries: a list of them, each with what was sent and answered, and sending them again.

import { get, may, post, view } from "../api.js";
import { badge, button, confirmed, dialog, empty, fill, h, json, runLink, showError, toast, when } from "../elements.js";
import { setQuery } from "../navigation.js";
import { acts } from "./acting.js";
import { stacked } from "./stacked.js";

const STATES = [["", "all"], ["pending", "on the way"], ["success", "delivered"], ["dead", "given up"]];
const NAMES = Object.fromEntries(STATES);
const POLL = 700; // milliseconds

const REASONS = { endpoint_disabled: "the webhook was disabled", endpoint_deleted: "the webhook was deleted" };

// What came of a delivery, in a sentence.
export function outcome(d) {
  const took = d.latency_ms != null ? ` in ${d.latency_ms} ms` : "";
  if (d.state === "success") return `Delivered: the receiver answered ${d.status_code}${took}.`;
  const answered = d.status_code && `the receiver answered ${d.status_code}`;
  const why = REASONS[d.error] || (/^http_\d+$/.test(d.error) && answered) || d.error?.replace(/\.$/, "") || answered;
  if (d.state === "dead") return `Not delivered, and given up: ${why ?? "no answer"}.`;
  if (d.attempt === 0) return "Not sent yet: the events of a run go one after the other.";
  if (d.status_code >= 200 && d.status_code < 300) return "On its way again.";
  return why ? ["Not delivered: ", why, ". It is tried again ", when(d.next_attempt_at), "."] : "On its way.";
}

// A delivery once its first attempt has come to something. `wanted` is whether anybody still waits for it.
export async function settled(id, wanted) {
  for (;;) {
    const found = await get(`/deliveries/${id}`);
    if (found.state !== "pending" || found.error || found.status_code || !wanted()) return found;
    await new Promise((done) => setTimeout(done, POLL));
  }
}

// Draws the deliveries of `pathOf(query)` into `node`; the function that draws them again.
export function deliveries(node, pathOf, { filters = false, none, missed } = {}) {
  const list = h("div", {});
  if (filters) node.append(chips(() => draw().catch(showError)));
  const many = h("div", { class: "actions" });
  node.append(many, list);
  async function draw() {
    const query = new URLSearchParams({ limit: 50, ...(filters && view.query.get("state")
      && { state: view.query.get("state") }) });
    const page = await get(pathOf(query));
    const dead = page.data.filter((d) => d.state === "dead");
    fill(many, may("webhooks:write") && [dead.length > 0 && button(`Send ${dead.length} given up again`,
      () => sendAll(dead, draw)), missed && button("Replay …", missed)].filter(Boolean));
    fill(list, page.data.length ? stacked("Deliveries", ["Event", "State", "Attempt", "What came of it", "Made", ""],
      page.data.map((d) => [d.event_type, badgeOf(d), `${d.attempt}`, outcome(d), when(d.created_at), orders(d, draw)]), "wrap")
      : empty(none));
  }
  return draw;
}

function badgeOf(d) {
  const node = badge(d.state);
  node.lastChild.textContent = NAMES[d.state];
  return node;
}

function chips(changed) {
  const all = STATES.map(([state, text]) => h("button", { type: "button", class: "chip", "data-key": `state-${state}`,
    "aria-pressed": String((view.query.get("state") ?? "") === state), onclick: (event) => {
      setQuery({ state });
      all.forEach((one) => one.setAttribute("aria-pressed", String(one === event.target)));
      changed();
    } }, text));
  return h("div", { class: "chips", role: "group", "aria-label": "State" }, all);
}

const orders = (d, draw) => acts(button("Details", () => details(d), "quiet"), may("webhooks:write")
  && d.state !== "pending" && button("Redeliver", async () => {
  await post(`/deliveries/${d.id}/redeliver`);
  toast("On its way again, under the id it had.");
  await draw();
}, "quiet"));

async function sendAll(dead, draw) {
  if (!await confirmed(`Send ${dead.length} deliveries again, under the ids they had?`, "Send again")) return;
  const done = await post("/deliveries/redeliver", { ids: dead.map((d) => d.id) });
  toast(`${done.count} on their way again${done.refused.length ? `; not ${done.refused[0].message}` : ""}.`);
  await draw();
}

async function details(short) {
  const d = await get(`/deliveries/${short.id}`);
  const facts = [["Webhook-id", h("code", {}, d.event_id)], ["To", d.url],
    ["Run", d.task_id && h("a", { href: runLink(d.task_id), onclick: () => document.querySelector("dialog")?.remove() },
      d.task_id)], ["Attempts", `${d.attempt}`], ["Last change", when(d.updated_at)],
    ["Answered", d.status_code && `${d.status_code} in ${d.latency_ms} ms`]].filter(([, value]) => value);
  await dialog(d.event_type, (close) => [h("p", {}, badgeOf(d), " ", outcome(d)),
    h("dl", { class: "facts" }, facts.flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
    d.attempts.length > 0 && [h("h3", {}, "Attempts"), stacked("Attempts", ["Attempt", "Over", "Answer", "Took", "Error"],
      d.attempts.map((one) => [`${one.attempt}`, when(one.at), `${one.status_code ?? "–"}`,
        one.latency_ms == null ? "–" : `${one.latency_ms} ms`, one.error ?? ""]), "wrap")],
    h("h3", {}, "What was sent"), json(d.payload), d.answer && [h("h3", {}, "What was answered"), json(d.answer)],
    h("div", { class: "actions" }, button("Close", () => close(), "primary"))].flat().filter(Boolean));
}
