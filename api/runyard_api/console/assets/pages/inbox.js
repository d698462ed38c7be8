// What waits for a person.

import { get, view } from "../api.js";
import { badge, empty, h, runLink, when } from "../elements.js";
import { question } from "../forms.js";

export default async function inbox(main) {
  const list = h("div", { class: "inbox" });
  let known = null;
  async function draw() {
    const page = await get("/inbox?limit=50");
    const ids = page.data.map((item) => item.id).join();
    if (ids === known) return;
    const open = new Map([...list.children].map((node) => [node.dataset.id, node]));
    known = ids; // what is typed into an open form stays
    const cards = page.data.map((item) => open.get(item.id) ?? h("section", { class: "card ask", "data-id": item.id },
      h("p", { class: "sub" }, badge(item.task.status), " ", h("a", { href: runLink(item.task_id) },
        item.task.title ?? item.task.agent), " · ", when(item.created_at)), question(item, draw)));
    const gone = [...list.children].filter((node) => !cards.includes(node));
    gone.forEach((node) => node.remove());
    cards.forEach((node, at) => { if (list.children[at] !== node) list.insertBefore(node, list.children[at] ?? null); });
    if (!cards.length) list.append(empty("No question or review is open."));
  }
  main.append(h("h1", {}, "Inbox"), list);
  view.refresh = draw;
  await draw();
}
