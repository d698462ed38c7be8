// The workers: what each has under way, what it can run, and letting it claim no more.

import { access, get, may, post, view } from "../api.js";
import { badge, button, dangerous, duration, empty, fill, h, runLink, seconds, toast, when } from "../elements.js";
import { figures } from "./figures.js";

const SHOWN = 20; // runs of a worker

export default async function workers(main) {
  const panel = h("div", { class: "figures" }), list = h("div", { class: "cards" });
  main.append(h("h1", {}, "Workers"), panel, list);
  view.refresh = async () => {
    await figures(panel);
    const page = await get("/ops/workers").catch((error) => {
      if (error.code === "operator_only") return null;
      throw error;
    });
    if (!page) return fill(list, empty("The workers are shared, and shown to the operator of the installation alone."));
    const open = new Set([...list.querySelectorAll("details[open]")].map((one) => one.dataset.key));
    fill(list, page.data.length ? page.data.map((w) => card(w, open))
      : empty("No worker is up. Runs wait safely until one is: start one with runyard worker."));
  };
  await view.refresh?.();
}

function card(w, open) {
  const bar = h("i", {});
  bar.style.width = `${w.capacity ? Math.min(100, 100 * w.running / w.capacity) : 100}%`;
  return h("section", { class: "card", "aria-label": `Worker ${w.host} ${w.pid}` },
    h("div", { class: "head" }, h("h2", {}, `${w.host} · ${w.pid}`), badge(w.state),
      h("div", { class: "actions" }, may("ops:write") && orders(w))),
    h("dl", { class: "facts" },
      h("dt", {}, "Slots"), h("dd", {}, `${w.running} of ${w.capacity} in use`,
        h("span", { class: `meter ${w.running >= w.capacity ? "full" : ""}`, "aria-hidden": "true" }, bar)),
      w.release && [h("dt", {}, "Release"), h("dd", {}, h("code", {}, w.release))],
      h("dt", {}, "Started"), h("dd", {}, when(w.started_at)), h("dt", {}, "Seen"), h("dd", {}, when(w.seen_at)),
      w.loop_lag_s > 0.5 && [h("dt", {}, "Event loop"), h("dd", { class: "bad" }, `${seconds(w.loop_lag_s)} late`)],
      w.threads_held > 0 && [h("dt", {}, "Threads"), h("dd", {}, `${w.threads_held} of runs that have ended`)],
      h("dt", {}, "Agents"), h("dd", {}, agents(w, open))),
    runs(w));
}

function agents(w, open) { // an open list stays open while the page is drawn again
  if (!w.agents) return "not known";
  const carried = (w.resumes ?? []).map((one) => h("li", {}, h("code", {}, one), " carries on its runs"));
  return h("details", { "data-key": w.id, open: open.has(w.id) }, h("summary", {}, `${w.agents.length} with their versions`),
    h("ul", {}, w.agents.map((one) => h("li", {}, h("code", {}, one))), carried));
}

function runs(w) {
  if (!w.runs.length) return h("p", { class: "dim" }, "No run is under way here.");
  const own = (run) => run.organisation_id === access.org;
  return h("div", {}, h("h3", {}, w.running > 1 ? "Its runs, the longest first" : "Its run"), h("ul", { class: "steps" },
    w.runs.slice(0, SHOWN).map((run) => h("li", {}, own(run)
      ? h("a", { href: runLink(run.task_id), "data-key": run.task_id }, run.agent) : run.agent,
    h("span", { class: "dim" }, own(run) ? "" : "of another organisation, ", run.started_at
      && `for ${duration(run.started_at)}`)))),
  w.runs.length > SHOWN && h("p", { class: "dim" }, `and ${w.runs.length - SHOWN} more`));
}

function orders(w) {
  const order = async (action, done) => {
    await post(`/ops/workers/${encodeURIComponent(w.id)}/${action}`);
    toast(done);
    await view.refresh?.();
  };
  if (w.state === "alive") {
    return dangerous("Drain", `Let ${w.host} · ${w.pid} claim no more runs? Its runs go on to their ends, and the process `
      + "stays, idle, until it is stopped or resumed.", () => order("drain", "It claims no more runs."));
  }
  return w.state === "lost" ? null : button("Resume", () => order("resume", "It claims runs again within seconds."));
}
