// Buttons of a row that post, and show what that changed.

import { post } from "../api.js";
import { button, h, toast } from "../elements.js";

export function acting(refresh, path, ...actions) { // buttons that post and show what it changed
  return h("span", {}, actions.map(([text, action]) => button(text, async () => {
    await post(`${path}/${action}`);
    toast(`${text}: done.`);
    await refresh();
  }, "quiet")));
}
