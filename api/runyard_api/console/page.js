// What every view uses: elements, the API with the typed-in key or the cookie, event streams. What the server sends
// becomes text nodes, never markup.

export const ROOT = new URL("../", import.meta.url).pathname; // a proxy may put a path before ours
const API = `${ROOT}api/v1`;
const KEY = "runyard.key";
const ORG = "runyard.organisation";
export const ENDED = new Set(["completed", "failed", "stopped"]);
const LABELS = { waiting_for_input: "needs an answer", awaiting_review: "needs a review", queued: "held back" };

// `shown` ends what the view on show waits for, `session` ends with the key, `refresh` redraws the view.
export const view = { shown: new AbortController(), session: new AbortController(), refresh: null };

/* ---- elements ---- */

export function h(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value === true) node.setAttribute(name, "");
    else if (value !== false && value != null) node.setAttribute(name, value);
  }
  node.append(...children.flat().filter((child) => child != null && child !== false && child !== ""));
  return node;
}

export function fill(node, ...children) { // keeps the focus on the link or field of the same key
  const key = node.contains(document.activeElement) && document.activeElement.dataset.key;
  node.replaceChildren(...children.flat().filter(Boolean));
  if (key) node.querySelector(`[data-key="${CSS.escape(key)}"]`)?.focus();
  return node;
}

export const label = (status) => LABELS[status] ?? status;
export const badge = (status) =>
  h("span", { class: `badge ${status}` }, h("i", { "aria-hidden": "true" }), label(status));
export const json = (value) => h("pre", {}, typeof value === "string" ? value : JSON.stringify(value, null, 2));
export const section = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), ...children);
export const table = (titles, rows) =>
  h("div", { class: "scroll" }, h("table", {}, h("thead", {}, h("tr", {}, titles.map((t) => h("th", {}, t)))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell ?? "—")))))));
export const empty = (text, more) => h("div", { class: "empty" }, h("p", {}, text), more);
export const runLink = (id) => `#/runs/${encodeURIComponent(id)}`;

function ago(at) {
  const s = (Date.now() - Date.parse(at)) / 1000;
  if (Math.abs(s) < 1.5) return "now";
  const [n, unit] = Math.abs(s) < 90 ? [s, "s"] : Math.abs(s) < 5400 ? [s / 60, "min"]
    : Math.abs(s) < 129600 ? [s / 3600, "h"] : [s / 86400, "d"];
  return n < 0 ? `in ${Math.round(-n)} ${unit}` : `${Math.round(n)} ${unit} ago`;
}
export const when = (at) => at && h("time", { datetime: at, title: new Date(at).toLocaleString() }, ago(at));
setInterval(() => document.querySelectorAll("time[datetime]").forEach((t) => { t.textContent = ago(t.dateTime); }), 5000);

export function duration(from, to) {
  const s = Math.max(0, (to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000;
  return s < 1 ? `${Math.round(s * 1000)} ms` : s < 90 ? `${s.toFixed(1)} s` : `${Math.round(s / 60)} min`;
}

export function toast(text, kind = "ok") {
  const node = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(node);
  setTimeout(() => node.remove(), kind === "bad" ? 9000 : 4000);
}

export function button(text, act, kind = "") { // one press at a time; a refusal is shown
  const node = h("button", { type: "button", class: kind, "data-key": text, onclick: async () => {
    node.disabled = true;
    try { await act(); } catch (error) { showError(error); }
    node.disabled = false;
  } }, text);
  return node;
}

export const showError = (error) => { if (error.name !== "AbortError") toast(error.message, "bad"); };

/* ---- the API ---- */

export const key = { // kept until the browser tab is closed
  get value() { return sessionStorage.getItem(KEY) ?? ""; },
  set value(text) { sessionStorage.setItem(KEY, text); },
  drop(reason = "") { // ends the session, whichever way it began
    if (!known()) return;
    sessionStorage.removeItem(KEY);
    person.csrf = "";
    view.session.abort();
    dispatchEvent(new CustomEvent("signed-out", { detail: reason }));
  },
};

export const person = { // who signed in; their cookie is out of reach of scripts
  csrf: "",
  organisations: [],
  get org() { return sessionStorage.getItem(ORG) ?? ""; },
  set org(id) { sessionStorage.setItem(ORG, id); },
  set(me) {
    person.csrf = me.csrf_token;
    person.organisations = me.organisations;
    if (!me.organisations.some((place) => place.id === person.org)) person.org = me.organisations[0]?.id ?? "";
  },
};

export const known = () => Boolean(key.value || person.csrf);

const ASKS_AGAIN = new Set(["wrong_password", "wrong_code", "second_factor_needed"]); // the sign-in itself counts on

class Refused extends Error {
  constructor(status, problem) {
    super([problem?.detail ?? `The server answered ${status}.`, problem?.field && `(${problem.field})`]
      .filter(Boolean).join(" "));
    Object.assign(this, { status, code: problem?.code, problem });
  }
}

function credentials() {
  if (key.value) return { authorization: `Bearer ${key.value}` };
  return person.csrf ? { "x-csrf-token": person.csrf, ...(person.org && { "x-org-id": person.org }) } : {};
}

const refusal = (body) => (key.value ? "The server does not accept this key." : body?.detail ?? "You are signed out.");

export async function api(method, path, body, signal) {
  const headers = credentials();
  if (body !== undefined) headers["content-type"] = "application/json";
  const answer = await fetch(API + path, { method, headers, signal,
    body: body === undefined ? undefined : JSON.stringify(body) });
  const content = answer.status === 204 ? null : await answer.json().catch(() => null);
  if (answer.status === 401 && !ASKS_AGAIN.has(content?.code)) key.drop(refusal(content));
  if (!answer.ok) throw new Refused(answer.status, content);
  return content;
}

export const get = (path) => api("GET", path, undefined, view.shown.signal);
export const post = (path, body) => api("POST", path, body); // an action is not undone by leaving the page

function pause(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });
}

async function* frames(body, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "";;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const frame = { data: "" };
      for (const line of part.split("\n")) {
        const at = line.indexOf(":");
        if (at > 0) frame[line.slice(0, at)] = line.slice(at + 1).trimStart();
      }
      if (frame.data) yield { ...frame, data: JSON.parse(frame.data) };
    }
  }
}

const STREAMS = 3; // of the six connections a browser opens to one server, for all pages of it together
const POLL = 3000;

function slot() { // ends one of those streams when called; null when all are taken
  const one = (n) => new Promise((got) => {
    navigator.locks.request(`runyard.stream.${n}`, { ifAvailable: true },
      (lock) => (lock ? new Promise((free) => got(free)) : got(null))).catch(() => got(null));
  });
  if (!navigator.locks) return () => {}; // only over HTTPS, or on this machine
  return (async () => {
    for (let n = 0; n < STREAMS; n++) {
      const free = await one(n);
      if (free) return free;
    }
    return null;
  })();
}

const hidden = (signal) => { // aborted once the page is hidden, which then needs no connection
  const gone = new AbortController();
  const look = () => { if (document.visibilityState === "hidden") gone.abort(); };
  document.addEventListener("visibilitychange", look, { signal });
  addEventListener("pagehide", () => gone.abort(), { signal });
  look();
  return gone.signal;
};

function seen(signal) { // waits until the page is on show
  if (document.visibilityState !== "hidden") return null;
  return new Promise((on) => {
    const look = () => { if (document.visibilityState !== "hidden") on(); };
    document.addEventListener("visibilitychange", look, { signal });
    addEventListener("pageshow", look, { signal });
    signal.addEventListener("abort", on, { once: true });
  });
}

async function poll(path, last, signal, heard) { // what a stream would send, once; the number of the last event, or "end"
  if (!path.startsWith("/tasks/")) {
    heard({ data: {} }); // looks for itself what is new
    return last;
  }
  const query = new URLSearchParams({ after: last || "0", limit: "1000" });
  const headers = { ...credentials(), accept: "application/json" };
  const answer = await fetch(`${API}${path.split("?")[0]}?${query}`, { headers, signal });
  if (answer.status === 401) { key.drop(refusal()); return "end"; }
  if (!answer.ok) throw new Refused(answer.status, null);
  const page = await answer.json();
  for (const event of page.data) heard({ data: event });
  return page.data.some((event) => ENDED.has(event.data?.status)) ? "end" : String(page.next_after);
}

export async function follow(path, signal, heard, state = () => {}) { // resumes where a dropped stream ended
  let last = "", wait = 500;
  while (!signal.aborted) {
    await seen(signal);
    const stalled = new AbortController(), over = new AbortController();
    const away = hidden(over.signal);
    let timer, free = null;
    const alive = () => { clearTimeout(timer); timer = setTimeout(() => stalled.abort(), 45000); };
    try {
      alive();
      const ends = AbortSignal.any([signal, stalled.signal, away]);
      free = await slot();
      if (!free) {
        last = await poll(path, last, ends, heard);
        if (last === "end") return;
        state(true);
        await pause(POLL, ends);
        continue;
      }
      const headers = { ...credentials(), accept: "text/event-stream", ...(last && { "last-event-id": last }) };
      const url = API + (last ? path.split("?")[0] : path);
      const answer = await fetch(url, { headers, signal: ends });
      if (answer.status === 204) return;
      if (answer.status === 401) return key.drop(refusal());
      if (!answer.ok) throw new Refused(answer.status, null);
      wait = 500;
      state(true);
      for await (const frame of frames(answer.body, alive)) {
        if (frame.event === "end") return;
        last = frame.id ?? last;
        heard(frame);
      }
    } catch { /* the loop tries again, from the last event it has */ } finally {
      clearTimeout(timer);
      over.abort();
      free?.();
    }
    if (away.aborted) continue;
    if (!signal.aborted) state(false);
    await pause(wait, signal);
    wait = Math.min(wait * 2, 15000);
  }
}
