// The ops console: signing in, the sections, and their lists.

import { account } from "./account.js";
import { invitation, needsFactor, newPassword, places, refusedSignOn, signInCard } from "./sign_in.js";
import { field, form, question } from "./forms.js";
import { ROOT, api, badge, button, empty, fill, follow, get, h, key, known, label, person, post, runLink, section, table,
  showError, toast, view, when } from "./page.js";
import { run } from "./run.js";

const STATUSES = ["pending", "queued", "running", "waiting_for_input", "awaiting_review", "completed", "failed",
  "stopped"];
const SECTIONS = { runs: "Runs", inbox: "Inbox", agents: "Agents", schedules: "Schedules", webhooks: "Webhooks",
  limits: "Limits", workers: "Workers" };
const OPTIONAL = { schedules: "/schedules", webhooks: "/webhooks" }; // shown when the server has their routes
const VIEWS = { runs: (id) => (id ? run(id) : runs()), inbox, agents: (name) => (name ? agent(name) : agents()),
  schedules, webhooks, limits, workers, account: () => account(main) };

const main = document.getElementById("main");
const nav = document.getElementById("nav");
let wanted = { status: "", agent: "", q: "" };

/* ---- runs ---- */

async function runs() {
  const search = h("input", { type: "search", id: "search", placeholder: "Search titles, or paste a run id  ( / )",
    "aria-label": "Search runs", value: wanted.q });
  const agents = h("select", { "aria-label": "Agent" }, h("option", { value: "" }, "All agents"));
  const chips = h("div", { class: "chips", role: "group", "aria-label": "Status" });
  const list = h("ul", { class: "rows", id: "runs" });
  const more = h("div", { class: "more" });
  const panel = h("div", { class: "figures", id: "figures" });
  let size = 30, timer;
  const change = (part) => { wanted = { ...wanted, ...part }; size = 30; draw().catch(showError); };
  search.addEventListener("input", () => {
    clearTimeout(timer);
    const text = search.value.trim();
    if (/^[0-9a-f-]{36}$/i.test(text)) location.hash = runLink(text);
    else timer = setTimeout(() => change({ q: text }), 200);
  });
  agents.addEventListener("change", () => change({ agent: agents.value }));
  async function draw() {
    fill(chips, ["", ...STATUSES].map((status) => h("button", { type: "button", class: "chip",
      "data-key": status || "all", "aria-pressed": String(wanted.status === status),
      onclick: () => change({ status }) }, status ? label(status) : "all")));
    const query = new URLSearchParams({ limit: String(Math.min(size, 100)) });
    if (wanted.status) query.set("status", wanted.status);
    if (wanted.agent) query.set("agent_id", wanted.agent);
    if (wanted.q) query.set("q", wanted.q);
    const page = await get(`/tasks?${query}`);
    const rows = page.data;
    for (let at = page; rows.length < size && at.has_more;) { // beyond a page's hundred
      query.set("cursor", at.next_cursor);
      at = await get(`/tasks?${query}`);
      rows.push(...at.data);
      page.has_more = at.has_more;
    }
    fill(list, rows.map(runRow));
    fill(more, page.has_more ? button("Show more", () => { size += 70; return draw(); }, "quiet")
      : !rows.length && empty("No runs here yet.", h("a", { href: "#/agents" }, "Run an agent")));
  }
  main.append(h("h1", {}, "Runs"), panel, h("div", { class: "filters" }, search, agents), chips, list, more);
  view.refresh = () => Promise.all([draw(), figures(panel)]);
  const [known] = await Promise.all([get("/agents?limit=100").catch(() => ({ data: [] })), view.refresh()]);
  agents.append(...known.data.map((a) => h("option", { value: a.agent_group_id,
    selected: a.agent_group_id === wanted.agent }, a.full_name)));
}

function runRow(task) {
  return h("li", {}, h("a", { class: "row", href: runLink(task.task_id), "data-key": task.task_id },
    badge(task.status), h("span", { class: "name" }, task.agent), h("span", { class: "title" }, task.title ?? "—"),
    h("code", {}, task.task_id.slice(-12)), when(task.created_at)));
}

async function figures(node) {
  const q = await get("/ops/queue").catch((error) => { if (error.status === 403) return null; throw error; });
  const one = (text, value, warn) => h("div", { class: warn ? "warn" : "" }, h("b", {}, value), text);
  if (q) fill(node, one("running", `${q.running}`), one("waiting to start", `${q.waiting}`, q.waiting && !q.workers),
    one("held by a limit", `${q.queued}`), one("need people", `${q.waiting_for_input + q.awaiting_review}`),
    one("oldest wait", q.oldest_waiting_s ? `${Math.round(q.oldest_waiting_s)} s` : "—", q.oldest_waiting_s > 60),
    one(`workers of ${q.wanted_workers} wanted`, `${q.workers}`, q.workers < q.wanted_workers));
}

/* ---- inbox ---- */

async function inbox() {
  const list = h("div", { class: "inbox" });
  let known = null;
  async function draw() {
    const page = await get("/inbox?limit=50");
    const ids = page.data.map((item) => item.id).join();
    if (ids === known) return;
    const open = new Map([...list.children].map((node) => [node.dataset.id, node]));
    known = ids; // what is typed into an open form stays
    const cards = page.data.map((item) => open.get(item.id) ?? h("section", { class: "card ask", "data-id": item.id },
      h("p", { class: "sub" }, badge(item.task.status), " ", h("a", { href: runLink(item.task_id) },
        item.task.title ?? item.task.agent), " · ", when(item.created_at)), question(item, draw)));
    const gone = [...list.children].filter((node) => !cards.includes(node));
    gone.forEach((node) => node.remove());
    cards.forEach((node, at) => { if (list.children[at] !== node) list.insertBefore(node, list.children[at] ?? null); });
    if (!cards.length) list.append(empty("No question or review is open."));
  }
  main.append(h("h1", {}, "Inbox"), list);
  view.refresh = draw;
  await draw();
}

/* ---- agents ---- */

async function agents() {
  const page = await get("/agents?limit=100");
  main.append(h("h1", {}, "Agents"), h("ul", { class: "rows" }, page.data.map((a) => h("li", {},
    h("a", { class: "row agent", href: `#/agents/${encodeURIComponent(a.full_name)}` },
      h("span", { class: "name" }, a.full_name), h("span", { class: "title" }, a.description ?? ""),
      h("code", {}, a.version), h("small", {}, a.kind))))), page.data.length ? "" : empty("No agents are published."));
}

async function agent(name) {
  const path = `/agents/${encodeURIComponent(name)}`;
  const a = await get(path);
  const schema = a.manifest.input?.schema;
  const message = field({ type: "string" }, "Message", false);
  const open = !schema || (schema.type === "object" && !schema.properties && !schema.required?.length);
  const args = field(schema ?? {}, schema?.properties ? "" : "Arguments", !open);
  const facts = [["kind", a.kind], ["version", a.version], ["runs at once", a.manifest.max_concurrent],
    ["isolation", a.manifest.isolation], ["memory, MiB", a.manifest.memory_mb],
    ["processor seconds", a.manifest.cpu_seconds],
    ["timeout", a.manifest.timeout && `${a.manifest.timeout} s`], ["model", a.manifest.model]];
  main.append(h("a", { class: "back", href: "#/agents" }, "← Agents"), h("h1", {}, a.full_name),
    h("p", { class: "sub" }, a.description ?? ""), h("div", { class: "split" },
      section("Run it", form(async () => {
        const body = { query: message.read(), args: args.read() };
        if (body.query === undefined) body.args ??= {}; // a run is given something, be it nothing
        location.hash = runLink((await post(`${path}/run`, body)).task_id);
      }, "Run", [message.node, args.node])),
      section("About", ...facts.filter(([, value]) => value != null)
        .map(([title, value]) => h("p", {}, h("span", { class: "dim" }, `${title}: `), `${value}`)))));
}

/* ---- limits, workers, and lists of other things ---- */

async function limits() {
  const page = await get("/limits");
  main.append(h("h1", {}, "Limits"), page.data.length ? table(
    ["For", "At once", "Starts", "Tokens a minute", "When full", "Set by"],
    page.data.map((l) => [`${l.kind} ${l.selector}`, l.max_concurrent?.toString(),
      l.rate_count != null && `${l.rate_count} in ${l.rate_seconds} s`, l.tokens_per_minute?.toLocaleString(),
      l.strategy, l.operator ? "the operator" : "you"].map((cell) => (cell === false ? null : cell))))
    : empty("Nothing is limited."));
}

async function workers() {
  const panel = h("div", { class: "figures" }), list = h("div", {});
  main.append(h("h1", {}, "Workers"), panel, list);
  view.refresh = async () => {
    await figures(panel);
    const page = await get("/ops/workers");
    fill(list, page.data.length ? table(["Worker", "State", "Runs", "Started", "Seen"], page.data.map((w) =>
      [`${w.host} · ${w.pid}`, badge(w.state), `${w.running} of ${w.capacity}`, when(w.started_at), when(w.seen_at)]))
      : empty("No worker is up. Runs wait safely until one is."));
  };
  await view.refresh();
}

function acting(refresh, path, ...actions) { // buttons that post and show what it changed
  return h("span", {}, actions.map(([text, action]) => button(text, async () => {
    await post(`${path}/${action}`);
    toast(`${text}: done.`);
    await refresh();
  }, "quiet")));
}

async function schedules() {
  const list = h("div", {});
  main.append(h("h1", {}, "Schedules"), list);
  view.refresh = async () => {
    const page = await get("/schedules?limit=100");
    fill(list, page.data.length ? table(["Schedule", "Agent", "State", "Next", "Fired", ""], page.data.map((s) => [
      h("span", { title: s.id }, [s.name, `${s.schedule}`, s.kind === "cron" && s.timezone].filter(Boolean).join(" · ")),
      s.agent, badge(s.state), when(s.next_run_at),
      s.last_task_id ? h("a", { href: runLink(s.last_task_id) }, `${s.fired}`) : `${s.fired}`,
      acting(view.refresh, `/schedules/${s.id}`, ...{ active: [["Run now", "trigger"], ["Pause", "pause"]],
        paused: [["Run now", "trigger"], ["Resume", "resume"]] }[s.state] ?? [])])) : empty("Nothing is scheduled."));
  };
  await view.refresh();
}

async function webhooks() {
  const list = h("div", {});
  main.append(h("h1", {}, "Webhooks"), list);
  view.refresh = async () => {
    const page = await get("/webhooks");
    fill(list, page.data.length ? table(["Address", "Events", "State", "Failing since", ""], page.data.map((w) => [
      w.url, w.events.join(", "), badge(w.active ? "active" : `off${w.disabled_reason ? `: ${w.disabled_reason}` : ""}`),
      when(w.failing_since), acting(view.refresh, `/webhooks/${w.id}`,
        ...(w.active ? [["Test", "test"], ["Disable", "disable"]] : [["Enable", "enable"]]))]))
      : empty("No webhooks. Make one with POST /api/v1/webhooks."));
  };
  await view.refresh();
}

/* ---- the page ---- */

async function route() {
  view.shown.abort();
  view.shown = new AbortController();
  view.refresh = null;
  const { signal } = view.shown;
  const [name, id] = location.hash.replace(/^#\/?/, "").split("/").map(decodeURIComponent);
  const name_ = name in VIEWS ? name : "runs";
  document.title = `${SECTIONS[name_] ?? "Account"} · Runyard`;
  nav.querySelectorAll("a").forEach((a) => a.setAttribute("aria-current", a.dataset.key === name_ ? "page" : "false"));
  main.replaceChildren();
  try { await VIEWS[name_](id); } catch (error) {
    if (!signal.aborted) main.replaceChildren(h("h1", {}, "This cannot be shown"), empty(error.message));
  }
}

function signIn(reason = "") {
  const token = invited();
  ask(token ? invitation(token, enter) : signInCard(reason, enter));
}

function ask({ node, first }) { // one card alone, before anything is open
  document.getElementById("top").hidden = true;
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

async function byLink(token, page = "runs") { // a one-time link of the server's own machine: `runyard up` and `runyard console` print it
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
  document.getElementById("place").replaceChildren(key.value ? "" : places(() => open().catch(showError)));
  document.getElementById("account").hidden = Boolean(key.value);
  const paths = (await (await fetch(`${ROOT}openapi.json`)).json()).paths;
  const count = h("sup", { id: "count" });
  nav.replaceChildren(...Object.entries(SECTIONS)
    .filter(([name]) => !(name in OPTIONAL) || paths[`/api/v1${OPTIONAL[name]}`])
    .map(([name, title]) => h("a", { href: `#/${name}`, "data-key": name }, title, name === "inbox" && count)));
  document.getElementById("top").hidden = false;
  const link = document.getElementById("link");
  let timer = null;
  const refresh = async () => {
    timer = null;
    await Promise.all([view.refresh?.(), api("GET", "/inbox?limit=100", undefined, view.session.signal).then((page) => {
      count.textContent = page.data.length ? `${page.data.length}${page.has_more ? "+" : ""}` : "";
    })]).catch((error) => { if (!(error instanceof TypeError)) showError(error); }); // the header shows a lost connection
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
document.getElementById("leave").addEventListener("click", () => leave().catch(showError));
document.getElementById("skip").addEventListener("click", (event) => { event.preventDefault(); main.focus(); });
begin().catch(showError);
