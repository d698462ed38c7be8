// The agents, and one of them with a form to run it.

import { get, may, post } from "../api.js";
import { empty, h, runLink, section } from "../elements.js";
import { field, form } from "../forms.js";

export default async function agents(main, name) {
  if (name) return agent(main, name);
  const page = await get("/agents?limit=100");
  main.append(h("h1", {}, "Agents"), h("ul", { class: "rows" }, page.data.map((a) => h("li", {},
    h("a", { class: "row agent", href: `#/agents/${encodeURIComponent(a.full_name)}` },
      h("span", { class: "name" }, a.full_name), h("span", { class: "title" }, a.description ?? ""),
      h("code", {}, a.version), h("small", {}, a.kind))))), page.data.length ? "" : empty("No agents are published."));
}

async function agent(main, name) {
  const path = `/agents/${encodeURIComponent(name)}`;
  const a = await get(path);
  const schema = a.manifest.input?.schema;
  const message = field({ type: "string" }, "Message", false);
  const open = !schema || (schema.type === "object" && !schema.properties && !schema.required?.length);
  const args = field(schema ?? {}, schema?.properties ? "" : "Arguments", !open);
  const facts = [["kind", a.kind], ["version", a.version], ["runs at once", a.manifest.max_concurrent],
    ["isolation", a.manifest.isolation], ["memory, MiB", a.manifest.memory_mb],
    ["processor seconds", a.manifest.cpu_seconds],
    ["timeout", a.manifest.timeout && `${a.manifest.timeout} s`], ["model", a.manifest.model]];
  main.append(h("a", { class: "back", href: "#/agents" }, "← Agents"), h("h1", {}, a.full_name),
    h("p", { class: "sub" }, a.description ?? ""), h("div", { class: "split" },
      section("Run it", form(async () => {
        const body = { query: message.read(), args: args.read() };
        if (body.query === undefined) body.args ??= {}; // a run is given something, be it nothing
        location.hash = runLink((await post(`${path}/run`, body)).task_id);
      }, "Run", [message.node, args.node])),
      section("About", ...facts.filter(([, value]) => value != null)
        .map(([title, value]) => h("p", {}, h("span", { class: "dim" }, `${title}: `), `${value}`)))));
}
