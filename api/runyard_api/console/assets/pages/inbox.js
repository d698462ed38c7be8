// What waits for a person: what is due first comes first. Each is answered in its card.

import { access, get, may, view } from "../api.js";
import { badge, empty, fill, h, json, runLink, showError, title, when } from "../elements.js";
import { question } from "../forms.js";
import { setQuery } from "../navigation.js";

const SOON = 60 * 60 * 1000; // milliseconds before a deadline
const due = (item) => (item.deadline ? Date.parse(item.deadline) : Infinity);
const earlier = (a, b) => due(a) - due(b) || Date.parse(a.created_at) - Date.parse(b.created_at);

export default async function inbox(main) {
  const list = h("div", { class: "inbox" }), more = h("div", { class: "more" });
  const whose = h("div", { class: "chips", role: "group", "aria-label": "Whose runs" });
  const agents = h("select", { "aria-label": "Agent" }), kinds = h("div", { class: "chips", role: "group", "aria-label": "Kind" });
  let found = { data: [] };

  async function load() {
    const mine = view.query.get("mine") ? `&created_by=${encodeURIComponent(access.id)}` : "";
    found = await get(`/inbox?limit=100${mine}`);
    draw();
  }

  function draw() {
    const agent = view.query.get("agent") ?? "", kind = view.query.get("kind") ?? "";
    const names = [...new Set([...found.data.map((item) => item.task.agent), ...(agent ? [agent] : [])])].sort();
    fill(agents, [["", "All agents"], ...names.map((name) => [name, name])].map(([value, text]) =>
      h("option", { value, selected: value === agent }, text)));
    fill(kinds, [["", "all"], ["question", "questions"], ["review", "reviews"], ["overdue", "overdue"]].map(([key, text]) =>
      h("button", { type: "button", class: "chip", "data-key": `kind-${key}`, "aria-pressed": String(key === kind),
        onclick: () => { setQuery({ kind: key }); draw(); } },
      text, key ? ` ${found.data.filter((item) => fits(item, key, "")).length}` : "")));
    const mine = Boolean(view.query.get("mine"));
    fill(whose, h("button", { type: "button", class: "chip", "data-key": "mine", "aria-pressed": String(mine),
      title: "Only of runs that you started", onclick: () => { setQuery({ mine: mine ? "" : "1" }); load().catch(showError); } }, "mine"));
    const items = found.data.filter((item) => fits(item, kind, agent)).sort(earlier);
    place(items);
    fill(more, found.has_more && h("p", { class: "dim" }, "There are more than these 100: the oldest are shown."));
  }

  function place(items) { // what is typed into an open form stays
    const open = new Map([...list.querySelectorAll("[data-id]")].map((node) => [node.dataset.id, node]));
    const cards = items.map((item) => open.get(item.id) ?? card(item, load));
    [...list.children].filter((node) => !cards.includes(node)).forEach((node) => node.remove());
    cards.forEach((node, at) => { if (list.children[at] !== node) list.insertBefore(node, list.children[at] ?? null); });
    items.forEach((item, at) => mark(cards[at], item));
    if (!cards.length) {
      list.append(found.data.length ? empty("None of what is open fits these filters.")
        : empty("Nothing needs an answer. Questions and reviews of agents appear here by themselves."));
    }
  }

  agents.addEventListener("change", () => { setQuery({ agent: agents.value }); draw(); });
  main.append(title("Inbox"), h("div", { class: "filters inbox-filters" }, h("div", { class: "chips" }, kinds, whose), agents), list, more,
    h("p", { class: "dim keys" }, "j and k go from card to card, Enter into one, Escape out of it."));
  document.addEventListener("keydown", (event) => keyed(event, list), { signal: view.shown.signal });
  view.refresh = load;
  await load();
}

function fits(item, kind, agent) {
  if (agent && item.task.agent !== agent) return false;
  return !kind || (kind === "overdue" ? due(item) < Date.now() : item.kind === kind);
}

function card(item, answered) {
  const given = h("div", { class: "given" }), name = `ask-${item.id}`;
  const node = h("section", { class: "card ask", "data-id": item.id, tabindex: -1, "aria-labelledby": name },
    h("p", { class: "sub", id: name }, badge(item.task.status), " ", h("a", { href: runLink(item.task_id), "data-key": item.id },
      item.task.title ?? "Run"), " · ", h("a", { href: `#/agents/${encodeURIComponent(item.task.agent)}` },
      `${item.task.agent} ${item.task.version}`), " · asked ", when(item.created_at), h("span", { class: "due" })),
    given, may(item.kind === "review" ? "runs:review" : "runs:answer") ? question(item, () => answered().catch(showError))
      : [h("h2", {}, item.text ?? item.action ?? "Question"), h("p", { class: "dim" }, "You may look at it; a member answers it.")]);
  const seen = new IntersectionObserver(([entry]) => { // a card's input is asked for when it comes into view
    if (!entry.isIntersecting) return;
    seen.disconnect();
    input(item).then((nodes) => fill(given, nodes), showError);
  });
  seen.observe(node);
  return node;
}

async function input(item) {
  const { input: about = {} } = await get(`/tasks/${item.task_id}`);
  const words = about.message ?? about.query;
  const args = about.args != null && !(typeof about.args === "object" && !Object.keys(about.args).length);
  if (!words && !args) return [];
  return h("details", { open: true }, h("summary", {}, "What the run was given"), words && h("p", { class: "input-text" }, words),
    args && json(about.args));
}

function mark(node, item) { // its deadline, which passes while the page is open
  const late = due(item) < Date.now(), soon = !late && due(item) < Date.now() + SOON;
  node.classList.toggle("overdue", late);
  const text = late ? "overdue" : soon ? "due soon" : item.deadline ? "due" : "";
  const shown = node.querySelector(".due");
  if (shown.dataset.state !== text) {
    shown.dataset.state = text;
    fill(shown, text && [" · ", h("b", { class: late ? "bad" : soon ? "warn" : "" }, `${text} `), when(item.deadline)]);
  }
}

function keyed(event, list) {
  const cards = [...list.querySelectorAll("[data-id]")];
  const inside = event.target.closest?.("[data-id]");
  if (event.key === "Escape" && inside && event.target !== inside) return inside.focus();
  if (event.target.matches("input, textarea, select") || event.metaKey || event.ctrlKey || event.altKey) return null;
  const at = cards.indexOf(inside);
  if (event.key === "j") return cards[Math.min(at + 1, cards.length - 1)]?.focus();
  if (event.key === "k") return cards[Math.max(at - 1, 0)]?.focus();
  if (event.key !== "Enter" || event.target !== inside || !inside) return null;
  event.preventDefault();
  return inside.querySelector("form input, form textarea, form select, .actions button, textarea, input")?.focus();
}
