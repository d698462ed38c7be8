// The secrets that agents use: their names. No call returns a value.

import { get, may, put, remove, view } from "../api.js";
import { button, dangerous, empty, fill, h, title, toast, when } from "../elements.js";
import { actor, actorNames, acts, asked, entry } from "./acting.js";
import { stacked } from "./stacked.js";

export default async function secrets(main) {
  const list = h("div", {});
  main.append(title("Secrets", may("secrets:write") && button("New secret", () => set(), "primary")), h("p",
    { class: "sub" }, "Agents read them with ctx.secret(name). Values are encrypted, and shown to no one."), list);
  view.refresh = async () => {
    const [{ data }, names] = await Promise.all([get("/secrets"), actorNames()]);
    fill(list, data.length ? stacked("Secrets", ["Name", "Set", "By", ""], data.map((s) => [h("code", {}, s.name),
      when(s.updated_at), actor(names, s.updated_by), orders(s)])) : empty("No secrets. Set the first one that an agent needs.",
      may("secrets:write") && button("Set the first secret", () => set())));
  };
  await view.refresh?.();
}

const orders = (s) => acts(may("secrets:write") && button("New value", () => set(s.name), "quiet"), may("secrets:delete")
  && dangerous("Delete", `Delete the secret ${s.name}? Runs that ask for it fail from now on.`, async () => {
    await remove(`/secrets/${encodeURIComponent(s.name)}`);
    toast("Deleted.");
    await view.refresh?.();
  }));

const set = (known) => asked(known ? `New value of ${known}` : "New secret", [
  ...(known ? [] : [entry("secret_name", "Name", { required: true, hint: "Such as STRIPE_KEY." })]),
  entry("value", "Value", { type: "password", required: true, autocomplete: "off" })], known ? "Set the value" : "Set it",
async ({ secret_name: name = known, value }) => {
  await put(`/secrets/${encodeURIComponent(name ?? "")}`, { value: value ?? "" });
  toast(known ? "Runs get the new value from now on." : "Set.");
  await view.refresh?.();
});
