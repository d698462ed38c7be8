// The door: signing in with a password or an API key, accepting an invitation, choosing an organisation.

import { labelled } from "./account.js";
import { form } from "./forms.js";
import { api, h, key, person } from "./page.js";

export function door(reason, opened) {
  const email = labelled("E-mail", "email", { type: "email", autocomplete: "username" });
  const password = labelled("Password", "password", { type: "password", autocomplete: "current-password" });
  const typed = labelled("API key", "key", { type: "password", autocomplete: "off" });
  const node = h("section", { class: "card door" }, h("h1", {}, "Runyard"),
    h("p", { class: "bad", role: "alert" }, reason),
    form(async () => {
      const me = await api("POST", "/login", { email: email.input.value, password: password.input.value });
      person.take(me);
      await opened(me);
    }, "Sign in", [...email.nodes, ...password.nodes]),
    h("p", { class: "or" }, "or"),
    form(async () => {
      key.value = typed.input.value.trim();
      await api("GET", "/tasks?limit=1").catch((error) => { if (error.status !== 403) throw error; });
      await opened();
    }, "Sign in with this key", [...typed.nodes, h("small", {},
      "The first start writes one to admin.key in RUNYARD_HOME. It is kept until this tab is closed.")]));
  return { node, first: email.input };
}

export function newPassword(opened) { // for who signed in with a password that another person chose
  const current = labelled("Present password", "current", { type: "password", autocomplete: "current-password" });
  const wanted = labelled("New password", "wanted", { type: "password", autocomplete: "new-password" });
  const node = h("section", { class: "card door" }, h("h1", {}, "Choose a password of your own"), form(async () => {
    await api("POST", "/me/password", { current: current.input.value, new: wanted.input.value });
    const me = await api("GET", "/me");
    person.take(me);
    await opened(me);
  }, "Change the password", [...current.nodes, ...wanted.nodes, h("small", {},
    "Another person chose the present one, so it opens nothing else. Ten characters or more.")]));
  return { node, first: current.input };
}

export function invitation(token, opened) { // its page's address holds the token behind the #: no server's log has it
  const name = labelled("Your name", "name", { autocomplete: "name", required: false });
  const password = labelled("Password", "password", { type: "password", autocomplete: "new-password" });
  const node = h("section", { class: "card door" }, h("h1", {}, "Join Runyard"), form(async () => {
    const body = { token, name: name.input.value, password: password.input.value };
    const me = await api("POST", "/invitations/accept", body);
    person.take(me);
    location.hash = "#/runs";
    await opened(me);
  }, "Join", [...name.nodes, ...password.nodes, h("small", {},
    "Ten characters or more. If you have an account already, the password of that.")]));
  return { node, first: name.input };
}

export function places(changed) { // shown to people of several organisations
  if (person.organisations.length < 2) return "";
  const select = h("select", { "aria-label": "Organisation" }, person.organisations.map((place) =>
    h("option", { value: place.id, selected: place.id === person.org }, place.name)));
  select.addEventListener("change", () => { person.org = select.value; changed(); });
  return select;
}
