// Due times of a schedule that passed without a run: shown first, then made up for.

import { post } from "../api.js";
import { button, dialog, fill, h, toast, when } from "../elements.js";
import { form, labelled } from "../forms.js";

const counted = (n) => (n === 1 ? "1 run" : `${n} runs`);
const moment = (input) => input.value && new Date(input.value).toISOString();

export const backfill = (s, draw) => dialog("Backfill", (close) => {
  const since = labelled("From", "backfill-since", { type: "datetime-local", name: "since" });
  const until = labelled("Until (now, if empty)", "backfill-until", { type: "datetime-local", name: "until", required: false });
  const found = h("div", { "aria-live": "polite" });
  const ask = (more) => post(`/schedules/${s.id}/backfill`, {
    since: moment(since.input), ...(until.input.value && { until: moment(until.input) }), ...more });
  const look = async () => {
    if (!since.input.value) throw new Error("From when?");
    const { data, next_since } = await ask({ dry_run: true });
    if (!data.length) return fill(found, h("p", { class: "dim" }, "Every due time of this range has its run."));
    const make = button(`Make ${counted(data.length)}`, async () => {
      const made = await ask({ limit: data.length });
      toast(`${counted(made.data.length)} made.`);
      close(true);
      await draw();
    }, "primary");
    return fill(found, h("ol", { class: "times" }, data.slice(0, 10).map((one) => h("li", {},
      h("code", {}, one.local.slice(0, 16).replace("T", " ")), h("small", {}, when(one.at))))),
    data.length > 10 && h("p", { class: "dim" }, `and ${data.length - 10} more`),
    next_since && h("p", { class: "dim" }, "There are more in this range: they come with the next backfill."),
    h("div", { class: "actions" }, make));
  };
  const changed = () => fill(found);
  since.input.addEventListener("input", changed);
  until.input.addEventListener("input", changed);
  const node = form(look, "Show the times", [
    h("p", {}, "Runs for due times that passed without one: while it was paused, or before it was made."),
    ...since.nodes, ...until.nodes], "");
  node.lastElementChild.append(button("Leave it", () => close(null), "quiet"));
  return [node, found];
});
