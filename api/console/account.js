// The account of who signed in: their password, and where they are signed in.

import { form } from "./forms.js";
import { api, button, empty, fill, get, h, person, section, table, toast, view, when } from "./page.js";

export const labelled = (text, id, attributes) => {
  const input = h("input", { id, required: true, spellcheck: "false", ...attributes });
  return { input, nodes: [h("label", { for: id }, text), input] };
};

const BROWSERS = [["Edg/", "Edge"], ["OPR/", "Opera"], ["Firefox/", "Firefox"], ["Chrome/", "Chrome"],
  ["Safari/", "Safari"]];
const SYSTEMS = [["Windows", "Windows"], ["Android", "Android"], ["iPhone", "iPhone"], ["iPad", "iPad"],
  ["Mac OS X", "macOS"], ["Linux", "Linux"]];
const among = (names, agent) => names.find(([part]) => agent.includes(part))?.[1];

function device(agent) { // a short name of a browser; its own, long one is the title
  if (!agent) return "unknown";
  const name = [among(BROWSERS, agent), among(SYSTEMS, agent)].filter(Boolean).join(" on ");
  return h("span", { title: agent }, name || agent.slice(0, 40));
}

export async function account(main) {
  const list = h("div", {});
  const me = await get("/me");
  if (!me.person) return main.append(h("h1", {}, "Account"), empty("A key has no account: sign in with a password."));
  person.take(me);
  main.append(h("h1", {}, "Account"), h("p", { class: "sub" }, [me.person.name, me.person.email].filter(Boolean).join(" · ")),
    section("Where you are signed in", list), passwordForm());
  view.refresh = () => signIns(list);
  await view.refresh();
}

async function signIns(list) {
  const { data } = await get("/me/sign-ins");
  const end = async (path, done) => { await api("DELETE", path); toast(done); await signIns(list); };
  fill(list, table(["Browser", "Address", "Signed in", "Last used", ""], data.map((s) => [device(s.agent), s.address,
    when(s.created_at), when(s.last_used_at), s.current ? h("span", { class: "dim" }, "this one")
      : button("End", () => end(`/me/sign-ins/${s.id}`, "It has ended."), "quiet")])),
  data.length > 1 && h("div", { class: "actions" },
    button("End all others", () => end("/me/sign-ins", "You are signed in here alone."))));
}

function passwordForm() {
  const current = labelled("Present password", "current", { type: "password", autocomplete: "current-password" });
  const wanted = labelled("New password", "wanted", { type: "password", autocomplete: "new-password" });
  return section("Password", form(async () => {
    await api("POST", "/me/password", { current: current.input.value, new: wanted.input.value });
    current.input.value = wanted.input.value = "";
    toast("Changed. Every other sign-in has ended.");
    await view.refresh();
  }, "Change the password", [...current.nodes, ...wanted.nodes]));
}
