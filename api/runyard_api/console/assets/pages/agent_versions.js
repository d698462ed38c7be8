// The versions of an agent: what changed between two of them, the next one, and the tags that name them.

import { get, may, patch, post, put, remove, view } from "../api.js";
import { badge, button, dangerous, fill, h, section, showError, table, toast, when } from "../elements.js";
import { form, labelled } from "../forms.js";
import { setQuery } from "../navigation.js";
import { compared, written } from "../written.js";
import { asNext, filled, publishForm } from "./agent_publish.js";

const NEAR = 3; // lines around a change that are shown

export async function versions(main, path, agent) {
  const list = h("div", {}), tags = h("div", {}), difference = h("div", {}), next = h("div", {});
  const change = may("agents:write");
  async function draw() {
    const [known, named] = await Promise.all([get(`${path}/versions`), get(`${path}/tags`)]);
    const acted = async (text, act) => { await act(); toast(text); await draw(); };
    fill(list, versionTable(path, known.data, named.data, acted));
    fill(tags, tagTable(path, known.data, named.data, acted));
    return known.data;
  }
  const all = await draw();
  view.refresh = null; // a version does not change by itself, and what is typed stays
  main.append(section("Versions", list), section("Compare", chooser(all, difference), difference), section("Tags", tags));
  if (change && agent.kind === "declared") {
    main.append(section("Next version", next));
    fill(next, h("p", { class: "sub" }, "Publish a changed manifest as the version that runs from now on."),
      publishForm(asNext(agent.manifest), () => dispatchEvent(new HashChangeEvent("hashchange"))));
  }
}

function versionTable(path, all, tags, acted) {
  const write = may("agents:write");
  const state = (one) => [one.is_current && badge("current"), one.status === "draft" && badge("draft"),
    one.yanked && badge("yanked")].filter(Boolean);
  const actions = (one) => h("span", {}, write && one.status === "draft" && button("Publish the draft", () =>
    acted("Published.", () => post(`${path}/versions/publish`)), "primary"),
  write && one.status !== "draft" && (one.yanked
    ? button("Restore", () => acted("It can be chosen again.", () => yank(path, one, false)), "quiet")
    : dangerous("Yank", `Yank version ${one.version}? It then runs only where it is named exactly.`,
      () => acted("Yanked.", () => yank(path, one, true)))));
  return table(["Version", "State", "Tags", "Made", ""], all.map((one) => [h("code", {}, one.version),
    h("span", { class: "badges" }, state(one)),
    Object.keys(tags).filter((tag) => tags[tag] === one.version).join(", ") || "—", when(one.created_at), actions(one)]),
  "Versions");
}

const yank = (path, one, yanked) => patch(`${path}/versions/${encodeURIComponent(one.version)}`, { yanked });

function tagTable(path, all, tags, acted) {
  const at = (tag) => `${path}/tags/${encodeURIComponent(tag)}`;
  const chosen = all.filter((one) => one.status !== "draft");
  const select = (label, value, act, id) => h("select", { id, "aria-label": id ? null : label, "data-key": label, onchange: act },
    chosen.map((one) => h("option", { value: one.version, selected: one.version === value }, one.version)));
  const write = may("agents:write");
  const rows = Object.entries(tags).map(([tag, version]) => [tag, write
    ? select(`Version of ${tag}`, version, (event) => acted(`${tag} names ${event.target.value}.`,
      () => put(at(tag), { version: event.target.value })).catch(showError)) : h("code", {}, version),
  write && tag !== "latest" && dangerous("Remove", `Remove the tag ${tag}? Runs that name it are refused.`,
    () => acted(`Removed ${tag}.`, () => remove(at(tag))))]);
  const { input, nodes } = labelled("New tag", "tag", { name: "tag", "data-key": "tag", placeholder: "stable" });
  const to = select("Version of the new tag", chosen[0]?.version, null, "names");
  return [rows.length ? table(["Tag", "Version", ""], rows.map(([tag, v, act]) => [tag, v, act || ""]), "Tags")
    : h("p", { class: "dim" }, "No tag yet. A tag such as stable names a version, and can be moved to another."),
  write && chosen.length > 0 && form(() => acted(`${input.value} names ${to.value}.`,
    () => put(at(input.value.trim()), { version: to.value })), "Set tag",
  [h("div", { class: "pairs" }, h("div", { class: "field" }, nodes),
    h("div", { class: "field" }, h("label", { for: "names" }, "Version of the new tag"), to))], "")];
}

function chooser(all, node) {
  const select = (label, id) => h("select", { "aria-label": label, "data-key": label, onchange: () => draw().catch(showError) },
    all.map((one) => h("option", { value: one.id, selected: one.id === id }, `${one.version}${one.status === "draft" ? " (draft)" : ""}`)));
  const wanted = (name, at) => all.find((one) => one.id === view.query.get(name))?.id ?? all[Math.min(at, all.length - 1)]?.id;
  const from = select("Before", wanted("from", 1)), to = select("After", wanted("to", 0));
  async function draw() {
    setQuery({ from: from.value, to: to.value });
    const [before, after] = await Promise.all([from, to].map(({ value }) => get(`/agents/${value}`)));
    fill(node, differences(compared(...[before, after].map((one) => written(filled(one.manifest))))));
  }
  if (all.length > 1) draw().catch(showError);
  else fill(node, h("p", { class: "dim" }, "There is one version; the next can be compared with it."));
  return all.length > 1 && h("div", { class: "pairs two" }, from, to);
}

function differences(lines) { // only what is near a change
  const near = lines.map((_, at) => lines.slice(Math.max(0, at - NEAR), at + NEAR + 1).some(([mark]) => mark !== " "));
  if (!near.includes(true)) return h("p", { class: "dim" }, "Both have the same content.");
  const names = { "+": "added", "-": "removed" };
  const shown = lines.flatMap(([mark, line], at) => {
    if (near[at]) {
      return [h("div", { class: names[mark] ?? "" }, h("span", { class: "mark" }, mark === "-" ? "−" : mark,
        names[mark] && h("span", { class: "unseen" }, ` ${names[mark]}: `)), line || " ")];
    }
    return near[at - 1] || at === 0 ? [h("div", { class: "cut" }, "⋯")] : [];
  });
  return h("div", { class: "diff", tabindex: 0, role: "region", "aria-label": "What changed" }, shown);
}
