// The days to come, each with what is due: the occurrences of all active schedules.

import { get, view } from "../api.js";
import { empty, fill, h } from "../elements.js";
import { setQuery } from "../navigation.js";

const SCHEDULES = 60; // that are asked for their times, those due first
const EACH = 100; // times of one schedule, the most the server gives
const AT_ONCE = 6;

const start = (date) => new Date(date.getFullYear(), date.getMonth(), date.getDate());
const plus = (date, days) => new Date(date.getFullYear(), date.getMonth(), date.getDate() + days);

export async function calendar(main) {
  const notes = h("p", { class: "sub" }), grid = h("ol", { class: "days" });
  const spans = h("div", { class: "chips", role: "group", "aria-label": "Span" });
  let found = { occurrences: [], short: [], left: 0 };
  function draw() {
    const weeks = view.query.get("weeks") === "1" ? 1 : 5;
    fill(spans, [[1, "This week"], [5, "Five weeks"]].map(([n, text]) => h("button", { type: "button", class: "chip",
      "data-key": `weeks-${n}`, "aria-pressed": String(n === weeks), onclick: () => { setQuery({ weeks: n === 1 ? "1" : "" }); draw(); } }, text)));
    const today = start(new Date()), first = plus(today, -((today.getDay() + 6) % 7));
    const byDay = Map.groupBy(found.occurrences, (one) => start(one.at).getTime());
    fill(grid, Array.from({ length: weeks * 7 }, (_, n) => day(plus(first, n), today, byDay)));
    const until = plus(first, weeks * 7);
    const short = found.short.filter((one) => one.until < until);
    fill(notes, `On this machine's clocks (${Intl.DateTimeFormat().resolvedOptions().timeZone}).`,
      short.length > 0 && ` Of ${short.map((one) => one.name).join(", ")} only the next ${EACH} times are shown.`,
      found.left > 0 && ` ${found.left} more schedules are not shown.`);
    grid.classList.toggle("week", weeks === 1);
  }
  async function load() {
    found = await occurrences();
    if (found.none) fill(main, empty("No schedule is active.", h("a", { href: "#/schedules?new=" }, "Make one")));
    else draw();
  }
  main.append(spans, notes, grid);
  await load();
  let at = Date.now();
  view.refresh = () => { // it asks every schedule: once a minute is enough
    if (Date.now() - at < 60000) return null;
    at = Date.now();
    return load();
  };
}

function day(date, today, byDay) {
  const due = (byDay.get(date.getTime()) ?? []).toSorted((a, b) => a.at - b.at);
  const kinds = Map.groupBy(due, (one) => one.id);
  const text = date.toLocaleDateString(undefined, { weekday: "short", day: "numeric", month: "short" });
  return h("li", { class: [date < today && "past", +date === +today && "today", !due.length && "free"].filter(Boolean).join(" ") },
    h("h2", {}, text, +date === +today && h("span", { class: "unseen" }, " (today)")),
    h("ul", {}, [...kinds].map(([id, all]) => h("li", {}, h("a", { href: `#/schedules/${id}`, "data-key": `${+date}-${id}`,
      title: all.map((one) => clock(one.at)).join(", ") }, h("b", {}, clock(all[0].at)), ` ${all[0].name}`,
    all.length > 1 && h("small", {}, ` ×${all.length}`))))));
}

const clock = (at) => at.toLocaleTimeString(undefined, { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

async function occurrences() {
  const active = [];
  let at = { has_more: true };
  while (at.has_more && active.length < 1000) {
    at = await get(`/schedules?${new URLSearchParams({ limit: "100", state: "active", ...(at.next_cursor && { cursor: at.next_cursor }) })}`);
    active.push(...at.data);
  }
  active.sort((a, b) => (a.next_due_at ?? "9").localeCompare(b.next_due_at ?? "9"));
  const asked = active.slice(0, SCHEDULES), found = [], short = [];
  while (asked.length) {
    await Promise.all(asked.splice(0, AT_ONCE).map(async (s) => {
      const name = s.name ?? s.agent;
      const { data } = await get(`/schedules/${s.id}/preview?count=${EACH}`);
      found.push(...data.map((one) => ({ id: s.id, name, at: new Date(one.at) })));
      if (data.length === EACH) short.push({ name, until: new Date(data.at(-1).at) });
    }));
  }
  return { occurrences: found, short, left: Math.max(0, active.length - SCHEDULES), none: !active.length };
}
