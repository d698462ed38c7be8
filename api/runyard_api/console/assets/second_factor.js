// Setting up a second factor, and going to a single sign-on: on the account page, and before anything is open.

import { api } from "./api.js";
import { button, fill, h, section } from "./elements.js";
import { form, labelled } from "./forms.js";

export const codeField = (id) =>
  labelled("Code of the authenticator", id, { inputmode: "numeric", autocomplete: "one-time-code", maxlength: 64 });

export function enrolling(place, made, done) { // the secret is shown now and never again
  const code = codeField("factor-code");
  fill(place, section("Second factor", h("p", {}, "Scan this with an authenticator, or type the secret into it."),
    h("img", { src: made.qr, alt: "QR code of the secret", class: "qr" }), h("p", {}, h("code", { id: "secret" }, made.secret)),
    form(async () => {
      const { recovery_codes: codes } = await api("POST", "/me/second-factor/confirm", { code: code.input.value });
      recoveryCodes(place, codes, done);
    }, "Confirm", code.nodes)));
  code.input.focus();
}

export function recoveryCodes(place, codes, done) {
  fill(place, section("Recovery codes", h("p", {}, "Keep these: each replaces the authenticator once. ",
    "They are not shown again."), h("pre", { id: "recovery" }, codes.join("\n")),
  h("div", { class: "actions" }, button("I have kept them", done, "primary"))));
}

export async function signOn(path, body) { // the provider's page takes over, and sends the browser back
  location.assign((await api("POST", path, body)).url);
}
