// The webhooks, one of them with its deliveries, and what did not arrive anywhere.

import { get, may, patch, post, remove, view } from "../api.js";
import { badge, button, confirmed, dangerous, dialog, empty, fill, h, section, title, toast, when } from "../elements.js";
import { asked, entry, listed, several, shownOnce } from "./acting.js";
import { deliveries, settled, outcome } from "./deliveries.js";
import { stacked } from "./stacked.js";

const EVENTS = ["pending", "queued", "running", "waiting_for_input", "awaiting_review", "completed", "failed", "stopped"]
  .map((status) => [`run.${status}`, `run.${status}`]);
const MODES = [["full", "with input and output"], ["summary", "without input and output"]];
const KEEP = "It is shown now and never again. The receiver verifies every call with it (Standard Webhooks).";
const REASONS = { by_hand: "disabled by hand", gone: "the receiver answered 410 Gone",
  failing_for_days: "nothing was delivered for days" };

const address = (id) => `#/webhooks/${encodeURIComponent(id)}`;
const stateOf = (w) => badge(w.active ? "active" : "off");

export default async function webhooks(main, id) {
  if (id) return webhook(main, id);
  const list = h("div", {}), dead = h("div", {});
  main.append(title("Webhooks", may("webhooks:write") && button("New webhook", create, "primary")), list);
  if (may("webhooks:write")) main.append(callbacks());
  main.append(section("What did not arrive", h("p", { class: "sub" },
    "Deliveries of all webhooks, and of the callbacks of runs, that were given up."), dead));
  const again = deliveries(dead, () => "/deliveries?state=dead&limit=20",
    { none: "Everything has arrived, or is still on its way." });
  view.refresh = async () => {
    const page = await get("/webhooks");
    fill(list, page.data.length ? stacked("Webhooks", ["Address", "Events", "State", "Failing since"],
      page.data.map((w) => [h("a", { href: address(w.id), "data-key": w.id }, w.url), listed(w.events), stateOf(w),
        when(w.failing_since)])) : empty("No webhooks. A webhook is called when runs of the organisation change.",
      may("webhooks:write") && button("Make the first webhook", create)));
    await again();
  };
  await view.refresh?.();
}

function callbacks() {
  return h("section", { class: "card" }, h("h2", {}, "Callbacks of runs"), h("p", { class: "sub" },
    "A run may ask for a callback of its own. All of them are signed with one secret of the organisation. After a rotation "
    + "the secret before signs as well for 24 hours."), dangerous("Rotate the callbacks' secret",
    "Make a new secret for the callbacks of runs? Receivers have 24 hours to take it over.", async () => {
      const made = await post("/webhooks/callbacks/rotate");
      await shownOnce("New secret of the callbacks", KEEP, made.secret);
    }));
}

/* ---- making and changing ---- */

function fields(w) {
  const chosen = w?.events ?? ["*"];
  const events = several("events", "Events", [["*", "all events"], ...EVENTS], chosen);
  const [all, ...others] = events.boxes.map((box) => box.input);
  all.addEventListener("change", () => { if (all.checked) others.forEach((one) => { one.checked = false; }); });
  others.forEach((one) => one.addEventListener("change", () => { if (one.checked) all.checked = false; }));
  return [entry("url", "Address", { type: "url", required: true, value: w?.url, placeholder: "https://",
    hint: "It gets a POST for each event. HTTPS and public, unless the operator opened others." }), events,
  entry("agent", "Only runs of this agent", { value: w?.agent_id, hint: "Blank: runs of any agent." }),
  entry("payload_mode", "Payload", { kind: "choice", options: MODES, value: w?.payload_mode ?? "full" }),
  entry("max_parallel", "Calls under way at once", { kind: "number", step: 1, min: 1, value: w?.max_parallel ?? 10 }),
  entry("max_per_second", "Calls begun in a second", { kind: "number", min: 0.01, value: w?.max_per_second ?? 100 })];
}

async function create() {
  const made = await asked("New webhook", fields(), "Make it", (given) => post("/webhooks", given));
  if (!made) return;
  await shownOnce("The webhook's secret", KEEP, made.secret);
  location.hash = address(made.id);
}

const edit = (w, refresh) => asked("Change the webhook", fields(w), "Save", async (given) => {
  await patch(`/webhooks/${w.id}`, given);
  toast("Changed. What is pending goes to the address of now.");
  await refresh();
});

/* ---- one webhook ---- */

async function webhook(main, id) {
  const path = `/webhooks/${encodeURIComponent(id)}`;
  const head = h("div", {}), log = h("div", {});
  main.append(h("a", { class: "back", href: "#/webhooks" }, "← Webhooks"), head, section("Deliveries", log));
  const again = deliveries(log, (query) => `${path}/deliveries?${query}`, { filters: true,
    none: "Nothing was sent yet. Test it, or wait for a run.", missed: () => missed(path) });
  view.refresh = async () => {
    const w = await get(path);
    fill(head, title(w.url, ...orders(w, path)), stateLine(w), about(w));
    await again();
  };
  await view.refresh?.();
}

const stateLine = (w) => h("p", { class: "sub" }, stateOf(w), !w.active && w.disabled_reason
  && ` ${REASONS[w.disabled_reason] ?? w.disabled_reason}`, w.failing_since && [" · failing since ", when(w.failing_since)],
w.old_secret_until && [" · the secret before signs too, until ", when(w.old_secret_until)]);

const about = (w) => h("dl", { class: "facts" }, [["Events", listed(w.events)],
  ["Agent", w.agent_id ?? "any"], ["Payload", MODES.find(([mode]) => mode === w.payload_mode)?.[1]],
  ["Style", w.style], ["At once", `${w.max_parallel} calls, ${w.max_per_second} begun in a second`],
  ["Made", when(w.created_at)]].flatMap(([name, value]) => [h("dt", {}, name), h("dd", {}, value)]));

function orders(w, path) {
  if (!may("webhooks:write")) return [];
  const act = async (action, done) => {
    await post(`${path}/${action}`);
    toast(done);
    await view.refresh?.();
  };
  return [w.active && button("Test", () => test(w, path), "primary"),
    button("Change", () => edit(w, view.refresh)),
    button("Rotate secret", async () => {
      if (!await confirmed("Make a new secret? Calls are signed with both for 24 hours.", "Rotate secret")) return;
      await shownOnce("The webhook's new secret", KEEP, (await post(`${path}/rotate`)).secret);
      await view.refresh?.();
    }),
    w.active ? dangerous("Disable", "Send nothing more to this webhook? What is pending for it is given up, and can be sent "
      + "again.", () => act("disable", "Nothing more is sent to it."))
      : button("Enable", () => act("enable", "It gets events again."), "primary"),
    may("webhooks:delete") && dangerous("Delete", "Delete this webhook? What is pending for it is given up.", async () => {
      await remove(path);
      toast("Deleted.");
      location.hash = "#/webhooks";
    })];
}

// A test is done when its receiver has answered, or could not be reached.
async function test(w, path) {
  const { delivery_id: id } = await post(`${path}/test`);
  let open = true;
  const shown = dialog("Test of the webhook", (close) => {
    const result = h("p", { role: "status" }, `A test.ping is on its way to ${w.url} …`);
    settled(id, () => open).then((delivery) => fill(result, outcome(delivery)), (error) => fill(result, error.message));
    return [result, h("div", { class: "actions" }, button("Close", () => close(), "primary"))];
  });
  await shown;
  open = false;
  await view.refresh?.();
}

async function missed(path) { // events that came while the webhook was disabled, and deliveries that were given up
  const which = entry("state", "Which", { kind: "choice", value: "dead", options: [["dead", "only what did not arrive"],
    ["", "everything that was settled"]] });
  const from = entry("created_after", "Not before", { type: "datetime-local" });
  await asked("Send deliveries again", [which, from], "Send them again", async (given) => {
    const body = { ...(given.state && { state: given.state }),
      ...(given.created_after && { created_after: new Date(given.created_after).toISOString() }) };
    let count = 0, answer;
    do {
      answer = await post(`${path}/replay`, { ...body, ...(answer && { settled_before: answer.settled_before }) });
      count += answer.count;
    } while (answer.has_more);
    toast(count ? `${count} on their way again.` : "Nothing matches.");
    await view.refresh?.();
  });
}
