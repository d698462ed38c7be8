// What is filtered as a file, put together in the browser page by page.

import { get } from "../api.js";
import { button, h } from "../elements.js";
import { parameters } from "./run_filters.js";

const MOST = 10000; // runs of one file
const FIELDS = ["task_id", "agent", "version", "status", "title", "preview", "session_id", "end_user_id", "created_by",
  "parent_id", "front", "attempt", "input_tokens", "output_tokens", "cost", "created_at", "started_at", "finished_at"];

const valueOf = (task, name) => (name in task ? task[name] : task.usage?.[name]);

function cell(value) { // a spreadsheet takes what begins with these as a formula
  const text = String(value ?? "").replace(/^[=+\-@\t\r]/, "'$&");
  return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const KINDS = {
  csv: ["CSV", "text/csv", (rows) => [FIELDS.join(), ...rows.map((task) =>
    FIELDS.map((name) => cell(valueOf(task, name))).join())].join("\r\n")],
  jsonl: ["JSON lines", "application/jsonl", (rows) => rows.map((task) => JSON.stringify(task)).join("\n")],
};

async function collected(progress) {
  const query = new URLSearchParams({ ...parameters(), limit: "100" });
  const rows = [];
  for (;;) {
    const page = await get(`/tasks?${query}`);
    rows.push(...page.data);
    if (!page.has_more) return { rows, cut: false };
    if (rows.length >= MOST) return { rows: rows.slice(0, MOST), cut: true };
    query.set("cursor", page.next_cursor);
    progress(rows.length);
  }
}

export function exporter(result) { // `result` is where it is written what came of it
  return h("details", { class: "drop" }, h("summary", {}, "Export"), h("div", { class: "dropped" },
    Object.entries(KINDS).map(([ending, [text, type, written]]) => button(text, async () => {
      const { rows, cut } = await collected((n) => { result.textContent = `${n.toLocaleString()} runs so far…`; });
      const url = URL.createObjectURL(new Blob([written(rows), "\n"], { type }));
      h("a", { href: url, download: `runs.${ending}` }).click();
      setTimeout(() => URL.revokeObjectURL(url), 10000);
      result.textContent = cut ? `Exported the newest ${MOST.toLocaleString()} runs; there are more: narrow the filters.`
        : `Exported ${rows.length.toLocaleString()} run${rows.length === 1 ? "" : "s"}.`;
    }, "quiet"))));
}
