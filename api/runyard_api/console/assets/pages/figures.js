// The queue in six figures, for those who may see it.

import { get, may } from "../api.js";
import { fill, h } from "../elements.js";

export async function figures(node) {
  const q = may("ops:read") && await get("/ops/queue");
  const one = (text, value, warn) => h("div", { class: warn ? "warn" : "" }, h("b", {}, value), text);
  if (q) fill(node, one("running", `${q.running}`), one("waiting to start", `${q.waiting}`, q.waiting && !q.workers),
    one("held by a limit", `${q.queued}`), one("need people", `${q.waiting_for_input + q.awaiting_review}`),
    one("oldest wait", q.oldest_waiting_s ? `${Math.round(q.oldest_waiting_s)} s` : "—", q.oldest_waiting_s > 60),
    one(`workers of ${q.wanted_workers} wanted`, `${q.workers}`, q.workers < q.wanted_workers));
}
