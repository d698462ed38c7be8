// What a run did and when, as spans: its attempts and what it waited for, and in each attempt its steps, model turns and
// tool calls. Put together from the events of its log and, where the caller may see them, the steps of its journal.

const ASKED = { waiting_for_input: "Waited for an answer", awaiting_review: "Waited for a review" };
const BEGINS = { ask: "Went on after the answer", review: "Went on after the review", wait: "Went on after waiting",
  release: "Went on in another worker", rescue: "Went on: the worker was lost", compensate: "Undoes what it did" };
const ENDS = { ask: "asked", review: "asked for a review", wait: "waits", release: "handed back", rescue: "worker lost",
  finish: "completed", fail: "failed", retry: "failed", stop: "stopped", compensate: "is undone", expire: "expired" };
const INTERNAL = new Set(["inside", "beside", "turn", "calls", "task_id", "until"]); // marks of the journal in what a step was called with

const time = (at) => Date.parse(at);
const errorOf = (data) => data?.error ?? (data?.code ? data : null);

// Spans of attempts and of waits, in order; each has `start` and `end` in milliseconds, `end` null while it goes on.
export function attempts(events) {
  const found = [];
  let now = null, tries = 1, cause = null;
  const close = (at) => { if (now) now.end = at; now = null; };
  for (const event of events) {
    const status = event.data?.status, at = time(event.at);
    if (!status || (now?.status === status && event.type !== "claim")) continue;
    if (status === "running") {
      close(at);
      if (cause?.type === "retry") tries += 1;
      now = { id: `attempt-${event.attempt}`, kind: "attempt", status, attempt: event.attempt, start: at, end: null,
        name: !cause ? "Run" : cause.type === "retry" ? `Try ${tries}` : BEGINS[cause.type] ?? "Went on" };
      found.push(now);
      continue;
    }
    if (now?.kind === "attempt") {
      Object.assign(now, { outcome: ENDS[event.type] ?? event.type, error: errorOf(event.data),
        failed: ["fail", "retry", "expire", "rescue"].includes(event.type) });
      if (status !== "completed") cause = event;
    }
    const before = now;
    if (["completed", "failed", "stopped"].includes(status)) { close(at); continue; }
    if (before?.kind === "wait") { // what is admitted after an answer still waits
      before.status = status;
      if (before.asked && status === "queued") { close(at); now = wait(found, event, at, status, cause); }
      continue;
    }
    close(at);
    now = wait(found, event, at, status, cause);
  }
  // A short wait for a place is not worth a row; a question is, however quickly it was answered.
  return found.filter((span) => span.kind === "attempt" || span.asked || span.end === null || span.end - span.start > 20);
}

function wait(found, event, at, status, cause) {
  const span = { id: `wait-${event.seq}`, kind: "wait", status, asked: status in ASKED, start: at, end: null,
    name: nameOf(status, cause, event), details: { because: event.data?.held_by ?? event.data?.after } };
  found.push(span);
  return span;
}

function nameOf(status, cause, event) {
  if (status in ASKED) return ASKED[status];
  if (event.type === "wait" || (cause?.type === "wait" && status === "queued")) return "Waited for others";
  if (event.type === "retry") return "Waited to try again";
  return cause ? "Waited to go on" : "Waited to start";
}

/* ---- within attempts ---- */

function ofJournal(step, ends) {
  const known = ends.get(step.ended_at);
  const start = time(step.began_at), end = step.ended_at ? time(step.ended_at) : null;
  const detail = step.detail && typeof step.detail === "object" && !Array.isArray(step.detail)
    ? Object.fromEntries(Object.entries(step.detail).filter(([name]) => !INTERNAL.has(name))) : step.detail;
  return { id: step.key, key: step.key, pos: step.pos, kind: step.kind, name: step.name, attempt: step.attempt, inside: step.inside,
    start: known?.seconds && end ? Math.min(start, end - known.seconds * 1000) : start, end,
    instant: !known?.seconds && start === end && step.kind !== "value", failed: step.state === "failed" || known?.outcome === "failed",
    effect: step.effect, given: detail && Object.keys(detail).length ? detail : undefined, givenBytes: step.detail_bytes,
    result: step.value, resultBytes: step.value_bytes, usage: known?.usage, cost: known?.cost_micros, model: known?.model,
    child: step.kind === "child" ? step.detail?.task_id : undefined };
}

function ofEvents(events) { // for those who do not see the journal
  const calls = new Map(events.filter((e) => e.type === "tool_call").map((e) => [e.data.id, e.data]));
  const kinds = { step: "step", tool_result: "tool", model_turn: "model" };
  return events.filter((event) => event.type in kinds).map((event) => {
    const { data } = event, end = time(event.at);
    return { id: `event-${event.seq}`, kind: kinds[event.type], name: data.name ?? data.tool ?? data.model, attempt: event.attempt,
      start: data.seconds != null ? end - data.seconds * 1000 : end, end, instant: data.seconds == null,
      failed: data.outcome === "failed", given: calls.get(data.id)?.arguments, result: data.result,
      usage: data.usage, cost: data.cost_micros, model: data.model };
  });
}

function merged(siblings) { // what is looked up again and again is one row
  const found = [];
  for (const span of siblings) {
    const before = found.at(-1);
    if (span.kind === "value" && before?.kind === "value" && (before.of ?? before.name) === span.name) {
      const count = (before.count ?? 1) + 1;
      found[found.length - 1] = { ...span, id: before.id, start: before.start, of: span.name, count,
        name: `${span.name} × ${count}` };
    } else {
      found.push(span);
    }
  }
  return found;
}

// The spans of a run in the order in which they are shown, each with its `depth`.
export function spans(events, steps) {
  const ends = new Map(events.filter((e) => ["tool_result", "model_turn"].includes(e.type)).map((e) => [e.at, e.data]));
  const work = steps ? steps.map((step) => ofJournal(step, ends)) : ofEvents(events);
  const within = new Map(work.map((span) => [span.id, []]));
  const outer = [];
  for (const span of work) (within.get(span.inside) ?? outer).push(span);
  const shown = [];
  const show = (span, depth) => {
    shown.push(Object.assign(span, { depth }));
    showAll(within.get(span.id) ?? [], span.start, depth + 1);
  };
  const showAll = (siblings, before, depth) => {
    for (const span of merged(siblings)) {
      // An entry that was written with its end alone began after what came before it.
      if (span.instant && before < span.start) span.start = before;
      before = Math.max(before, span.end ?? span.start);
      show(span, depth);
    }
  };
  const taken = outer.filter((span) => span.attempt === 0);
  if (taken.length) {
    shown.push({ id: "taken", kind: "taken", name: "Taken over from the run it repeats", depth: 0, start: null, end: null });
    taken.forEach((span) => show(Object.assign(span, { start: null, end: null, taken: true }), 1));
  }
  const parts = attempts(events);
  for (const part of parts) {
    shown.push(Object.assign(part, { depth: 0 }));
    if (part.kind === "attempt") showAll(outer.filter((one) => one.attempt === part.attempt), part.start, 1);
  }
  return shown;
}

// How often a run was really tried: going on after a wait is no failure.
export function tried(events) {
  const retries = events.filter((event) => event.type === "retry").length;
  const rescues = events.filter((event) => event.type === "rescue").length;
  const rests = events.filter((event) => ["ask", "review", "wait", "release"].includes(event.type)).length;
  return [retries > 0 && `tried ${retries + 1} times`, rescues > 0 && `rescued ${rescues === 1 ? "once" : `${rescues} times`}`,
    rests > 0 && `paused ${rests === 1 ? "once" : `${rests} times`}`].filter(Boolean);
}
