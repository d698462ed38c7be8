// The webhooks.

import { get, view } from "../api.js";
import { badge, empty, fill, h, table, when } from "../elements.js";
import { acting } from "./acting.js";

export default async function webhooks(main) {
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
