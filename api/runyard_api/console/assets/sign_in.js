// The sign-in page: signing in with a password or an API key, accepting an invitation, choosing an organisation.

import { api, key, person } from "./api.js";
import { button, h } from "./elements.js";
import { form, labelled } from "./forms.js";
import { codeField, enrolling, signOn } from "./second_factor.js";

const REFUSALS = { // reasons of a refused single sign-on, by the code in the address its callback leads to
  email_not_verified: "The provider has not verified your e-mail address.",
  domain_not_allowed: "Addresses of your domain are not admitted here.",
  claim_not_allowed: "The provider does not list you among those who are admitted here.",
  account_not_linked: "Your address has an account: sign in with its password, then link it on the account page.",
  no_account: "You have no account here: ask for an invitation.",
  invitation_for_other: "The invitation is for another e-mail address.",
  invitation_not_found: "The invitation was used, withdrawn, or has expired.",
  email_differs: "The provider knows you by another e-mail address.",
  identity_taken: "This identity opens another account already.",
  sign_on_unavailable: "The provider cannot be reached at the moment.",
};
export const refusedSignOn = () => {
  const code = location.hash.match(/^#\/sign-on\/(\w+)$/)?.[1];
  return code && (REFUSALS[code] ?? "The single sign-on did not succeed; begin it again.");
};

function bySignOn(text, body) { // where the operator has set it up
  const place = h("div", { class: "actions" });
  api("GET", "/login").then((ways) => {
    if (ways.single_sign_on) place.append(button(text, () => signOn("/login/oidc", body)));
  }, () => {});
  return place;
}

export function signInCard(reason, opened) {
  const email = labelled("E-mail", "email", { type: "email", autocomplete: "username" });
  const password = labelled("Password", "password", { type: "password", autocomplete: "current-password" });
  const typed = labelled("API key", "key", { type: "password", autocomplete: "off" });
  const node = h("section", { class: "card sign-in" }, h("h1", {}, "Runyard"),
    reason && h("p", { class: "bad", role: "alert" }, reason),
    withCode((more) => api("POST", "/login", { email: email.input.value, password: password.input.value, ...more }),
      opened, "Sign in", [...email.nodes, ...password.nodes]),
    bySignOn("Sign in with single sign-on", {}),
    h("p", { class: "or" }, "or"),
    form(async () => {
      key.value = typed.input.value.trim();
      await api("GET", "/tasks?limit=1").catch((error) => { if (error.status !== 403) throw error; });
      await opened();
    }, "Sign in with this key", [...typed.nodes, h("small", {},
      "The first start writes one to admin.key in RUNYARD_HOME. It is kept until this tab is closed.")]));
  return { node, first: email.input };
}

function withCode(ask, opened, text, nodes) { // asks for the second factor of who has one
  const code = codeField("code");
  const more = h("div", { hidden: true }, code.nodes, h("small", {}, "Or a recovery code."));
  return form(async () => {
    const me = await ask(code.input.value ? { code: code.input.value } : {}).catch((error) => {
      if (error.code !== "second_factor_needed" && error.code !== "wrong_code") throw error;
      more.hidden = false;
      code.input.focus();
      if (error.code === "wrong_code") throw error;
    });
    if (!me) return;
    person.set(me);
    await opened(me);
  }, text, [...nodes, more]);
}

export function needsFactor(opened) { // for who belongs to organisations that require a second factor
  const password = labelled("Password", "password", { type: "password", autocomplete: "current-password" });
  const node = h("section", { class: "card sign-in" }, h("h1", {}, "Set up a second factor"));
  const place = h("div", {});
  const done = async () => {
    const me = await api("GET", "/me");
    person.set(me);
    await opened(me);
  };
  place.append(form(async () => {
    enrolling(place, await api("POST", "/me/second-factor", { password: password.input.value }), done);
  }, "Set up an authenticator", [...password.nodes, h("small", {}, "Your organisation requires one.")]));
  node.append(place);
  return { node, first: password.input };
}

export function newPassword(opened) { // for who signed in with a password that another person chose
  const current = labelled("Present password", "current", { type: "password", autocomplete: "current-password" });
  const wanted = labelled("New password", "wanted", { type: "password", autocomplete: "new-password" });
  const node = h("section", { class: "card sign-in" }, h("h1", {}, "Choose a password of your own"), form(async () => {
    await api("POST", "/me/password", { current: current.input.value, new: wanted.input.value });
    const me = await api("GET", "/me");
    person.set(me);
    await opened(me);
  }, "Change the password", [...current.nodes, ...wanted.nodes, h("small", {},
    "Another person chose the present one, so it opens nothing else. Ten characters or more.")]));
  return { node, first: current.input };
}

export function invitation(token, opened) { // its page's address holds the token behind the #: no server's log has it
  const name = labelled("Your name", "name", { autocomplete: "name", required: false });
  const password = labelled("Password", "password", { type: "password", autocomplete: "new-password" });
  const join = (more) =>
    api("POST", "/invitations/accept", { token, name: name.input.value, password: password.input.value, ...more });
  const node = h("section", { class: "card sign-in" }, h("h1", {}, "Join Runyard"), withCode(join, async (me) => {
    location.hash = "#/runs";
    await opened(me);
  }, "Join", [...name.nodes, ...password.nodes, h("small", {},
    "Ten characters or more. If you have an account already, the password of that.")]),
  bySignOn("Use single sign-on", { invitation: token }));
  return { node, first: name.input };
}

export function places(changed) { // shown to people of several organisations
  if (person.organisations.length < 2) return "";
  const select = h("select", { "aria-label": "Organisation" }, person.organisations.map((place) =>
    h("option", { value: place.id, selected: place.id === person.org }, place.name)));
  select.addEventListener("change", () => { person.org = select.value; changed(); });
  return select;
}
