// The waterfall of a run: its spans as bars over a time axis, each of which opens to what it was given and gave.

import { get, may } from "../api.js";
import { button, fill, h, json, runLink, seconds } from "../elements.js";

const MOST = 300; // rows that are drawn at once
const SHARE = 0.12; // of the axis, that a long wait takes at most

// The axis: long waits are shortened, so that what was done between them is seen.
function axis(spans) {
  const now = Date.now();
  const timed = spans.filter((span) => span.start != null);
  if (!timed.length) return { at: () => 0, total: 0, cut: false };
  const first = Math.min(...timed.map((span) => span.start));
  const last = Math.max(...timed.map((span) => span.end ?? now));
  const waits = timed.filter((span) => span.kind === "wait").map((span) => [span.start, span.end ?? now])
    .sort((a, b) => a[0] - b[0]);
  const work = Math.max(1, last - first - waits.reduce((sum, [from, to]) => sum + to - from, 0));
  const most = Math.max(work * SHARE * 2, 1);
  const shortened = waits.map(([from, to]) => ({ from, to, saved: Math.max(0, to - from - most) }));
  const placed = (time) => time - first - shortened.reduce((sum, { from, to, saved }) => sum
    + (time <= from ? 0 : time >= to ? saved : saved * ((time - from) / (to - from))), 0);
  const total = Math.max(1, placed(last));
  return { at: (time) => placed(time) / total, total: last - first, cut: shortened.some((one) => one.saved > 0) };
}

function bar(span, scale) {
  const track = h("span", { class: "track", "aria-hidden": "true" });
  if (span.start == null) return track;
  const from = scale.at(span.start), to = scale.at(span.end ?? Date.now());
  const node = h("i", { class: `span-bar ${span.kind}${span.failed ? " failed" : ""}${span.end === null ? " open" : ""}` });
  node.style.left = `${(100 * Math.min(from, 0.996)).toFixed(3)}%`;
  node.style.width = `${(100 * Math.max(to - from, 0.004)).toFixed(3)}%`;
  track.append(node);
  return track;
}

const length = (span) => (span.taken || span.start == null ? "" : seconds(((span.end ?? Date.now()) - span.start) / 1000));
const KINDS = { model: "model turn", tool: "tool call", child: "child run", value: "value", step: "step" };

function known(span) {
  const at = (time) => new Date(time).toLocaleString(undefined, { hour12: false, fractionalSecondDigits: 3,
    year: "numeric", month: "2-digit", day: "2-digit", hour: "2-digit", minute: "2-digit", second: "2-digit" });
  return [["Kind", KINDS[span.kind] ?? span.kind], ["Outcome", span.outcome ?? (span.failed ? "failed" : null)], ["Effect", span.effect],
    ["Began", span.start != null && at(span.start)], ["Ended", span.end != null && at(span.end)],
    ["Model", span.model], ["Tokens", span.usage && `${span.usage.input_tokens ?? 0} in, ${span.usage.output_tokens ?? 0} out${
      span.usage.cached_tokens ? `, ${span.usage.cached_tokens} cached` : ""}`],
    ["Cost", span.cost > 0 && `$${(span.cost / 1e6).toFixed(6)}`], ["Because of", span.details?.because], ["Key", span.key]]
    .filter(([, value]) => value != null && value !== false && value !== "");
}

function large(span, path, name, bytes) { // a value that the list of steps leaves out
  const place = h("div", {});
  fill(place, button(`Show all ${Math.ceil(bytes / 1024).toLocaleString()} KB`, async () => {
    const page = await get(`${path}/journal?after=${span.pos - 1}`);
    fill(place, json(page.entries.find((entry) => entry.key === span.key)?.[name] ?? null));
  }, "quiet"));
  return place;
}

function details(span, path, again) {
  const part = (title, value, bytes, name) => (value != null || bytes > 4) && [h("h3", {}, title),
    value != null ? json(value) : large(span, path, name, bytes)];
  return [h("dl", { class: "known" }, known(span).map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, `${value}`)))),
    span.child && h("p", {}, "Child run: ", h("a", { href: runLink(span.child) }, span.child)),
    span.error && [h("h3", {}, "Error"), h("p", { class: "bad" }, `${span.error.code ?? ""}: ${span.error.message ?? ""}`)],
    part("Given", span.given, span.givenBytes, "detail"), part(span.failed ? "Error" : "Result", span.result, span.resultBytes, "value"),
    span.key && again && may("runs:retry") && h("div", { class: "actions" },
      button("Run again from here", () => again(span.key, span.name)))].flat(2);
}

function row(span, scale, { path, again, opened, choose }) {
  const body = h("div", { class: "span-body" });
  const name = h("span", { class: "span-name" }, h("span", {}, span.name),
    ["model", "tool", "child"].includes(span.kind) && h("small", {}, ` ${KINDS[span.kind]}`),
    span.outcome && h("small", { class: span.failed ? "bad" : "" }, ` ${span.outcome}`));
  name.style.paddingLeft = `${0.2 + span.depth * 1.1}rem`;
  const node = h("details", { open: opened.has(span.id), ontoggle: () => {
    if (node.open === opened.has(span.id)) return;
    if (node.open) opened.add(span.id);
    else opened.delete(span.id);
    choose(node.open ? span.id : "");
    show();
  } }, h("summary", { "data-key": `span-${span.id}`, class: span.failed ? "failed" : "" }, name, bar(span, scale),
    h("small", { class: "took" }, length(span))), body);
  const show = () => fill(body, node.open && details(span, path, again));
  show();
  return h("li", { "data-span": span.id, class: span.kind }, node);
}

// `node` is filled with the spans; what is open in `context.opened` stays open.
export function drawWaterfall(node, spans, context) {
  const scale = axis(spans);
  const shown = spans.slice(0, context.most ?? MOST);
  fill(node, h("div", { class: "span-axis", "aria-hidden": "true" }, h("span", {}, "0"),
    h("span", {}, scale.cut ? "long waits are shortened" : ""), h("span", {}, seconds(scale.total / 1000))),
  h("ol", { class: "waterfall", id: "waterfall" }, shown.map((span) => row(span, scale, context))),
  !spans.length && h("p", { class: "dim" }, "Nothing has happened yet."),
  spans.length > shown.length && button(`Show ${spans.length - shown.length} more`, () => {
    context.most = spans.length;
    drawWaterfall(node, spans, context);
  }, "quiet"));
}
