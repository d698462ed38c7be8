// The audit log: who changed what, when. The filters are in the page's address.

import { get, view } from "../api.js";
import { button, empty, h, json, when } from "../elements.js";
import { form } from "../forms.js";
import { setQuery } from "../navigation.js";
import { actorNames, entry } from "./acting.js";
import { stacked } from "./stacked.js";

const FILTERS = [["actor", "Who", { placeholder: "key:…, user:…, system" }], ["action", "What",
  { placeholder: "limit, or limit.save" }], ["object_id", "Which object", {}],
["front", "By which interface", { placeholder: "native, nara, …" }], ["since", "From", { type: "datetime-local" }],
["until", "Until", { type: "datetime-local" }]];

export default async function audit(main) {
  const fields = FILTERS.map(([name, text, about]) => entry(name, text, { ...about, value: view.query.get(name) }));
  const list = h("div", {}), names = await actorNames();
  const search = form(async () => {
    setQuery(Object.fromEntries(fields.map((one) => [one.name, one.read()])));
    await draw(list, names);
  }, "Show", [h("div", { class: "search" }, fields.map((one) => one.node))]);
  search.lastElementChild.append(button("Clear", async () => {
    fields.forEach((one) => { one.input.value = ""; });
    setQuery(Object.fromEntries(fields.map((one) => [one.name, null])));
    await draw(list, names);
  }, "quiet"));
  main.append(h("h1", {}, "Audit log"), h("div", { class: "card" }, search), list);
  await draw(list, names);
}

function asked(cursor) {
  const query = new URLSearchParams({ limit: 50, ...(cursor && { cursor }) });
  for (const [name, , about] of FILTERS) {
    const value = view.query.get(name);
    if (value) query.set(name, about.type ? new Date(value).toISOString() : value);
  }
  return query;
}

async function draw(list, names, cursor) {
  const page = await get(`/audit?${asked(cursor)}`);
  const older = page.has_more && h("div", { class: "more" }, button("Older", async () => {
    list.querySelector(".more")?.remove();
    await draw(list, names, page.next_cursor);
  }));
  const shown = page.data.length ? stacked("Audit log", ["When", "Who", "What", "Object", "Details"], page.data.map((one) => row(one, names)), "wrap")
    : empty(view.query.size ? "Nothing matches these filters." : "Nothing was changed yet.");
  list.replaceChildren(...(cursor ? list.childNodes : []), shown, ...(older ? [older] : []));
}

const only = (name, value, text = value) => { // the same page with this filter
  const query = new URLSearchParams(view.query);
  query.set(name, value);
  return h("a", { href: `#/audit?${query}`, title: value }, text);
};

const row = (e, names) => [h("span", {}, when(e.at), h("small", { class: "moment" }, new Date(e.at).toLocaleString())),
  h("span", {}, only("actor", e.actor, names.get(e.actor)), e.front && h("small", { class: "dim" }, ` by ${e.front}`)), only("action", e.action),
  only("object_id", e.object_id), e.data && Object.keys(e.data).length > 0
    && h("details", {}, h("summary", {}, "Show"), json(e.data))];
