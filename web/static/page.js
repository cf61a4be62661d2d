// What every page does: the viewer's time zone, the theme button, buttons that copy.
import { showTimes } from "./times.js";

showTimes(document);
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

document.addEventListener("click", async (event) => {
  const copy = event.target.closest("[data-copy]");
  if (!copy) return;
  const text = document.getElementById(copy.dataset.copy).textContent;
  try {
    await navigator.clipboard.writeText(text);
    copy.textContent = "Copied";
  } catch {
    copy.textContent = "Select and copy by hand";
  }
});
