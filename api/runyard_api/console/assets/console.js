// The console: signing in, and what stays on show around the pages.

import { api, key, known, learnAccess, may, person, post, view } from "./api.js";
import { h, showError, toast } from "./elements.js";
import { drawNavigation, route } from "./navigation.js";
import { invitation, needsFactor, newPassword, places, refusedSignOn, signInCard } from "./sign_in.js";
import { follow } from "./stream.js";

const main = document.getElementById("main");

function signIn(reason = "") {
  const token = invited();
  ask(token ? invitation(token, enter) : signInCard(reason, enter));
}

function present(opened) { // the header and the sections, for who is signed in
  for (const id of ["top", "side"]) document.getElementById(id).hidden = !opened;
}

function ask({ node, first }) { // one card alone, before anything is open
  present(false);
  view.shown.abort();
  main.replaceChildren(node);
  first.focus();
}

async function enter(me) { // what a person has to do first, then the console; a key has nothing to do
  if (me?.must_change_password) return ask(newPassword(enter));
  if (me && !me.person.second_factor && await isClosed()) return ask(needsFactor(enter));
  return open();
}

const invited = () => location.hash.match(/^#\/invitation\/(.+)$/)?.[1];

const isClosed = () => api("GET", "/tasks?limit=1").then(() => false, (error) => {
  if (error.code === "second_factor_required") return true;
  if (error.status === 403) return false;
  throw error;
});

const entering = () => location.hash.match(/^#\/enter\/([^/]+)(?:\/(.+))?$/);

// A one-time link of the server's own machine, as `runyard up` and `runyard console` print it.
async function byLink(token, page = "runs") {
  history.replaceState(null, "", `${location.pathname}#/${page}`); // neither the history nor a reload tries it again
  try {
    key.value = (await api("POST", "/login/link", { token })).key;
  } catch (error) { return signIn(error.message); }
  return open();
}

async function begin() { // with the key of this tab, or the cookie of a sign-in
  if (invited()) return signIn();
  if (entering()) return byLink(...entering().slice(1));
  if (key.value) return open();
  const me = await api("GET", "/me").catch((error) => { if (error.status !== 401) throw error; });
  if (!me?.csrf_token) return signIn(refusedSignOn());
  if (refusedSignOn()) toast(refusedSignOn(), "bad"); // linking was refused: the person stays signed in
  person.set(me);
  return enter(me);
}

async function leave() {
  if (!key.value) await post("/logout");
  key.drop();
}

async function open() {
  view.session.abort();
  view.session = new AbortController();
  await learnAccess();
  document.getElementById("place").replaceChildren(key.value ? "" : places(() => open().catch(showError)));
  document.getElementById("account").hidden = Boolean(key.value);
  const count = h("sup", { id: "count" });
  drawNavigation(count);
  present(true);
  const link = document.getElementById("link");
  let timer = null;
  const refresh = async () => {
    timer = null;
    await Promise.all([view.refresh?.(), openInInbox(count)]).catch((error) => {
      if (!(error instanceof TypeError)) showError(error); // the header shows a lost connection
    });
  };
  const later = () => { timer ??= setTimeout(refresh, 300); };
  const clock = setInterval(later, 10000);
  view.session.signal.addEventListener("abort", () => { clearInterval(clock); clearTimeout(timer); });
  follow("/events", view.session.signal, later, (on) => {
    link.textContent = on ? "live" : "reconnecting…";
    link.classList.toggle("on", on);
    if (on) later();
  });
  await route();
}

async function openInInbox(count) {
  if (!may("inbox:read")) return;
  const page = await api("GET", "/inbox?limit=100", undefined, view.session.signal);
  count.textContent = page.data.length ? `${page.data.length}${page.has_more ? "+" : ""}` : "";
}

function keys(event) {
  if (event.target.matches("input, textarea, select") || event.metaKey || event.ctrlKey || event.altKey) return;
  const rows = [...document.querySelectorAll(".row")];
  const at = rows.indexOf(document.activeElement);
  if (event.key === "/") document.getElementById("search")?.focus();
  else if (event.key === "j") rows[Math.min(at + 1, rows.length - 1)]?.focus();
  else if (event.key === "k") rows[Math.max(at - 1, 0)]?.focus();
  else return;
  event.preventDefault();
}

addEventListener("hashchange", () => {
  if (invited()) signIn();
  else if (known() && location.hash !== "#main") route();
});
addEventListener("signed-out", (event) => signIn(event.detail));
addEventListener("keydown", keys);
document.getElementById("menu").addEventListener("click", () => {
  const open = document.body.classList.toggle("menu");
  document.getElementById("menu").setAttribute("aria-expanded", String(open));
});
document.getElementById("leave").addEventListener("click", () => leave().catch(showError));
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
begin().catch(showError);
