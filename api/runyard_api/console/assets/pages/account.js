// The account of who signed in: their password, their second factor, and where they are signed in.

import { api, get, person, view } from "../api.js";
import { button, empty, fill, h, section, table, toast, when } from "../elements.js";
import { form, labelled } from "../forms.js";
import { codeField, enrolling, recoveryCodes, signOn } from "../second_factor.js";

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

export default async function account(main) {
  const list = h("div", {});
  const me = await get("/me");
  if (!me.person) return main.append(h("h1", {}, "Account"), empty("A key has no account: sign in with a password."));
  person.set(me);
  main.append(h("h1", {}, "Account"), h("p", { class: "sub" }, [me.person.name, me.person.email].filter(Boolean).join(" · ")),
    section("Where you are signed in", list), passwordForm(), h("div", { id: "factor" }),
    h("div", { id: "sign-on" }));
  view.refresh = () => signIns(list);
  await Promise.all([secondFactor(main.querySelector("#factor")), signOnLinks(main.querySelector("#sign-on"))]);
  await view.refresh?.();
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
    await view.refresh?.();
  }, "Change the password", [...current.nodes, ...wanted.nodes]));
}

const passwordField = (id) =>
  labelled("Password", id, { type: "password", autocomplete: "current-password" });
async function secondFactor(place) {
  const { enrolled, recovery_codes_left: left } = await get("/me/second-factor");
  const password = passwordField("factor-password");
  if (!enrolled) {
    return fill(place, section("Second factor", h("p", { class: "sub" },
      "An authenticator on your phone gives a code that sign-ins need with the password."), form(async () => {
      enrolling(place, await api("POST", "/me/second-factor", { password: password.input.value }),
        () => secondFactor(place));
    }, "Set up an authenticator", password.nodes)));
  }
  const code = codeField("factor-code");
  const proof = () => ({ password: password.input.value, code: code.input.value });
  fill(place, section("Second factor", h("p", { class: "sub" }, `In use. ${left} recovery codes are left.`),
    form(async () => {
      const made = await api("POST", "/me/second-factor/recovery-codes", proof());
      recoveryCodes(place, made.recovery_codes, () => secondFactor(place));
    }, "Make new recovery codes", [...password.nodes, ...code.nodes]),
    button("Remove the second factor", async () => {
      await api("POST", "/me/second-factor/remove", proof());
      toast("The password alone counts from now on.");
      await secondFactor(place);
    }, "danger")));
}

async function signOnLinks(place) {
  if (!(await get("/login")).single_sign_on) return;
  const { data } = await get("/me/single-sign-on");
  const unlink = async () => { await api("DELETE", "/me/single-sign-on"); await signOnLinks(place); };
  fill(place, section("Single sign-on", ...(data.length
    ? [h("p", { class: "sub" }, `${data.map((one) => one.issuer).join(", ")} opens this account.`),
      button("Remove", unlink, "danger")]
    : [h("p", { class: "sub" }, "Let your organisation's sign-on open this account, too."),
      button("Link single sign-on", () => signOn("/me/single-sign-on"))])));
}
