// Many runs at once: which are chosen, and cancelling or repeating them.

import { may, post } from "../api.js";
import { button, confirmed, fill, h } from "../elements.js";
import { inWords, parameters } from "./run_filters.js";

const MOST_IDS = 100; // that one request names
const MOST_ROUNDS = 40; // of 500 each

const count = (n, what = "run") => `${n.toLocaleString()} ${what}${n === 1 ? "" : "s"}`;

export function selection(refresh) {
  const chosen = new Set();
  const bar = h("div", { class: "bulk", role: "region", "aria-label": "Selected runs", hidden: true });
  const result = h("p", { class: "result", role: "status" });
  const allowed = may("runs:cancel") || may("runs:retry");
  let all = false, rows = [], more = false;

  function draw() {
    bar.hidden = !chosen.size && !all;
    const offer = !all && more && rows.length > 0 && rows.every((task) => chosen.has(task.task_id));
    fill(bar, h("b", {}, all ? "All matching runs" : `${count(chosen.size)} selected`),
      offer && button("Select all that match", () => { all = true; draw(); }, "quiet"),
      h("span", { class: "actions" },
        may("runs:cancel") && button("Cancel selected", cancel, "danger"),
        may("runs:retry") && button("Retry selected", retry),
        button("Clear", clear, "quiet")));
  }
  function clear() {
    chosen.clear();
    all = false;
    document.querySelectorAll(".pick input").forEach((box) => { box.checked = false; });
    draw();
  }
  const filters = () => { // of the requests that name what is chosen
    if (all) return [parameters()];
    const ids = [...chosen];
    return Array.from({ length: Math.ceil(ids.length / MOST_IDS) },
      (_, at) => ({ ids: ids.slice(at * MOST_IDS, (at + 1) * MOST_IDS).join() }));
  };
  const what = () => (all ? `all runs ${inWords()}` : count(chosen.size));

  async function cancel() {
    if (!await confirmed(`Cancel ${what()}? What has not ended is stopped, and so are its children.`, "Cancel them")) return;
    const asked = chosen.size;
    let done = 0, left = false;
    for (const filter of filters()) {
      for (let round = 0; round < MOST_ROUNDS; round++) {
        const answer = await post("/tasks/cancel", { filter });
        done += answer.count;
        left = answer.has_more;
        if (!left) break;
      }
    }
    const ended = all ? 0 : asked - done;
    return report([`Cancelled ${count(done)}.`, ended > 0 && `${count(ended)} had ended already.`,
      left && "Others match: cancel again."]);
  }

  async function retry() {
    if (!await confirmed(`Retry ${what()}? Each that failed or was stopped runs again as a new run, behind its finished `
      + "steps. What was retried before is left out.", "Retry them")) return;
    const asked = chosen.size;
    let done = 0, leftOut = 0, more = false;
    const refused = new Map(); // by id: a later round finds them again
    for (const filter of filters()) {
      for (let round = 0; round < MOST_ROUNDS; round++) {
        const answer = await post("/tasks/retry", { filter });
        if (round === 0) leftOut += answer.left_out; // later rounds find what this one has retried
        done += answer.count;
        answer.refused.forEach((one) => refused.set(one.task_id, one.message));
        more = answer.has_more;
        if (!more || !answer.count) break;
      }
    }
    const others = all ? 0 : asked - done - refused.size - leftOut;
    return report([`Started ${count(done)} again.`, leftOut > 0 && `${count(leftOut)} left out, retried before.`,
      others > 0 && `${count(others)} neither failed nor was stopped.`,
      refused.size > 0 && `${count(refused.size)} refused: ${[...new Set(refused.values())].join(" ")}`,
      more && "Others match: retry again."]);
  }

  function report(lines) {
    result.textContent = lines.filter(Boolean).join(" ");
    clear();
    return refresh();
  }
  const pick = (name, checked, change) => h("label", { class: "pick" }, h("input", { type: "checkbox", checked,
    "aria-label": name, onchange: (event) => { all = false; change(event.target.checked); draw(); } }));
  return {
    bar, result, clear,
    shown(found, hasMore) { // what the page shows now: only of that something is chosen
      rows = found;
      more = hasMore;
      const there = new Set(found.map((task) => task.task_id));
      for (const id of chosen) if (!there.has(id)) chosen.delete(id);
      draw();
    },
    box: (task) => allowed && pick(`Select ${task.title ?? task.agent} ${task.task_id.slice(-12)}`, chosen.has(task.task_id),
      (on) => (on ? chosen.add(task.task_id) : chosen.delete(task.task_id))),
    everyBox: () => allowed && pick("Select all shown", rows.length > 0 && rows.every((task) => chosen.has(task.task_id)),
      (on) => {
        rows.forEach((task) => (on ? chosen.add(task.task_id) : chosen.delete(task.task_id)));
        document.querySelectorAll(".rows li:not(.heads) .pick input").forEach((box) => { box.checked = on; });
      }),
  };
}
