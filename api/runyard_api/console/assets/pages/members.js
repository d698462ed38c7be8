// The people of the organisation, and those who are invited.

import { access, get, may, patch, post, remove, view } from "../api.js";
import { button, confirmed, dangerous, empty, fill, h, section, showError, title, toast, when } from "../elements.js";
import { actor, actorNames, acts, asked, entry, givableRoles, ROLES, shownOnce } from "./acting.js";
import { stacked } from "./stacked.js";

export default async function members(main) {
  const people = h("div", {}), invited = h("div", {});
  main.append(title("Members", may("members:write") && button("Invite", invite, "primary")), people,
    section("Invitations", invited));
  view.refresh = async () => {
    const [page, waiting, names] = await Promise.all([get("/members?limit=100"), get("/invitations"), actorNames()]);
    fill(people, page.data.length ? stacked("Members", ["Name", "E-mail", "Role", "Joined", ""], page.data.map(member))
      : empty("No person belongs to the organisation yet: programs use keys. Invite the first."));
    fill(invited, waiting.data.length ? stacked("Invitations", ["E-mail", "Role", "By", "Made", "Expires", ""],
      waiting.data.map((one) => invitation(one, names))) : h("p", { class: "dim" }, "No invitation waits to be accepted."));
  };
  await view.refresh?.();
}

const reaches = (role) => ROLES.indexOf(role) <= ROLES.indexOf(access.role);

const member = (m) => [m.name || m.email, m.email, may("members:write") && reaches(m.role) ? roleOf(m) : m.role,
  when(m.created_at), may("members:delete") && reaches(m.role) && acts(dangerous("Remove",
    `Remove ${m.name || m.email} from the organisation? Their sign-ins and keys open it no longer; the account stays.`,
    async () => {
      await remove(`/members/${m.id}`);
      toast("Removed.");
      await view.refresh?.();
    }))];

function roleOf(m) {
  const select = h("select", { "aria-label": `Role of ${m.email}`, "data-key": `role-${m.id}` },
    givableRoles().map(([role]) => h("option", { value: role, selected: role === m.role }, role)));
  select.addEventListener("change", async () => {
    try {
      if (await confirmed(`Make ${m.name || m.email} ${select.value}? What they may do follows at once.`, "Change role")) {
        await patch(`/members/${m.id}`, { role: select.value });
        toast("Changed.");
      }
    } catch (error) { showError(error); }
    await view.refresh?.().catch(showError);
  });
  return select;
}

const invitation = (i, names) => [i.email, i.role, actor(names, i.created_by), when(i.created_at), when(i.expires_at), may("members:delete")
  && acts(dangerous("Withdraw", `Withdraw the invitation of ${i.email}? Its link works no longer.`, async () => {
    await remove(`/invitations/${i.id}`);
    toast("Withdrawn.");
    await view.refresh?.();
  }))];

async function invite() {
  const made = await asked("Invite a person", [
    entry("email", "E-mail", { type: "email", required: true, autocomplete: "off" }),
    entry("role", "Role", { kind: "choice", options: givableRoles(), value: "member" })], "Invite",
  (given) => post("/invitations", given));
  if (!made) return;
  await view.refresh?.();
  await shownOnce(`Invitation of ${made.email}`, "Hand this link to the person. It works once, for seven days, and is not "
    + "shown again.", made.link, "Link");
}
