// The sessions: conversations of people with agents. One of them as a chat, with its runs and what agents keep in it.

import { get, may, patch, post, remove, view } from "../api.js";
import { badge, button, dangerous, dialog, empty, fill, h, json, runLink, section, showError, title, toast, when }
  from "../elements.js";
import { form, labelled } from "../forms.js";
import { setQuery } from "../navigation.js";
import { liveRun, shown } from "./live_run.js";

const link = (id) => `#/sessions/${encodeURIComponent(id)}`;
const agentNames = async () => { // by the agent's id
  const { data } = await get("/agents?limit=100&status=draft,published,archived").catch(() => ({ data: [] }));
  return new Map(data.map((one) => [one.agent_group_id, one.full_name]));
};

export default async function sessions(main, id) {
  if (id) return session(main, id);
  const search = h("input", { type: "search", id: "search", placeholder: "Filter by name, agent or end user  ( / )",
    "aria-label": "Filter sessions", value: view.query.get("q") });
  const list = h("ul", { class: "rows" }, ), more = h("div", { class: "more" });
  let size = 50;
  const names = await agentNames();
  async function draw() {
    const found = await pages("/sessions", size);
    const words = search.value.trim().toLowerCase();
    const rows = found.data.filter((one) => [one.key, one.end_user_id, names.get(one.agent_id), one.id].join(" ")
      .toLowerCase().includes(words));
    fill(list, rows.map((one) => h("li", {}, h("a", { class: "row session", href: link(one.id), "data-key": one.id },
      h("span", { class: "name" }, one.key), h("span", { class: "title" }, names.get(one.agent_id) ?? ""),
      h("small", {}, [one.end_user_id && `user ${one.end_user_id}`, `${one.lines} lines`, one.forked_from && "fork"]
        .filter(Boolean).join(" · ")), when(one.updated_at)))));
    fill(more, found.has_more ? button("Show more", () => { size += 50; return draw(); }, "quiet")
      : !rows.length && (words ? empty("No session fits.")
        : empty("No conversation yet. A run with a session begins one.", h("a", { href: "#/agents" }, "Run an agent"))));
  }
  search.addEventListener("input", () => { setQuery({ q: search.value.trim() }); draw().catch(showError); });
  main.append(title("Sessions"), h("div", { class: "filters one" }, search), list, more);
  view.refresh = draw;
  await draw();
}

async function pages(path, size) { // as many rows as are wanted, beyond a page's hundred
  const rows = [];
  let at = { has_more: true };
  while (at.has_more && rows.length < size) {
    const query = new URLSearchParams({ limit: String(Math.min(100, size - rows.length)),
      ...(at.next_cursor && { cursor: at.next_cursor }) });
    at = await get(`${path}?${query}`);
    rows.push(...at.data);
  }
  return { data: rows, has_more: at.has_more };
}

async function session(main, id) {
  const path = `/sessions/${encodeURIComponent(id)}`;
  const head = h("div", {}), chat = h("ol", { class: "chat" }), live = h("div", {}), send = h("div", {});
  const side = h("div", {}), earlier = h("div", { class: "more" });
  let now = await get(path), shownLines = null, limit = 100;

  async function draw() {
    const [found, lines, runs] = await Promise.all([get(path), get(`${path}/messages?limit=${limit}`),
      get(`/tasks?limit=20&session_id=${now.id}`)]);
    const agent = runs.data[0]?.agent;
    if (JSON.stringify(found) !== JSON.stringify(now) || !head.children.length) fill(head, sessionHead(found, path, redraw));
    now = found;
    const key = lines.data.map((one) => one.id).join();
    if (key !== shownLines) {
      shownLines = key;
      fill(chat, lines.data.length ? lines.data.map((one) => chatLine(one, path)) : h("li", { class: "dim" }, "No message yet."));
      chat.scrollTop = chat.scrollHeight;
    }
    fill(earlier, lines.has_more && button("Show earlier lines", () => { limit += 400; return draw(); }, "quiet"));
    fill(side, section("Runs", runsOf(runs.data)), section("State", Object.keys(found.state).length ? json(found.state)
      : h("p", { class: "dim" }, "Agents keep no values in it (ctx.state).")), facts(found));
    if (!send.children.length) fill(send, sendForm(found, agent, runs.data[0]?.front, live, draw));
  }
  const redraw = () => { shownLines = null; return draw(); };

  main.append(h("a", { class: "back", href: "#/sessions" }, "← Sessions"), head, h("div", { class: "split" },
    section("Conversation", earlier, chat, live, send), side));
  view.refresh = draw;
  await draw();
}

function sessionHead(one, path, redraw) {
  return [h("div", { class: "head" }, h("h1", {}, one.key), h("div", { class: "actions" }, may("sessions:write") && [
    button("Rename", async () => {
      if (await named("Rename the session", "Name", one.key, "Rename", (key) => patch(path, { key }))) {
        toast("Renamed.");
        await redraw();
      }
    }),
    button("Fork", () => fork(path, undefined)),
    dangerous("Clear", "Clear the conversation? Its lines are erased; the session and its values stay.", async () => {
      const { erased } = await post(`${path}/clear`);
      toast(`${erased} lines erased.`);
      await redraw();
    })],
  may("sessions:delete") && dangerous("Delete", "Delete the session with its conversation and values? Its runs stay.", async () => {
    await remove(path);
    toast("Deleted.");
    location.hash = "#/sessions";
  }))), h("p", { class: "sub" }, one.forked_from && ["fork of ", h("a", { href: link(one.forked_from) }, one.forked_from), " · "],
    "last used ", when(one.updated_at))];
}

// Ask for a name; what `act` refuses is shown beside it. Null when it was left.
function named(question, text, value, verb, act) {
  return dialog(question, (close) => {
    const { input, nodes } = labelled(text, "session-name", { name: "key", maxlength: 255, value });
    const filled = form(async () => { close((await act(input.value.trim())) ?? true); }, verb, [h("div", { class: "field" }, nodes)]);
    filled.lastElementChild.append(button("Leave it", () => close(null)));
    return filled;
  });
}

async function fork(path, upTo) {
  const made = await named("Fork the session", "Name of the new session", "", "Fork",
    (key) => post(`${path}/fork`, { up_to: upTo, ...(key && { key }) }));
  if (!made) return;
  toast("Forked.");
  location.hash = link(made.id);
}

const SPEAKERS = { user: "User", assistant: "Agent", system: "System", tool: "Tool" };

function chatLine(one, path) {
  const quiet = !["user_message", "agent_response", "question"].includes(one.type);
  const who = h("small", {}, SPEAKERS[one.role] ?? one.role, quiet ? ` · ${one.type.replaceAll("_", " ")}` : "", " · ", when(one.created_at),
    one.task_id && [" · ", h("a", { href: runLink(one.task_id), "data-key": `run-${one.id}` }, "run")].flat());
  const body = quiet ? h("details", {}, h("summary", {}, summary(one.content)), json(one.content ?? "")) : shown(one.content ?? "");
  return h("li", { class: `line ${one.role} ${quiet ? "quiet" : ""}` }, h("div", { class: "line-head" }, who,
    may("sessions:write") && button("Fork from here", () => fork(path, one.seq), "quiet")), body);
}

function summary(content) {
  const text = typeof content === "string" ? content : content?.name ?? JSON.stringify(content) ?? "";
  return text.length > 100 ? `${text.slice(0, 100)}…` : text || "empty";
}

const runsOf = (runs) => (runs.length ? h("ul", { class: "brief" }, runs.map((run) => h("li", {}, badge(run.status),
  h("a", { href: runLink(run.task_id), "data-key": run.task_id }, run.title ?? run.agent), when(run.created_at))))
  : h("p", { class: "dim" }, "It has no run that is kept."));

function facts(one) {
  const rows = [["id", h("code", {}, one.id)], ["end user", one.end_user_id], ["lines", String(one.lines)], ["made", when(one.created_at)]];
  const ways = { enqueue: "waits for it", reject: "is refused", interrupt: "stops it" };
  const select = h("select", { id: "strategy", "data-key": "strategy", disabled: !may("sessions:write"), onchange: () =>
    patch(`/sessions/${one.id}`, { strategy: select.value }).then(() => toast("Changed."), showError) },
  Object.entries(ways).map(([value, text]) => h("option", { value, selected: value === one.strategy }, text)));
  return section("About", h("dl", { class: "facts" }, rows.filter(([, value]) => value)
    .flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])),
  h("div", { class: "field" }, h("label", { for: "strategy" }, "While a run is under way, a second one"), select));
}

function sendForm(one, agent, front, live, draw) {
  if (!may("runs:create")) return "";
  if (!agent) return h("p", { class: "dim" }, "Its agent is not known any more: begin a run with this session's name at the agent.");
  if (front === "nugen") return h("p", { class: "dim" }, `It goes on through the surface it came by (${front}).`);
  const text = h("textarea", { id: "say", name: "query", rows: 2, required: true, "data-key": "say" });
  return form(async () => {
    if (!text.value.trim()) throw new Error("Write a message.");
    const made = await post(`/agents/${agent}/run`, { query: text.value, session_id: one.id });
    text.value = "";
    fill(live, liveRun(made.task_id, async () => { fill(live); await draw(); }));
    await draw();
  }, "Send", [h("div", { class: "field" }, h("label", { for: "say" }, `Message to ${agent}`), text,
    h("small", {}, "Ctrl+Enter sends it."))]);
}
