// What the administration pages share: buttons that post, forms in dialogs, secrets that are shown once.

import { access, get, may, post } from "../api.js";
import { button, dialog, h, toast } from "../elements.js";
import { form } from "../forms.js";

export function acting(refresh, path, ...actions) { // buttons that post and show what it changed
  return h("span", { class: "acts" }, actions.map(([text, action]) => button(text, async () => {
    await post(`${path}/${action}`);
    toast(`${text}: done.`);
    await refresh();
  }, "quiet")));
}

export const acts = (...buttons) => h("span", { class: "acts" }, buttons);

let number = 0;

// A labelled field { name, node, input, read }. `about` has the input's attributes and: kind (text, number, area, choice,
// check), value, options ([value, text]) of a choice, hint. A field left blank reads null.
export function entry(name, text, { kind = "text", value, options, hint, ...about } = {}) {
  const id = `e${++number}`;
  const given = { id, name, spellcheck: "false", "aria-describedby": hint && `${id}-hint`, ...about };
  const blank = (read) => () => (input.value.trim() === "" ? null : read(input.value.trim()));
  const [input, read] = {
    text: () => [h("input", { type: "text", ...given, value }), blank(String)],
    number: () => [h("input", { type: "number", step: "any", min: 0, ...given, value }), blank(Number)],
    area: () => [h("textarea", { rows: 2, ...given }, value ?? ""), blank(String)],
    choice: () => [h("select", given, options.map(([one, shown]) => h("option", { value: one, selected: one === value },
      shown))), () => input.value],
    check: () => [h("input", { type: "checkbox", ...given, checked: value === true }), () => input.checked],
  }[kind]();
  const node = h("div", { class: `field ${kind === "check" ? "boolean" : ""}` }, h("label", { for: id }, text), input,
    hint && h("small", { id: `${id}-hint` }, hint));
  return { name, node, input, read };
}

// Several of a list of words: { name, node, read }. Each is [value, text].
export function several(name, text, options, chosen) {
  const boxes = options.map(([value, shown]) => {
    const input = h("input", { type: "checkbox", value, checked: chosen.includes(value) });
    return { value, input, node: h("label", { class: "tick" }, input, shown) };
  });
  return { name, boxes, node: h("fieldset", {}, h("legend", {}, text), h("div", { class: "ticks" },
    boxes.map((box) => box.node))), read: () => boxes.filter((box) => box.input.checked).map((box) => box.value) };
}

export const values = (entries) => Object.fromEntries(entries.map((one) => [one.name, one.read()]));

// A form in a dialog. `send` gets the values by name; a refusal is shown beside its field. Answers what `send` answered, or
// null when the dialog was left.
export const asked = (name, entries, verb, send, ...more) => dialog(name, (close) => {
  const node = form(async () => close(await send(values(entries)) ?? true), verb,
    [...entries.map((one) => one.node), ...more]);
  node.lastElementChild.append(button("Cancel", () => close(), "quiet"));
  return node;
});

// A text to copy, with its name.
export function copyable(name, text) {
  const input = h("input", { type: "text", readonly: true, "aria-label": name, class: "code", value: text });
  return h("div", { class: "copy" }, input, button("Copy", async () => {
    input.select();
    await navigator.clipboard?.writeText(text); // a page that came without TLS has no clipboard: the text is selected
    toast(navigator.clipboard ? "Copied." : "Selected: copy it with the keyboard.");
  }));
}

// A secret that no call returns again.
export const shownOnce = (name, note, text, of = name) => dialog(name, (close) => [h("p", {}, note), copyable(of, text),
  h("div", { class: "actions" }, button("I have kept it", () => close(true), "primary"))], true);

// The names of those who act, by what the API calls them (key:ID, user:ID): of those that the caller may see.
export async function actorNames() {
  const [keys, people] = await Promise.all([may("keys:read") ? get("/keys?limit=100") : { data: [] },
    may("members:read") ? get("/members?limit=100") : { data: [] }]);
  return new Map([...keys.data.map((key) => [`key:${key.id}`, `the key ${key.name}`]),
    ...people.data.map((one) => [`user:${one.id}`, one.name || one.email])]);
}
export const actor = (names, who) => (names.has(who) ? h("span", { title: who }, names.get(who)) : who);

export const ROLES = ["viewer", "member", "admin", "owner"];
// The roles that the caller may give: their own at most.
export const givableRoles = () => ROLES.slice(0, ROLES.indexOf(access.role) + 1).map((role) => [role, role]);

export const listed = (items, none = "—") => (items?.length ? items.join(", ") : none);
