// Try an agent: the form of its input, a dry run, and the answer under it as it comes.

import { may, post } from "../api.js";
import { button, fill, h, section, toast } from "../elements.js";
import { form, labelled } from "../forms.js";
import { liveRun } from "./live_run.js";
import { preview, recentInputs, runFields, start, withFiles } from "./run_form.js";

export function tryIt(path, agent, ended) {
  if (!may("runs:create")) return section("Try it", h("p", { class: "dim" }, "You need runs:create to run it."));
  if (!agent.is_active) return section("Try it", h("p", { class: "dim" }, "It is deactivated. Activate it to run it."));
  const answer = h("div", {}), dry = h("div", {}), place = h("div", {});
  const { input: delay, nodes } = labelled("Start in, seconds", "delay", { name: "schedule", type: "number", min: 1,
    step: "any", required: false, "data-key": "delay" });
  const later = h("div", { class: "field" }, nodes, h("small", {}, "Makes a schedule that runs once."));
  let fields;
  const draw = (given) => {
    fields = runFields(agent, given);
    fields.node.querySelector(".pairs").append(later);
    fill(place, fields.node);
  };
  draw({});
  const run = async () => {
    const made = await start(path, agent, fields.read(), fields.files(), delay.value && Number(delay.value));
    fill(dry);
    if (made.task_id) fill(answer, h("h2", {}, "Answer"), liveRun(made.task_id, ended));
    else fill(answer, h("p", {}, "It is scheduled: ", h("a", { href: `#/schedules/${made.id}` }, "open the schedule")));
    if (!made.task_id) toast("Scheduled.");
    ended();
  };
  const look = async () => {
    const body = fields.read(), files = fields.files();
    fill(dry, preview(files.length ? await post(`${path}/run?dry_run=1`, withFiles(body, files))
      : await post(`${path}/dry-run`, body)));
  };
  const filled = form(run, "Run", [recentInputs(agent, draw), place]);
  filled.lastElementChild.append(button("Dry run", look));
  return h("div", {}, section("Try it", filled, dry), h("section", { class: "card answered" }, answer));
}
