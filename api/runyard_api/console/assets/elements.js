// Elements and what every page is made of. What the server sends becomes text nodes, never markup.

const LABELS = { waiting_for_input: "needs an answer", awaiting_review: "needs a review", queued: "held back" };
export const ENDED = new Set(["completed", "failed", "stopped"]);

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
export const json = (value) =>
  h("pre", { tabindex: 0 }, typeof value === "string" ? value : JSON.stringify(value, null, 2));
export const section = (title, ...children) => h("section", { class: "card" }, h("h2", {}, title), ...children);

// A table of rows of cells. An empty title is that of a column of actions; `name` is for those who hear the page.
export const table = (titles, rows, name = "Table") =>
  h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name },
    h("table", {}, h("thead", {}, h("tr", {}, titles.map((t) => (t
      ? h("th", { scope: "col" }, t) : h("th", { scope: "col" }, h("span", { class: "unseen" }, "Actions")))))),
    h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell) => h("td", {}, cell ?? "—")))))));
export const empty = (text, more) => h("div", { class: "empty" }, h("p", {}, text), more);
export const runLink = (id) => `#/runs/${encodeURIComponent(id)}`;
export const title = (text, ...actions) =>
  h("div", { class: "head" }, h("h1", {}, text), h("div", { class: "actions" }, actions));

function ago(at) {
  const s = (Date.now() - Date.parse(at)) / 1000;
  if (Math.abs(s) < 1.5) return "now";
  const [n, unit] = Math.abs(s) < 90 ? [s, "s"] : Math.abs(s) < 5400 ? [s / 60, "min"]
    : Math.abs(s) < 129600 ? [s / 3600, "h"] : [s / 86400, "d"];
  return n < 0 ? `in ${Math.round(-n)} ${unit}` : `${Math.round(n)} ${unit} ago`;
}
export const when = (at) => at && h("time", { datetime: at, title: new Date(at).toLocaleString() }, ago(at));
setInterval(() => document.querySelectorAll("time[datetime]").forEach((t) => { t.textContent = ago(t.dateTime); }), 5000);

export function seconds(s) { // a length of time in the unit that suits it
  return s == null ? "—" : s < 1 ? `${Math.round(s * 1000)} ms` : s < 90 ? `${s.toFixed(1)} s`
    : s < 5400 ? `${Math.round(s / 60)} min` : `${(s / 3600).toFixed(1)} h`;
}
export const duration = (from, to) =>
  seconds(Math.max(0, (to ? Date.parse(to) : Date.now()) - Date.parse(from)) / 1000);

/* ---- what acts ---- */

export function toast(text, kind = "ok") {
  const node = h("div", { class: `toast ${kind}` }, text);
  document.getElementById("toasts").append(node);
  setTimeout(() => node.remove(), kind === "bad" ? 9000 : 4000);
}

export const clearToasts = () => document.getElementById("toasts").replaceChildren();
export const showError = (error) => { if (error.name !== "AbortError") toast(error.message, "bad"); };

export function button(text, act, kind = "") { // one press at a time; a refusal is shown
  const node = h("button", { type: "button", class: kind, "data-key": text, onclick: async () => {
    node.disabled = true;
    try { await act(); } catch (error) { showError(error); }
    node.disabled = false;
  } }, text);
  return node;
}

// A dialog over the page; `make` gets a function that closes it with an answer. Escape, and leaving the page, answer null;
// not where `kept` is set: what it shows is shown once.
export function dialog(name, make, kept = false) {
  return new Promise((answered) => {
    const node = h("dialog", { "aria-label": name });
    const close = (answer = null) => { node.close(); node.remove(); answered(answer); };
    node.append(h("h2", {}, name), ...[make(close)].flat());
    node.addEventListener("cancel", (event) => { event.preventDefault(); if (!kept) close(); });
    if (kept) node.addEventListener("keydown", (event) => { if (event.key === "Escape") event.preventDefault(); });
    document.body.append(node);
    node.showModal();
  });
}

export function closeDialogs() {
  document.querySelectorAll("dialog").forEach((node) => node.dispatchEvent(new Event("cancel", { cancelable: true })));
}

export const confirmed = (question, verb) => dialog(question, (close) => h("div", { class: "actions" },
  button(verb, () => close(true), "danger"), button("Leave it", () => close(false))));

// A button whose act is asked about first.
export const dangerous = (text, question, act) => button(text, async () => {
  if (await confirmed(question, text)) await act();
}, "danger");
