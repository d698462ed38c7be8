// The API keys: making one, which is shown once, and revoking.

import { access, get, may, post, remove, view } from "../api.js";
import { button, dangerous, empty, fill, h, title, toast, when } from "../elements.js";
import { actor, actorNames, acts, asked, entry, givableRoles, listed, several, shownOnce } from "./acting.js";
import { stacked } from "./stacked.js";

const DAY = 86_400_000;
const LASTS = [["", "never"], ["7", "in 7 days"], ["30", "in 30 days"], ["90", "in 90 days"], ["365", "in a year"]];

export default async function keys(main) {
  const list = h("div", {});
  main.append(title("Keys", may("keys:write") && button("New key", create, "primary")), h("p", { class: "sub" },
    "Programs call the API with a key. Its text is shown once, when it is made."), list);
  view.refresh = async () => {
    const [page, names] = await Promise.all([get("/keys?limit=100"), actorNames()]);
    fill(list, page.data.length ? stacked("Keys", ["Name", "Begins with", "Role", "May", "Made by", "Expires", "Last used", ""],
      page.data.map((one) => row(one, names))) : empty("No keys."), page.has_more && h("p", { class: "more dim" }, "The newest 100 are shown."));
  };
  await view.refresh?.();
}

const row = (k, names) => [k.name, h("code", {}, k.prefix), k.role, k.scopes ? scopes(k.scopes) : "all of its role",
  actor(names, k.created_by), k.expires_at ? when(k.expires_at) : "never", k.last_used_at ? when(k.last_used_at) : "never",
  may("keys:delete") && acts(dangerous("Revoke", `Revoke the key ${k.name}? Requests with it are refused from now on; runs `
    + "under way finish.", async () => {
    await remove(`/keys/${k.id}`);
    toast("Revoked.");
    await view.refresh?.();
  }))];

const scopes = (all) => (all.length <= 2 ? listed(all) : h("span", { title: listed(all) }, `${all.length} permissions`));

async function create() {
  const own = [...access.permissions].filter((one) => !one.startsWith("account:")).sort();
  const chosen = several("scopes", "Only these permissions; none: all of its role", own.map((one) => [one, one]), []);
  const fields = [entry("name", "Name", { required: true, maxlength: 200, hint: "What uses it, such as billing-nightly." }),
    entry("role", "Role", { kind: "choice", options: givableRoles(), value: "member" }),
    entry("lasts", "Expires", { kind: "choice", options: LASTS, value: "" }), chosen];
  const made = await asked("New key", fields, "Make it", ({ lasts, scopes: wanted, ...given }) => post("/keys", { ...given,
    ...(wanted.length && { scopes: wanted }),
    ...(lasts && { expires_at: new Date(Date.now() + lasts * DAY).toISOString() }) }));
  if (!made) return;
  await shownOnce(`The key ${made.name}`, "It is shown now and never again: copy it to where it is used.", made.key);
  await view.refresh?.();
}
