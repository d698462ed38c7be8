// Running a run again: behind its finished steps, from one of them, from the top, or with another input.

import { get, may, post } from "../api.js";
import { ENDED, button, confirmed, dangerous, dialog, h, runLink, toast } from "../elements.js";
import { field, form } from "../forms.js";
import { copyLink } from "./copying.js";

const go = (task) => { location.hash = runLink(task.task_id); };

export const againFrom = (path) => async (key, name) => {
  const sure = await confirmed(`Run again from “${name}”? A new run takes over what was done before it began, and does it and `
    + "all that followed once more: also what it has changed elsewhere.", "Run again from here");
  if (sure) go(await post(`${path}/retry`, { from_step: key }));
};

async function changed(task) { // the form of the agent, filled in with what the run was given
  const agent = await get(`/agents/${encodeURIComponent(task.agent)}`);
  const schema = agent.manifest.input?.schema;
  const given = task.input ?? {};
  const message = field({ type: "string" }, "Message", false, given.message);
  const open = !schema || (schema.type === "object" && !schema.properties && !schema.required?.length);
  const args = field(schema ?? {}, schema?.properties ? "" : "Arguments", !open, given.args);
  const lost = Object.keys(given).filter((name) => !["message", "args"].includes(name));
  return dialog(`Run ${task.agent} with other input`, (close) => [
    lost.length > 0 && h("p", { class: "dim" }, `Not taken over: ${lost.join(", ")}. “Run again” takes over all.`),
    form(async () => {
      const body = { query: message.read(), args: args.read(), session_id: task.session_id ?? undefined };
      if (body.query === undefined) body.args ??= {};
      const made = await post(`/agents/${encodeURIComponent(task.agent)}/run`, body);
      close(true);
      go(made);
    }, "Run", [message.node, args.node]), button("Leave it", () => close())].filter(Boolean));
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
