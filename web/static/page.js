// What every page does: the viewer's time zone, the theme button, shortcuts, dialogs, fresh parts, buttons that copy.
import "./keys.js";
import { keepFresh } from "./fresh.js";
import { nameZone, showTimes } from "./times.js";

showTimes(document);
nameZone(document.getElementById("zone"));
keepFresh();
setInterval(() => showTimes(document), 15_000);
document.addEventListener("kennel:replaced", (event) => showTimes(event.target));

const dark = matchMedia("(prefers-color-scheme: dark)");
const button = document.getElementById("theme");

function theme() {
  return document.documentElement.dataset.theme ?? (dark.matches ? "dark" : "light");
}

function announce() {
  const other = theme() === "dark" ? "light" : "dark";
  button.setAttribute("aria-label", `Use the ${other} theme`);
  button.title = button.getAttribute("aria-label");
  document.dispatchEvent(new CustomEvent("kennel:theme"));
}

button.hidden = false;
button.addEventListener("click", () => {
  const chosen = theme() === "dark" ? "light" : "dark";
  document.documentElement.dataset.theme = chosen;
  try {
    localStorage.setItem("kennel-theme", chosen);
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
  announce();
});
dark.addEventListener("change", announce);
announce();

// Paper is light: charts are drawn anew for it.
let before;
addEventListener("beforeprint", () => {
  before = document.documentElement.dataset.theme;
  document.documentElement.dataset.theme = "light";
  document.dispatchEvent(new CustomEvent("kennel:theme"));
});
addEventListener("afterprint", () => {
  if (before) document.documentElement.dataset.theme = before;
  else delete document.documentElement.dataset.theme;
  document.dispatchEvent(new CustomEvent("kennel:theme"));
});

function showWhatNeedsScript(root) {
  for (const element of root.querySelectorAll("[data-needs-script], [data-copy], [data-opens], [data-print]")) element.hidden = false;
}
showWhatNeedsScript(document);
document.addEventListener("kennel:replaced", (event) => showWhatNeedsScript(event.target));

// What opens closes again: by Escape, and by a click elsewhere.
function closeOthers(target) {
  for (const details of document.querySelectorAll("details.menu[open], details.confirm[open]")) {
    if (!details.contains(target)) details.open = false;
  }
}
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  const details = document.activeElement?.closest("details.menu[open], details.confirm[open]");
  if (details) {
    details.open = false;
    details.querySelector("summary").focus();
  }
});

document.addEventListener("click", async (event) => {
  closeOthers(event.target);
  const opener = event.target.closest("[data-opens]");
  const dialog = opener && document.getElementById(opener.dataset.opens);
  if (dialog?.showModal && !event.ctrlKey && !event.metaKey && !event.shiftKey) {
    event.preventDefault();
    dialog.showModal();
    return;
  }
  if (event.target.closest("[data-print]")) {
    print();
    return;
  }
  const copy = event.target.closest("[data-copy]");
  if (!copy) return;
  const text = copy.dataset.copy ? document.getElementById(copy.dataset.copy).textContent : copy.parentElement.querySelector("pre").textContent;
  try {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
  } catch {
    copy.textContent = "Select and copy by hand";
  }
});
