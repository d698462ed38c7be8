// The limits in force, how full each is, and changing them.

import { get, may, post, put, remove, view } from "../api.js";
import { button, dangerous, empty, fill, h, title, toast } from "../elements.js";
import { stacked } from "./stacked.js";
import { acts, asked, entry } from "./acting.js";

const KINDS = [["organisation", "The organisation"], ["agent", "An agent"], ["end_user", "An end-user"],
  ["session", "A session"], ["model", "A model"], ["key", "A value of the input"]];
const STRATEGIES = [["enqueue", "wait in the queue"], ["reject", "refuse the run"],
  ["interrupt", "stop the runs that use it"]];
const textOf = (pairs, value) => pairs.find(([one]) => one === value)?.[1] ?? value;
const subject = (l) => (l.selector === "*" && l.kind !== "organisation"
  ? `Each ${textOf(KINDS, l.kind).replace(/^An? /, "")}` : l.kind === "organisation" ? "The organisation"
    : `${textOf(KINDS, l.kind).replace(/^An? /, "").replace(/^./, (c) => c.toUpperCase())} ${l.selector}`);

export default async function limits(main) {
  const list = h("div", {});
  main.append(title("Limits", may("limits:write") && button("New limit", () => edit(), "primary")), list);
  view.refresh = async () => {
    const [page, usage] = await Promise.all([get("/limits"), get("/limits/usage")]);
    const used = new Map(usage.data.map((one) => [one.limit_id, one.values]));
    fill(list, page.data.length ? stacked("Limits", ["For", "Bound", "In use", "Waiting", "When full", "Set by", ""],
      page.data.map((l) => row(l, used.get(l.id)))) : empty("Nothing is limited. A limit keeps an agent, an end-user or a "
      + "model from taking every worker: runs above it wait in order.", may("limits:write")
      && button("Make the first limit", () => edit())));
  };
  await view.refresh?.();
}

const bounds = (l) => [l.max_concurrent != null && `${l.max_concurrent} at once`,
  l.rate_count != null && `${l.rate_count} starts in ${l.rate_seconds} s`,
  l.tokens_per_minute != null && `${l.tokens_per_minute.toLocaleString()} tokens a minute`].filter(Boolean).join(", ");

function row(l, values) {
  return [subject(l), bounds(l), inUse(l, values), values ? waiting(values) : null, textOf(STRATEGIES, l.strategy),
    l.operator ? "the operator" : "you", !l.operator && acts(may("limits:write") && button("Change", () => edit(l, values),
      "quiet"), may("limits:delete") && dangerous("Delete", `Delete the limit on ${subject(l)}? What it keeps waiting is `
      + "admitted at once.", async () => {
      await remove(`/limits/${l.id}`);
      toast("The limit binds no longer.");
      await view.refresh?.();
    }))];
}

const most = (values, name) => values.reduce((sum, one) => Math.max(sum, one[name]), 0);
const total = (values, name) => values.reduce((sum, one) => sum + one[name], 0);
const waiting = (values) => (total(values, "waiting")
  ? h("b", {}, `${total(values, "waiting")}`) : "0");

function inUse(l, values) { // of a limit on each: the fullest one
  if (!values) return h("span", { class: "dim" }, "over all organisations");
  const parts = [[l.max_concurrent, "in_use", ""], [l.rate_count, "starts", " starts"],
    [l.tokens_per_minute, "tokens", " tokens"]].filter(([bound]) => bound != null);
  const fullest = values[0] && l.selector === "*" && l.kind !== "organisation" && values[0].value;
  return h("div", {}, parts.map(([bound, name, unit]) => {
    const now = most(values, name);
    const bar = h("i", {});
    bar.style.width = `${bound ? Math.min(100, 100 * now / bound) : 100}%`;
    return h("div", {}, `${now.toLocaleString()} of ${bound.toLocaleString()}${unit}`,
      h("span", { class: `meter ${now >= bound ? "full" : ""}`, "aria-hidden": "true" }, bar));
  }), fullest && h("small", {}, `the fullest: ${fullest}`));
}

function edit(l, values) { // a new limit, or the limit `l`, with what it would come to
  const fields = {
    kind: entry("kind", "What is counted", { kind: "choice", options: KINDS, value: l?.kind ?? "agent" }),
    selector: entry("selector", "Which one", { value: l?.selector ?? "*",
      hint: "A name or id; * for each by itself; a JSON pointer into the input, such as /customer/id." }),
    max_concurrent: entry("max_concurrent", "Runs at once", { kind: "number", step: 1, value: l?.max_concurrent }),
    rate_count: entry("rate_count", "Starts", { kind: "number", step: 1, value: l?.rate_count }),
    rate_seconds: entry("rate_seconds", "in so many seconds", { kind: "number", value: l?.rate_seconds }),
    tokens_per_minute: entry("tokens_per_minute", "Model tokens a minute",
      { kind: "number", step: 1, value: l?.tokens_per_minute }),
    strategy: entry("strategy", "When it is full", { kind: "choice", options: STRATEGIES,
      value: l?.strategy ?? "enqueue" }),
  };
  const effect = h("p", { class: "sub", role: "status" });
  const show = () => effect.replaceChildren(l && values ? effectOf(fields, values) : "");
  Object.values(fields).forEach((one) => one.input.addEventListener("input", show));
  show();
  return asked(l ? `Change the limit on ${subject(l)}` : "New limit", Object.values(fields), "Save", async (given) => {
    await (l ? put(`/limits/${l.id}`, given) : post("/limits", given));
    toast(l ? "Changed: it binds from now on." : "Made: it binds from now on.");
    await view.refresh?.();
  }, effect);
}

function effectOf(fields, values) {
  const bound = fields.max_concurrent.read();
  const now = `Now: ${most(values, "in_use")} in use, ${total(values, "waiting")} waiting.`;
  if (bound == null) return `${now} Nothing waits for a number of runs at once any more.`;
  const over = values.reduce((sum, one) => sum + Math.max(0, one.in_use - bound), 0);
  const admitted = values.reduce((sum, one) => sum + Math.min(one.waiting, Math.max(0, bound - one.in_use)), 0);
  if (over) return `${now} With ${bound}, ${over} more run than it allows: they go on, and others wait until they end.`;
  if (!total(values, "waiting")) return `${now} With ${bound}, nothing changes for the runs of now.`;
  return `${now} With ${bound}, ${admitted} of those that wait may start at once.`;
}
