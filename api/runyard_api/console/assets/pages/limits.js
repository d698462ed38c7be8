// The limits in force.

import { get } from "../api.js";
import { empty, h, table } from "../elements.js";

export default async function limits(main) {
  const page = await get("/limits");
  main.append(h("h1", {}, "Limits"), page.data.length ? table(
    ["For", "At once", "Starts", "Tokens a minute", "When full", "Set by"],
    page.data.map((l) => [`${l.kind} ${l.selector}`, l.max_concurrent?.toString(),
      l.rate_count != null && `${l.rate_count} in ${l.rate_seconds} s`, l.tokens_per_minute?.toLocaleString(),
      l.strategy, l.operator ? "the operator" : "you"].map((cell) => (cell === false ? null : cell))))
    : empty("Nothing is limited."));
}
