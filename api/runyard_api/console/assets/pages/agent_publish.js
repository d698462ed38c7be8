// Publish a declared agent: its manifest as YAML or JSON.

import { post } from "../api.js";
import { h, toast } from "../elements.js";
import { form } from "../forms.js";
import { written } from "../written.js";

export const template = `name: "@team/summary"
version: 1.0.0
description: Summarises what it is given.
instructions: |
  Summarise the text in two sentences.
timeout: 300
`;

// The next patch version, where the version is three numbers.
export const nextVersion = (version) => version.replace(/^(\d+\.\d+\.)(\d+)$/, (_, front, patch) => front + (Number(patch) + 1));

// A manifest without the parts that have no value.
export const filled = (manifest) => Object.fromEntries(Object.entries(manifest).filter(([, value]) =>
  value != null && !(typeof value === "object" && !Object.keys(value).length)));

// The manifest of a version as the text of the next one.
export const asNext = (manifest) => `${written({ ...filled(manifest), version: nextVersion(manifest.version) }).join("\n")}\n`;

export function publishForm(text, done) {
  const input = h("textarea", { id: "manifest", name: "manifest", class: "code manifest", spellcheck: "false", rows: 16,
    "data-key": "manifest" }, text);
  return form(async () => {
    const kind = input.value.trimStart().startsWith("{") ? "application/json" : "application/yaml";
    const made = await post("/agents/manifests", new Blob([input.value], { type: kind }));
    toast(`Published ${made.full_name} ${made.version}.`);
    done(made);
  }, "Publish", [h("div", { class: "field" }, h("label", { for: "manifest" }, "Manifest, YAML or JSON"), input,
    h("small", {}, "A published version never changes: write another version for other content. ",
      "Leave ******** where a credential is to stay as it was."))]);
}
