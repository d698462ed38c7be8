// A table that is a list of cards on a narrow page: each cell has the title of its column.

import { h } from "../elements.js";

export const stacked = (name, titles, rows, kind = "") => h("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": name },
  h("table", { class: `stack ${kind}` }, h("thead", {}, h("tr", {}, titles.map((title) => h("th", { scope: "col" },
    title || h("span", { class: "unseen" }, "Actions"))))),
  h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, at) => h("td",
    { "data-title": titles[at], class: titles[at] ? "" : "last" }, h("div", {}, cell || cell === 0 ? cell : titles[at] ? "—" : ""))))))));
