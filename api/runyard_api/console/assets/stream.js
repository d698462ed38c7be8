// Streams of events, which go on where a dropped one ended; a page that gets no connection asks again instead.

import { API, Refused, credentials, key, refusal } from "./api.js";
import { ENDED } from "./elements.js";

function pause(ms, signal) {
  return new Promise((done) => {
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", () => { clearTimeout(timer); done(); }, { once: true });
  });
}

async function* frames(body, alive) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  for (let rest = "";;) {
    const { value, done } = await reader.read();
    if (done) return;
    alive();
    const parts = (rest + value).split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const frame = { data: "" };
      for (const line of part.split("\n")) {
        const at = line.indexOf(":");
        if (at > 0) frame[line.slice(0, at)] = line.slice(at + 1).trimStart();
      }
      if (frame.data) yield { ...frame, data: JSON.parse(frame.data) };
    }
  }
}

const STREAMS = 3; // of the six connections a browser opens to one server, for all pages of it together
const POLL = 3000;

function slot() { // ends one of those streams when called; null when all are taken
  const one = (n) => new Promise((got) => {
    navigator.locks.request(`runyard.stream.${n}`, { ifAvailable: true },
      (lock) => (lock ? new Promise((free) => got(free)) : got(null))).catch(() => got(null));
  });
  if (!navigator.locks) return () => {}; // only over HTTPS, or on this machine
  return (async () => {
    for (let n = 0; n < STREAMS; n++) {
      const free = await one(n);
      if (free) return free;
    }
    return null;
  })();
}

const hidden = (signal) => { // aborted once the page is hidden, which then needs no connection
  const gone = new AbortController();
  const look = () => { if (document.visibilityState === "hidden") gone.abort(); };
  document.addEventListener("visibilitychange", look, { signal });
  addEventListener("pagehide", () => gone.abort(), { signal });
  look();
  return gone.signal;
};

function seen(signal) { // waits until the page is on show
  if (document.visibilityState !== "hidden") return null;
  return new Promise((on) => {
    const look = () => { if (document.visibilityState !== "hidden") on(); };
    document.addEventListener("visibilitychange", look, { signal });
    addEventListener("pageshow", look, { signal });
    signal.addEventListener("abort", on, { once: true });
  });
}

async function poll(path, last, signal, heard) { // what a stream would send, once; the number of the last event, or "end"
  if (!path.startsWith("/tasks/")) {
    heard({ data: {} }); // looks for itself what is new
    return last;
  }
  const query = new URLSearchParams({ after: last || "0", limit: "1000" });
  const headers = { ...credentials(), accept: "application/json" };
  const answer = await fetch(`${API}${path.split("?")[0]}?${query}`, { headers, signal });
  if (answer.status === 401) { key.drop(refusal()); return "end"; }
  if (!answer.ok) throw new Refused(answer.status, null);
  const page = await answer.json();
  for (const event of page.data) heard({ data: event });
  return page.data.some((event) => ENDED.has(event.data?.status)) ? "end" : String(page.next_after);
}

export async function follow(path, signal, heard, state = () => {}) { // resumes where a dropped stream ended
  let last = "", wait = 500;
  while (!signal.aborted) {
    await seen(signal);
    const stalled = new AbortController(), over = new AbortController();
    const away = hidden(over.signal);
    let timer, free = null;
    const alive = () => { clearTimeout(timer); timer = setTimeout(() => stalled.abort(), 45000); };
    try {
      alive();
      const ends = AbortSignal.any([signal, stalled.signal, away]);
      free = await slot();
      if (!free) {
        last = await poll(path, last, ends, heard);
        if (last === "end") return;
        state(true);
        await pause(POLL, ends);
        continue;
      }
      const headers = { ...credentials(), accept: "text/event-stream", ...(last && { "last-event-id": last }) };
      const url = API + (last ? path.split("?")[0] : path);
      const answer = await fetch(url, { headers, signal: ends });
      if (answer.status === 204) return;
      if (answer.status === 401) return key.drop(refusal());
      if (!answer.ok) throw new Refused(answer.status, null);
      wait = 500;
      state(true);
      for await (const frame of frames(answer.body, alive)) {
        if (frame.event === "end") return;
        last = frame.id ?? last;
        heard(frame);
      }
    } catch { /* the loop tries again, from the last event it has */ } finally {
      clearTimeout(timer);
      over.abort();
      free?.();
    }
    if (away.aborted) continue;
    if (!signal.aborted) state(false);
    await pause(wait, signal);
    wait = Math.min(wait * 2, 15000);
  }
}
