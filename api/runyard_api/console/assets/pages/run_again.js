// Running a run again: behind its finished steps, from one of them, from the top, or with another input.

import { get, may, post } from "../api.js";
import { ENDED, button, confirmed, dangerous, dialog, h, runLink, toast } from "../elements.js";
import { form } from "../forms.js";
import { copyLink } from "./copying.js";
import { runFields, start } from "./run_form.js";

const go = (task) => { location.hash = runLink(task.task_id); };

export const againFrom = (path) => async (key, name) => {
  const sure = await confirmed(`Run again from “${name}”? A new run takes over what was done before it began, and does it and `
    + "all that followed once more: also what it has changed elsewhere.", "Run again from here");
  if (sure) go(await post(`${path}/retry`, { from_step: key }));
};

const TAKEN = ["model", "budget", "deadline", "ttl", "priority"]; // of a run's options, as its form has them

async function changed(task) { // the form of the agent, filled in with what the run was given
  const path = `/agents/${encodeURIComponent(task.agent)}`;
  const agent = await get(path);
  const { message, args, options = {}, ...others } = task.input ?? {};
  const taken = Object.fromEntries(TAKEN.map((name) => [name, options[name]]));
  const fields = runFields(agent, { ...taken, query: message, args, session_id: task.session_id });
  const lost = [...Object.keys(others), ...Object.keys(options).filter((name) => !TAKEN.includes(name))];
  return dialog(`Run ${task.agent} with other input`, (close) => [
    lost.length > 0 && h("p", { class: "dim" }, `Not taken over: ${lost.join(", ")}. “Run again” takes over all.`),
    form(async () => {
      const made = await start(path, agent, fields.read(), fields.files());
      close(true);
      go(made);
    }, "Run", [fields.node]), button("Leave it", () => close())].filter(Boolean));
}

export function actions(task, path, stepsDone) {
  const ended = ENDED.has(task.status);
  const failed = ["failed", "stopped"].includes(task.status);
  const resumes = failed && stepsDone && !task.ending;
  return [button("Copy link", copyLink, "quiet"),
    !ended && may("runs:cancel") && dangerous("Cancel run", "Cancel this run? Runs that it has started are cancelled too.",
      async () => { await post(`${path}/cancel`, {}); toast("Stopped."); }),
    ended && may("runs:create") && button("Change input…", () => changed(task)),
    ended && may("runs:retry") && button("Run again", async () => go(await post(`${path}/retry`, { fresh: true })),
      failed && !resumes ? "primary" : ""),
    resumes && may("runs:retry") && button("Retry from the last step", async () => go(await post(`${path}/retry`, {})), "primary")];
}
