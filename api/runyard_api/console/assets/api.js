// The native API, with the typed-in key or the cookie of who signed in, and what the caller may do there.

export const ROOT = new URL("../", import.meta.url).pathname; // a proxy may put a path before ours
export const API = `${ROOT}api/v1`;
const KEY = "runyard.key";
const ORG = "runyard.organisation";

// `shown` ends what the page on show waits for, `session` ends with the key, `refresh` redraws the page, `query` is what its
// address has after a question mark.
export const view = { shown: new AbortController(), session: new AbortController(), refresh: null,
  query: new URLSearchParams() };

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

// What the caller may do in the organisation on show: who they are, and their permissions (resource:action).
export const access = { id: "", actor: "", role: "", org: "", permissions: new Set() };
export async function learnAccess() {
  const me = await api("GET", "/me");
  Object.assign(access, { id: me.actor, actor: me.person?.name || me.person?.email || "API key", role: me.role ?? "", org: me.org_id ?? "",
    permissions: new Set(me.permissions) });
}
export const may = (permission) => access.permissions.has(permission);

export const known = () => Boolean(key.value || person.csrf);

const ASKS_AGAIN = new Set(["wrong_password", "wrong_code", "second_factor_needed"]); // the sign-in itself counts on

export class Refused extends Error {
  constructor(status, problem) {
    const detail = problem?.detail ?? `The server answered ${status}.`;
    super(problem?.field && !detail.includes(problem.field) ? `${detail} (${problem.field})` : detail);
    Object.assign(this, { status, code: problem?.code, problem });
  }
}

// No answer came. What shows a lost connection for itself knows it as a TypeError, which `fetch` throws.
export class Unreachable extends TypeError {
  constructor() { super("The server cannot be reached. Try again once it answers."); }
}

export function credentials() {
  if (key.value) return { authorization: `Bearer ${key.value}` };
  return person.csrf ? { "x-csrf-token": person.csrf, ...(person.org && { "x-org-id": person.org }) } : {};
}

export const refusal = (body) => (key.value ? "The server does not accept this key." : body?.detail ?? "You are signed out.");

export async function api(method, path, body, signal) {
  const headers = credentials();
  const written = body instanceof FormData || body instanceof Blob; // these name their own type
  if (body !== undefined && !written) headers["content-type"] = "application/json";
  const answer = await fetch(API + path, { method, headers, signal,
    body: body === undefined || written ? body : JSON.stringify(body) })
    .catch((error) => { throw error instanceof TypeError ? new Unreachable() : error; });
  const content = answer.status === 204 ? null : await answer.json().catch((error) => { // a whole answer, or none
    if (answer.ok) throw error;
    return null;
  });
  if (answer.status === 401 && !ASKS_AGAIN.has(content?.code)) key.drop(refusal(content));
  if (!answer.ok) throw new Refused(answer.status, content);
  return content;
}

export const get = (path) => api("GET", path, undefined, view.shown.signal);
export const post = (path, body) => api("POST", path, body); // an action is not undone by leaving the page
export const patch = (path, body) => api("PATCH", path, body);
export const put = (path, body) => api("PUT", path, body);
export const remove = (path) => api("DELETE", path);
