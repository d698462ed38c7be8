// What is known of a run: what it waits for, its error, output, input, usage, and the runs it belongs to.

import { h, json, runLink, section, when } from "../elements.js";
import { traceback } from "../traceback.js";

function queue({ limit, position, estimate_s, basis, until }) {
  if (limit === "worker") return h("section", { class: "card hold" }, h("h2", {}, "No worker has this agent"), h("p", {}, basis));
  const why = { retry: "It waits to be tried again.", resume: "It goes on as soon as its limits have a free slot.",
    children: "It waits for runs it started.", sleep: "It sleeps.", event: "It waits for an event." }[limit]
    ?? (limit?.startsWith("child:") ? h("span", {}, "It waits for ", h("a", { href: runLink(limit.slice(6)) }, "a run it started"), ".") : null);
  const waits = ["children", "sleep", "event"].includes(limit) || limit?.startsWith("child:");
  return h("section", { class: "card hold" }, h("h2", {}, waits ? "Waiting" : "Held back"),
    why ? h("p", {}, why, until && " At the latest ", until && when(until)) : h("p", {}, "The limit ", h("code", {}, limit ?? "?"), " is full."),
    !waits && h("p", {}, `Place ${position} in the queue`,
      estimate_s != null ? `, about ${Math.max(1, Math.round(estimate_s))} s to go.` : "."));
}

const failure = (error, title, found) => h("section", { class: "card bad" }, h("h2", {}, `${title}: `,
  found ? h("a", { href: `#/runs?${new URLSearchParams({ error: error.code })}`, title: "Runs with this error" }, error.code)
    : error.code),
  h("p", {}, error.message), error.cause && h("small", {}, `cause: ${error.cause}`),
  error.details?.traceback && traceback(error.details.traceback));

const pairs = (rows) => h("dl", { class: "known" }, rows.filter(([, value]) => value != null && value !== "")
  .map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));

export function runAbout(task) {
  const given = task.input ?? {};
  const usage = Object.entries(task.usage ?? {}).filter(([, value]) => typeof value === "number");
  const meta = Object.keys(task.metadata ?? {}).length > 0;
  const filtered = (name, value) => value && h("a", { href: `#/runs?${new URLSearchParams({ [name]: value })}` }, value);
  const about = pairs([["Session", filtered("session", task.session_id)], ["End user", filtered("user", task.end_user_id)],
    ["Started by", filtered("by", task.created_by)], ["Schedule", filtered("schedule", task.schedule_id)],
    ["Deadline", task.deadline && when(task.deadline)],
    ["Parent", task.parent_id && h("a", { href: runLink(task.parent_id) }, task.parent_id)],
    ["Repeats", task.retry_of && h("a", { href: runLink(task.retry_of) }, task.retry_of)],
    ["Repeated by", task.retried_as && h("a", { href: runLink(task.retried_as) }, task.retried_as)]]);
  return [task.queue && queue(task.queue), task.error && failure(task.error, "Failed", true),
    task.last_error && failure(task.last_error, "The last try failed"),
    task.ending && !task.error && failure(task.ending.error ?? { code: task.ending.status, message: "It undoes what it did." }, "Undone"),
    task.output != null && section("Output", json(task.output)),
    section("Input", given.message && h("p", { class: "input-text" }, given.message),
      given.args !== undefined ? json(given.args) : !given.message && h("p", { class: "dim" }, "Nothing was given.")),
    (usage.length || task.cost > 0) && section("Usage", pairs([...usage.map(([name, value]) =>
      [name.replaceAll("_", " "), value.toLocaleString()]), ["cost", task.cost > 0 && `$${task.cost.toFixed(6)}`]]
      .filter(([, value]) => value))),
    about.childElementCount > 0 && section("About", about), meta && section("Metadata", json(task.metadata))];
}
