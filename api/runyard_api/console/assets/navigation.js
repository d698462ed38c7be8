// The sections, and which page is on show: `#/name/id?filters`. A page is loaded when it is first opened.

import { access, may, Unreachable, view } from "./api.js";
import { button, clearToasts, closeDialogs, empty, h, label } from "./elements.js";

// By name: what the navigation shows, for those with the permission `needs`, and the module of the page.
export const PAGES = {
  overview: { title: "Overview", group: "Work", needs: "usage:read" },
  runs: { title: "Runs", group: "Work", needs: "runs:read" },
  inbox: { title: "Inbox", group: "Work", needs: "inbox:read" },
  agents: { title: "Agents", group: "Work", needs: "agents:read" },
  sessions: { title: "Sessions", group: "Work", needs: "sessions:read" },
  schedules: { title: "Schedules", group: "Work", needs: "schedules:read" },
  webhooks: { title: "Webhooks", group: "Operations", needs: "webhooks:read" },
  limits: { title: "Limits", group: "Operations", needs: "limits:read" },
  workers: { title: "Workers", group: "Operations", needs: "ops:read" },
  organisation: { title: "Organisation", group: "Organisation", needs: "organisation:read" },
  members: { title: "Members", group: "Organisation", needs: "members:read" },
  keys: { title: "Keys", group: "Organisation", needs: "keys:read" },
  secrets: { title: "Secrets", group: "Organisation", needs: "secrets:read" },
  usage: { title: "Usage", group: "Organisation", needs: "usage:read" },
  audit: { title: "Audit log", group: "Organisation", needs: "audit:read" },
  account: { title: "Account", group: null, needs: null },
};
const FIRST = "runs";

const main = document.getElementById("main");
const nav = document.getElementById("nav");
const left = new Map(); // by address: how far a page was scrolled, and what had the focus
let shown = ""; // the address of the page on show

function parsed(hash) {
  const [path, query] = hash.replace(/^#\/?/, "").split("?");
  const [name, ...ids] = path.split("/").map(decodeURIComponent);
  return { name: name in PAGES ? name : FIRST, id: ids.join("/") || undefined, query: new URLSearchParams(query) };
}

// Change the filters in the page's address. An empty value leaves the address. It draws nothing.
export function setQuery(changes) {
  for (const [name, value] of Object.entries(changes)) {
    if (value) view.query.set(name, value);
    else view.query.delete(name);
  }
  const text = view.query.toString();
  history.replaceState(history.state, "", location.hash.split("?")[0] + (text ? `?${text}` : ""));
  shown = location.hash;
}

function leave() { // a page that is come back to is found as it was left
  if (shown) left.set(shown, { at: scrollY, key: document.activeElement?.dataset.key });
}

function comeBack() {
  const place = history.state?.visited && left.get(location.hash);
  history.replaceState({ visited: true }, "");
  if (!place) return scrollTo(0, 0);
  scrollTo(0, place.at);
  if (place.key) main.querySelector(`[data-key="${CSS.escape(place.key)}"]`)?.focus({ preventScroll: true });
}

export async function route() {
  leave();
  shown = location.hash;
  view.shown.abort();
  view.shown = new AbortController();
  view.refresh = null;
  clearToasts();
  closeDialogs();
  const { signal } = view.shown;
  const { name, id, query } = parsed(location.hash);
  view.query = query;
  document.title = `${PAGES[name].title} · Runyard`;
  nav.querySelectorAll("a").forEach((a) => {
    a.setAttribute("aria-current", a.dataset.key === name ? "page" : "false");
    if (a.dataset.key === name) a.scrollIntoView({ block: "nearest", inline: "nearest" });
  });
  document.body.classList.remove("menu");
  main.replaceChildren();
  main.setAttribute("aria-busy", "true");
  try {
    const page = await import(`./pages/${name}.js`)
      .catch((error) => { throw error instanceof TypeError ? new Unreachable() : error; });
    if (!signal.aborted) await page.default(main, id);
    if (!signal.aborted) comeBack();
  } catch (error) {
    if (signal.aborted) return;
    main.replaceChildren(h("h1", {}, "This cannot be shown"), empty(error.message, button("Try again", route)));
    if (error instanceof Unreachable) view.refresh = route; // it goes on by itself once the server answers
  } finally {
    if (!signal.aborted) main.removeAttribute("aria-busy");
  }
}

export function drawNavigation(count) {
  const groups = Map.groupBy(Object.entries(PAGES).filter(([, page]) => page.group && may(page.needs)),
    ([, page]) => page.group);
  nav.replaceChildren(...[...groups].map(([group, pages]) => h("section", {}, h("h2", {}, group),
    pages.map(([name, page]) => h("a", { href: `#/${name}`, "data-key": name }, page.title,
      name === "inbox" && count)))));
  document.getElementById("who").replaceChildren(access.actor, access.role && h("small", {}, label(access.role)));
}
