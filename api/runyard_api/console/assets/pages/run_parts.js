// What belongs to a run besides its log: its conversation, the runs it started, and what was sent about it.

import { get, may, post } from "../api.js";
import { badge, button, duration, empty, fill, h, json, label, runLink, showError, table, toast, when }
  from "../elements.js";
import { form } from "../forms.js";

const WHO = { user: "User", assistant: "Agent", tool: "Tool", system: "System" };

function line({ role, type, content, created_at: at }) {
  const text = typeof content === "string" ? content : content?.text ?? null;
  return h("li", { class: `spoken ${role}` }, h("p", { class: "by" }, WHO[role] ?? role,
    !["user_message", "message", "text", "assistant_message"].includes(type) && h("small", {}, ` ${label(type.replaceAll("_", " "))}`),
    " ", when(at)), text != null ? h("p", { class: "text" }, text) : json(content));
}

export async function conversation(node, path, current) {
  let task = current();
  const list = h("ol", { class: "talk", "aria-label": "Conversation" });
  const reply = h("textarea", { name: "message", rows: 2, id: "reply", "data-key": "reply" });
  const talks = may("runs:answer") && ["running", "waiting_for_input", "queued", "pending"].includes(task.status);
  const draw = async () => {
    const page = await get(`${path}/messages`);
    task = current();
    const ended = task.status === "completed" && task.output != null
      && !page.data.some((one) => JSON.stringify(one.content) === JSON.stringify(task.output));
    fill(list, page.has_more && h("li", { class: "dim" }, "Older lines are not shown."), page.data.map(line),
      ended && line({ role: "assistant", type: "output", content: task.output, created_at: task.finished_at }),
      !page.data.length && h("li", { class: "dim" }, "There is no message yet."));
  };
  const send = form(async () => {
    if (!reply.value.trim()) throw new Error("A message needs text.");
    await post(`${path}/message`, { message: reply.value });
    reply.value = "";
    toast("Sent.");
    await draw();
  }, "Send", [h("label", { for: "reply" }, "Message to the run"), reply]);
  fill(node, list, talks && send);
  await draw();
  return () => draw().catch(showError);
}

/* ---- the runs it started ---- */

const MOST = 100; // children of one run

async function branch(parent) { // its children as a list, each of which opens to its own
  const page = await get(`/tasks?parent_id=${encodeURIComponent(parent)}&limit=${MOST}`);
  return { count: page.data.length, node: h("ul", { class: "tree" }, page.data.toReversed().map((task) => {
    const inner = h("div", {});
    const more = button("Its children", async () => {
      const below = await branch(task.task_id);
      fill(inner, below.count ? below.node : h("p", { class: "dim" }, "It started no run."));
    }, "quiet");
    return h("li", {}, h("div", { class: "leaf" }, badge(task.status), h("a", { href: runLink(task.task_id), "data-key": task.task_id },
      task.agent), h("span", { class: "title" }, task.title ?? task.preview ?? ""), h("small", {}, task.started_at
      ? duration(task.started_at, task.finished_at) : ""), when(task.created_at), more), inner);
  }), page.has_more && h("li", {}, h("a", { href: `#/runs?parent=${encodeURIComponent(parent)}` }, "All of them"))) };
}

export async function children(node, path, task) {
  const parent = task.parent_id && h("p", {}, "Started by ", h("a", { href: runLink(task.parent_id) }, `run ${task.parent_id}`));
  let known = "";
  const draw = async () => {
    const below = await branch(task.task_id);
    const now = below.node.textContent;
    if (now === known) return; // what is open stays
    known = now;
    fill(node, parent, below.count ? below.node : empty("This run has started no other run."));
  };
  await draw();
  return () => draw().catch(showError);
}

/* ---- what was sent about it ---- */

export async function deliveries(node, path) {
  const draw = async () => {
    const page = await get(`${path}/deliveries?limit=100`);
    if (!page.data.length) {
      return fill(node, empty("Nothing was sent about this run: it has no callback, and no webhook takes its events.",
        h("a", { href: "#/webhooks" }, "Webhooks")));
    }
    fill(node, table(["Event", "State", "To", "Tries", "Answer", "When", ""], page.data.map((one) => [
      one.event_type, h("span", { class: `state ${one.state}` }, one.state),
      h("span", { class: "url" }, one.url, !one.webhook_id && h("small", {}, " callback")), `${one.attempt}`,
      [one.status_code, one.latency_ms != null && `${one.latency_ms} ms`, one.error].filter(Boolean).join(" · ") || "—",
      one.state === "pending" && one.next_attempt_at ? h("span", {}, "next ", when(one.next_attempt_at)) : when(one.updated_at),
      may("webhooks:write") && one.state !== "pending" ? button("Redeliver", async () => {
        await post(`/deliveries/${one.id}/redeliver`, {});
        toast("It is sent again.");
        await draw();
      }, "quiet") : ""]), "Deliveries"));
  };
  await draw();
  return () => draw().catch(showError);
}
