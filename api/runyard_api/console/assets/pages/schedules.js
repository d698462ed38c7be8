// The schedules.

import { get, view } from "../api.js";
import { badge, empty, fill, h, runLink, table, when } from "../elements.js";
import { acting } from "./acting.js";

export default async function schedules(main) {
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
