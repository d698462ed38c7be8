// The form of a run: words, arguments by the agent's input schema, files and options. Schedules use it, too.

import { get, post } from "../api.js";
import { h, label, showError, when } from "../elements.js";
import { field, labelled } from "../forms.js";

const OPTIONS = [ // by the request's field: its label, kind of input, and what it means
  ["session_id", "Session", "text", "Continue the conversation of this name; a new name begins one."],
  ["version", "Version", "text", "A version, a tag or a range such as ^1.2."],
  ["model", "Model", "text", "As provider:name, in place of the agent's own."],
  ["budget", "Budget, USD", "number", "Once it is spent the run waits for a top-up."],
  ["deadline", "At most, seconds", "number", "The run fails unless it has ended by then."],
  ["ttl", "Start within, seconds", "number", "The run fails unless it has started by then."],
  ["priority", "Priority", "number", "Lower runs first; from -1000 to 1000."],
  ["callback", "Callback URL", "url", "What happens to the run is posted there."],
];
// The fields of a run request that the form shows.
export const FIELDS = ["query", "message", "args", ...OPTIONS.map(([name]) => name)];
let number = 0;

function option([name, text, type, hint], initial) {
  const id = `option${++number}`;
  const { input, nodes } = labelled(text, id, { name: name === "callback" ? "url" : name, type, required: false,
    step: type === "number" ? "any" : null, value: initial, "data-key": id, "aria-describedby": `${id}-hint` });
  return { name, node: h("div", { class: "field" }, nodes, h("small", { id: `${id}-hint` }, hint)),
    read: () => {
      if (input.value.trim() === "") return undefined;
      if (name === "callback") return { url: input.value.trim() };
      return type === "number" ? Number(input.value) : input.value.trim();
    } };
}

// The fields for a run of `agent` (as the API shows it). `initial` is a run request. `without` names options to leave
// out. It gives { node, read(), files(), options }.
export function runFields(agent, initial = {}, { files = true, without = [] } = {}) {
  const schema = agent.manifest.input?.schema;
  const open = !schema || (schema.type === "object" && !schema.properties && !schema.required?.length);
  const message = field({ type: "string" }, "Message", false, initial.query ?? initial.message);
  const args = field(schema ?? {}, schema?.properties ? "" : "Arguments", !open, initial.args);
  const options = OPTIONS.filter(([name]) => !without.includes(name))
    .map((one) => option(one, one[0] === "callback" ? initial.callback?.url : initial[one[0]]));
  const id = `files${++number}`;
  const chosen = h("input", { type: "file", multiple: true, id, name: "files", "data-key": id });
  const set = options.some(({ name }) => initial[name] != null);
  const node = h("div", {}, message.node, args.node,
    files && h("div", { class: "field" }, h("label", { for: id }, "Files"), chosen),
    h("details", { class: "options", open: set }, h("summary", {}, "Options"),
      h("div", { class: "pairs" }, options.map((one) => one.node))));
  return { node, files: () => [...chosen.files], read: () => readAll(message, args, options, chosen.files.length) };
}

function readAll(message, args, options, files) {
  const query = message.read();
  let given;
  try { given = args.read(); } catch (error) { // words or a file alone are enough for most agents
    if (query === undefined && !files) throw error;
  }
  const body = { query, args: given };
  if (query === undefined && !files) body.args ??= {}; // a run is given something, be it nothing
  for (const { name, read } of options) body[name] = read();
  return JSON.parse(JSON.stringify(body));
}

// The request as the form of a page sends it when files come with it.
export function withFiles(body, files) {
  const parts = new FormData();
  for (const [name, value] of Object.entries(body)) {
    parts.append(name, typeof value === "string" ? value : JSON.stringify(value));
  }
  files.forEach((file) => parts.append("files", file, file.name));
  return parts;
}

// A select of the last runs of an agent; `chosen` gets the input of the one that is picked.
export function recentInputs(agent, chosen) {
  const id = `recent${++number}`;
  const select = h("select", { id, "data-key": id, onchange: async () => {
    if (!select.value) return;
    try { chosen((await get(`/tasks/${select.value}`)).input ?? {}); } catch (error) { showError(error); }
  } }, h("option", { value: "" }, "—"));
  const node = h("div", { class: "field", hidden: true }, h("label", { for: id }, "Fill in from a recent run"), select);
  get(`/tasks?limit=10&agent_id=${agent.agent_group_id}`).then(({ data }) => {
    node.hidden = !data.length;
    select.append(...data.map((task) => h("option", { value: task.task_id },
      `${when(task.created_at).textContent} · ${label(task.status)} · ${task.title ?? task.task_id.slice(-12)}`)));
  }).catch(showError);
  return node;
}

// What a dry run answers, for people.
export function preview(found) {
  const words = { start: "It would start at once.", queue: `It would wait: the limit ${found.held_by} is full.`,
    reject: `It would be refused: the limit ${found.held_by} is full.` };
  return h("div", { class: "dry", role: "status" }, h("p", {}, words[found.would], ` Version ${found.version}.`),
    found.limits.length > 0 && h("ul", {}, found.limits.map((limit) => h("li", {}, h("code", {}, limit.limit),
      ` ${limit.in_use} of ${limit.max_concurrent ?? "any number"} in use`))));
}

// Send a run of the agent at `path`; with `delay` (seconds) as a schedule.
export async function start(path, agent, body, files, delay) {
  if (!delay) return post(`${path}/run`, files.length ? withFiles(body, files) : body);
  if (files.length) throw new Error("A delayed run cannot take files.");
  return post("/schedules", { agent: agent.full_name, schedule: delay, run: body });
}
