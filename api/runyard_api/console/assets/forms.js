// Forms from JSON Schema. A field is { node, read() }; read() throws what is wrong with what was typed.

import { post } from "./api.js";
import { button, h, json, toast, when } from "./elements.js";

let fieldNumber = 0;

export const labelled = (text, id, attributes) => {
  const input = h("input", { id, required: true, spellcheck: "false", ...attributes });
  return { input, nodes: [h("label", { for: id }, text), input] };
};

const DEEPEST = 6; // levels of a schema that contains itself

function resolved(schema, root) { // what a reference, or an alternative to null, means
  const name = schema?.$ref?.match(/^#\/\$defs\/(.+)$/)?.[1];
  if (name) return resolved({ ...root?.$defs?.[name], ...schema, $ref: undefined }, root);
  const others = alternatives(schema);
  const scalars = others.every((one) => ["number", "integer", "string"].includes(one.type));
  const one = others.length === 1 ? others[0] : scalars && others.find((other) => other.type === "string");
  return one ? resolved({ ...one, ...schema, anyOf: undefined, oneOf: undefined }, root) : schema;
}

const alternatives = (schema) => (schema?.anyOf ?? schema?.oneOf ?? []).filter((one) => one.type !== "null");
const kindOf = (schema) => (Array.isArray(schema?.type) ? schema.type.find((t) => t !== "null") : schema?.type);

export function field(given, name, required, initial, root = given, depth = 0) {
  const schema = depth > DEEPEST ? {} : resolved(given, root);
  const kind = kindOf(schema);
  initial = initial ?? schema?.default;
  if (schema?.const !== undefined) return { node: null, read: () => schema.const };
  const choices = alternatives(schema).map((one) => resolved(one, root));
  if (choices.length > 1 && choices.some((one) => one?.properties)) {
    return choiceField(schema, choices, name, required, initial, root, depth);
  }
  if (kind === "object" && schema.properties) {
    const open = required || !name || initial != null;
    return open ? objectField(schema, name, initial, root, depth)
      : optional(name, () => objectField(schema, name, undefined, root, depth));
  }
  if (kind === "array" && schema.items && !schema.items.enum) {
    return arrayField(schema, name, required, initial, root, depth);
  }
  const id = `f${++fieldNumber}`;
  const about = { id, name, required: required && kind !== "boolean", "data-key": id };
  let input, read = () => input.value;
  if (schema?.enum) {
    const options = schema.enum.map((v, i) => h("option", { value: i, selected: v === initial }, String(v)));
    input = h("select", about, !required && h("option", { value: "" }, "—"), options);
    read = () => schema.enum[Number(input.value)];
  } else if (kind === "boolean") {
    input = h("input", { ...about, type: "checkbox", checked: initial === true });
    read = () => input.checked;
  } else if (kind === "number" || kind === "integer") {
    input = h("input", { ...about, type: "number", step: kind === "integer" ? 1 : "any", min: schema.minimum,
      max: schema.maximum, value: initial });
    read = () => Number(input.value);
  } else if (kind === "string") {
    const long = !schema.format && !(schema.maxLength <= 80);
    input = long ? h("textarea", { ...about, rows: 1 }, initial ?? "")
      : h("input", { ...about, type: { date: "date", email: "email", uri: "url" }[schema.format] ?? "text",
        value: initial, placeholder: { "date-time": "2026-01-31T12:00:00Z" }[schema.format] });
  } else {
    input = h("textarea", { ...about, rows: 5, spellcheck: "false", class: "code", placeholder: "JSON" },
      initial === undefined ? "" : JSON.stringify(initial, null, 2));
    read = () => {
      try { return JSON.parse(input.value); } catch { throw new Error(`${name || "The value"} is not JSON.`); }
    };
  }
  const blank = () => kind !== "boolean" && input.value === "";
  return {
    node: h("div", { class: `field ${kind ?? "any"}` },
      h("label", { for: id }, name || schema?.title || "Answer", required && h("em", {}, " required")),
      input, schema?.description && h("small", {}, schema.description)),
    read: () => {
      if (!blank()) return read();
      if (required) throw new Error(`${name || "An answer"} is required.`);
      return undefined;
    },
  };
}

function objectField(schema, name, initial, root, depth) {
  const needed = new Set(schema.required ?? []);
  const fields = Object.entries(schema.properties).map(([key, inner]) =>
    [key, field(inner, key, needed.has(key), initial?.[key], root, depth + 1)]);
  const nodes = fields.map(([, inner]) => inner.node);
  return {
    node: name ? h("fieldset", {}, h("legend", {}, name), nodes) : h("div", {}, nodes),
    read: () => Object.fromEntries(fields.map(([key, f]) => [key, f.read()]).filter(([, v]) => v !== undefined)),
  };
}

function optional(name, make) { // an object that may be left out: its own required fields count once it is there
  let inner = null;
  const node = h("div", { class: "field" });
  const add = button(`Add ${name}`, () => { inner = make(); show(); }, "quiet");
  const remove = button("Remove", () => { inner = null; show(); }, "quiet");
  const show = () => node.replaceChildren(inner ? h("div", { class: "item" }, inner.node, remove) : add);
  show();
  return { node, read: () => inner?.read() };
}

function choiceField(schema, choices, name, required, initial, root, depth) { // one of several schemas
  let inner;
  const place = h("div", {});
  const show = (number) => {
    inner = number === "" ? null
      : field(choices[number], titleOf(choices[number], Number(number)), true, initial, root, depth + 1);
    place.replaceChildren(...(inner ? [inner.node] : []));
  };
  const fits = choices.findIndex((one) => initial != null && isLike(initial, one));
  const first = fits >= 0 ? fits : required ? 0 : "";
  const id = `f${++fieldNumber}`;
  const options = choices.map((one, i) => h("option", { value: i, selected: i === first }, titleOf(one, i)));
  const select = h("select", { id, "data-key": id, onchange: () => { initial = undefined; show(select.value); } },
    !required && h("option", { value: "", selected: first === "" }, "—"), options);
  show(first);
  return {
    node: h("fieldset", {}, h("legend", {}, name || "Answer"),
      h("div", { class: "field" }, h("label", { for: id }, "Kind"), select,
        schema?.description && h("small", {}, schema.description)), place),
    read: () => inner?.read(),
  };
}

const titleOf = (schema, number) => schema?.title ?? schema?.const ?? kindOf(schema) ?? `Choice ${number + 1}`;

function isLike(value, schema) { // whether a value was probably written for this one of several schemas
  if (schema?.properties) {
    return typeof value === "object" && (schema.required ?? []).every((key) => key in value) &&
      Object.entries(schema.properties).every(([key, one]) => one.const === undefined || one.const === value[key]);
  }
  const kind = Array.isArray(value) ? "array" : Number.isInteger(value) ? "integer" : typeof value;
  return kindOf(schema) === kind || (kindOf(schema) === "number" && kind === "integer");
}

function arrayField(schema, name, required, initial, root, depth) {
  const items = [];
  const list = h("div", {});
  const add = (value) => {
    const item = field(schema.items, `${name || "item"} ${items.length + 1}`, true, value, root, depth + 1);
    const row = h("div", { class: "item" }, item.node,
      button("Remove", () => { items.splice(items.indexOf(item), 1); row.remove(); }, "quiet"));
    items.push(item);
    list.append(row);
  };
  (initial ?? (required ? [undefined] : [])).forEach(add);
  return {
    node: h("fieldset", {}, h("legend", {}, name), list, button("Add item", () => add(undefined), "quiet")),
    read: () => (items.length || required ? items.map((item) => item.read()) : undefined),
  };
}

/* ---- what a run asks of people ---- */

export function question(asked, done = () => {}) { // the panel of an open question or review
  return asked.kind === "review" ? review(asked, done) : answerForm(asked, done);
}

const deadline = (asked) => asked.deadline && h("small", {}, "expires ", when(asked.deadline));

function answerForm(asked, done) {
  const send = async (message) => {
    await post(`/tasks/${asked.task_id}/message`, { message, question_id: asked.id });
    toast("Answered: the run goes on.");
    done();
  };
  const choices = asked.options ?? asked.schema?.enum;
  if (choices && choices.length <= 8) {
    return h("div", {}, h("h2", {}, asked.text ?? "Question"), deadline(asked),
      h("div", { class: "actions" }, choices.map((choice) => button(String(choice), () => send(choice)))));
  }
  const answer = field(asked.schema ?? { type: "string" }, "", true);
  return form(async () => send(answer.read()), "Answer", [h("h2", {}, asked.text ?? "Question"), deadline(asked),
    answer.node]);
}

function review(asked, done) {
  const decide = async (action, more = {}) => {
    await post(`/tasks/${asked.task_id}/review`, { action, review_id: asked.id, ...more });
    toast(`Decided: ${action}.`);
    done();
  };
  const reason = h("input", { type: "text", "aria-label": "Reason", placeholder: "Reason (optional)" });
  const why = () => (reason.value.trim() ? { reason: reason.value.trim() } : {});
  const edited = field(asked.schema ?? {}, "Arguments", true, asked.arguments);
  const result = field({}, "Result of the skipped step", false);
  const own = asked.decisions ?? ["approve", "reject", "edit"];
  const act = {
    approve: button("Approve", () => decide("approve", why()), "primary"),
    reject: button("Reject", () => decide("reject", why()), "danger"),
    redo: button("Redo the step", () => decide("redo", why())),
    fail: button("Fail the run", () => decide("fail", why()), "danger"),
  };
  return h("div", {}, h("h2", {}, asked.text ?? asked.action ?? "Review"), deadline(asked),
    asked.arguments != null && json(asked.arguments), reason,
    h("div", { class: "actions" }, own.map((name) => act[name])),
    own.includes("edit") && h("details", {}, h("summary", {}, "Edit, then approve"), edited.node,
      button("Approve with these", async () => decide("edit", { arguments: edited.read(), ...why() }), "primary")),
    own.includes("skip") && h("details", {}, h("summary", {}, "Skip the step with a result"), result.node,
      button("Skip the step", async () => decide("skip", { result: result.read() ?? null, ...why() }))));
}

// Enter and the button do the same, once at a time. A refusal is shown beside the field it is about, and stays until
// the next try.
export function form(act, text, children, kind = "primary") {
  const send = h("button", { type: "submit", class: kind }, text);
  const submit = async (event) => {
    event.preventDefault();
    if (send.disabled) return;
    send.disabled = true;
    node.querySelectorAll(".refusal").forEach((shown) => shown.remove());
    node.querySelectorAll("[aria-invalid]").forEach((input) => input.removeAttribute("aria-invalid"));
    try { await act(); } catch (error) { if (error.name !== "AbortError") refuse(node, error); }
    send.disabled = false;
  };
  const typed = (event) => { if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) submit(event); };
  const node = h("form", { novalidate: true, onsubmit: submit, onkeydown: typed }, children,
    h("div", { class: "actions" }, send));
  return node;
}

function refuse(node, error) {
  const name = error.problem?.field?.split(/[.[]/).at(-1);
  const input = name && node.querySelector(`[name="${CSS.escape(name)}"]`);
  const shown = h("p", { class: "bad refusal", role: "alert" }, error.message);
  if (!input) return node.lastElementChild.before(shown);
  input.setAttribute("aria-invalid", "true");
  input.after(shown);
  input.focus();
}
