// The address of what is on show, for others.

import { button, dialog, h, toast } from "../elements.js";

export async function copyLink() {
  if (navigator.clipboard) { // only over HTTPS, or on this machine
    await navigator.clipboard.writeText(location.href);
    return toast("Link copied.");
  }
  return dialog("Link to this page", (close) => [h("input", { value: location.href, readonly: true, "aria-label": "Link",
    onfocus: (event) => event.target.select() }), h("div", { class: "actions" }, button("Close", () => close()))]);
}
