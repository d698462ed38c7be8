// The workers.

import { get, view } from "../api.js";
import { badge, empty, fill, h, table, when } from "../elements.js";
import { figures } from "./figures.js";

export default async function workers(main) {
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
