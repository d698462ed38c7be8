// The organisation; and for the operator of the installation all of them, with their shares, balances and bounds.

import { access, get, may, patch, post, view } from "../api.js";
import { badge, button, dangerous, empty, fill, h, section, title, toast, when } from "../elements.js";
import { form } from "../forms.js";
import { acts, asked, entry, shownOnce, values } from "./acting.js";
import { stacked } from "./stacked.js";

const KEPT = [["completed", "Completed runs"], ["failed", "Failed runs"], ["stopped", "Stopped runs"],
  ["sessions", "Sessions"], ["usage", "Usage"]];

export default async function organisation(main, id) {
  if (id) return tenant(main, id);
  const own = await get("/organisation");
  const others = h("div", {});
  main.append(title("Organisation"), h("div", { class: "split" }, settings(own), section("About",
    h("dl", { class: "facts" }, h("dt", {}, "Id"), h("dd", {}, h("code", {}, own.id)), h("dt", {}, "Made"),
      h("dd", {}, when(own.created_at)), h("dt", {}, "You are"), h("dd", {}, access.role || "a key")))), others);
  view.refresh = () => tenants(others);
  await view.refresh?.();
}

function settings(own) {
  const name = entry("name", "Name", { value: own.name, required: true });
  const factor = entry("second_factor_required", "Require a second factor", { kind: "check",
    value: own.second_factor_required, hint: "People without one are kept out until they set one up. Keys are not concerned." });
  const kept = KEPT.map(([what, text]) => entry(what, text, { kind: "number", value: own.retention[what] }));
  const all = [name.node, factor.node, h("fieldset", {}, h("legend", {}, "Days that what has ended is kept; blank: for ever"),
    h("div", { class: "pair" }, kept.map((one) => one.node)))];
  if (!may("organisation:write")) kept.concat(name, factor).forEach((one) => { one.input.disabled = true; });
  return section("Settings", may("organisation:write") ? form(async () => {
    const changes = { name: name.read() };
    const days = values(kept);
    if (JSON.stringify(days) !== JSON.stringify(shownDays(own))) changes.retention = days;
    if (factor.read() !== own.second_factor_required) changes.second_factor_required = factor.read();
    Object.assign(own, await patch("/organisation", changes));
    toast("Saved.");
  }, "Save", all) : h("div", {}, all));
}

const shownDays = (own) => Object.fromEntries(KEPT.map(([what]) => [what, own.retention[what] ?? null]));

/* ---- the operator's ---- */

async function tenants(node) {
  if (!may("ops:read")) return;
  const page = await get("/ops/organisations?limit=100").catch((error) => {
    if (error.code === "operator_only") return null;
    throw error;
  });
  if (!page) return;
  fill(node, section("All organisations of this installation", h("div", { class: "actions" }, may("organisation:create")
    && button("New organisation", () => create(node))), page.data.length ? stacked("Organisations",
    ["Name", "State", "Share of the workers", "Balance", "Made"], page.data.map((o) => [
      h("a", { href: `#/organisation/${encodeURIComponent(o.id)}`, "data-key": o.id }, o.name), badge(o.active ? "active"
        : "off"), `${o.weight}`, money(o.balance), when(o.created_at)])) : empty("None.")));
}

const money = (balance) => (balance == null ? "not asked for" : `${balance.toFixed(2)} USD`);

async function create(node) {
  const made = await asked("New organisation", [entry("name", "Name", { required: true }), entry("owner_email",
    "E-mail of its owner", { type: "email", hint: "They are invited. Blank: you own it, where you signed in as a person." })],
  "Make it", ({ name, owner_email: email }) => post("/organisations", { name, ...(email && { owner_email: email }) }));
  if (!made) return;
  if (made.invitation?.link) {
    await shownOnce(`Invitation of ${made.invitation.email}`, "Hand this link to the owner. It works once, for seven days, "
      + "and is not shown again.", made.invitation.link, "Link");
  }
  await tenants(node);
}

async function tenant(main, id) {
  const head = h("div", {}), list = h("div", {});
  main.append(h("a", { class: "back", href: "#/organisation" }, "← Organisation"), head, section("Bounds",
    h("p", { class: "sub" }, "How many objects of each kind it may have. What is not set for it is the installation's."), list));
  const path = `/ops/organisations/${encodeURIComponent(id)}`;
  view.refresh = async () => {
    const [o, bounds] = await Promise.all([found(id), get(`${path}/bounds`)]);
    fill(head, title(o.name, ...orders(o, path)), h("dl", { class: "facts" }, [["State", badge(o.active ? "active" : "off")],
      ["Share of the workers", `${o.weight}`], ["Balance", money(o.balance)], ["Id", h("code", {}, o.id)],
      ["Made", when(o.created_at)]].flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)])));
    fill(list, stacked("Bounds", ["Bound", "Of", "Used", "At most", "Set by", ""], bounds.data.map((b) => [b.name, b.of,
      b.used == null ? "—" : b.used.toLocaleString(), b.most.toLocaleString(), b.own ? "for this one" : "the installation",
      may("organisation:create") && acts(button("Change", () => bound(path, b), "quiet"))])));
  };
  await view.refresh?.();
}

async function found(id) { // there is no call for one: the pages of the list are looked through
  let cursor = "";
  do {
    const page = await get(`/ops/organisations?limit=100${cursor && `&cursor=${cursor}`}`);
    const one = page.data.find((each) => each.id === id);
    if (one) return one;
    cursor = page.next_cursor;
  } while (cursor);
  throw new Error("There is no such organisation.");
}

const saved = (path) => async (changes) => {
  await patch(path, changes);
  toast("Saved.");
  await view.refresh?.();
};

function orders(o, path) {
  if (!may("organisation:create")) return [];
  const save = saved(path);
  return [button("Change", () => asked(`Change ${o.name}`, [
    entry("weight", "Share of the workers", { kind: "number", value: o.weight, required: true,
      hint: "Relative to the other organisations' (1 at first)." }),
    entry("balance", "Balance, USD", { kind: "number", min: undefined, value: o.balance,
      hint: "What is left of what was paid in advance; blank: it is not asked for." })], "Save", save)),
  button("Top up", () => asked(`Add to the balance of ${o.name}`, [entry("top_up", "USD to add", { kind: "number",
    required: true })], "Add", save)),
  o.active ? dangerous("Deactivate", `Deactivate ${o.name}? Its callers are refused; its runs go on.`,
    () => save({ active: false })) : button("Activate", () => save({ active: true }))];
}

const bound = (path, b) => asked(`Bound ${b.name}`, [entry("most", "At most", { kind: "number", step: 1,
  value: b.own ? b.most : null, placeholder: `${b.most} (the installation's)`, hint: "Blank: as the installation has it." })],
"Save", ({ most }) => saved(path)({ bounds: { [b.name]: most } }));
