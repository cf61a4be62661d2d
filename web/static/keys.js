// Shortcuts of one letter, which can be switched off (WCAG 2.1.4): help, search, places, walking through lists.

const STORED = "kennel-shortcuts";
const AFTER_G_MS = 1500;
let on = true;
try {
  on = localStorage.getItem(STORED) !== "off";
} catch {
  // Storage may be forbidden; the shortcuts are then on.
}

const choice = document.getElementById("shortcuts-on");
choice.checked = on;
choice.addEventListener("change", () => {
  on = choice.checked;
  try {
    localStorage.setItem(STORED, on ? "on" : "off");
  } catch {
    // The choice then lasts as long as the page.
  }
});

function isTyping(element) {
  return element.closest("input:not([type=checkbox], [type=radio]), textarea, select, [contenteditable], [role=slider], [role=grid], [role=application]") !== null;
}

// The first link of each row, by which a list is walked through.
function rows() {
  const found = [...document.querySelectorAll("main tbody tr, main [data-rows] > *")].map((row) => row.querySelector("th a[href], a[href]"));
  return found.filter((link) => link && link.checkVisibility());
}

function walk(by) {
  const links = rows();
  if (links.length === 0) return;
  const row = document.activeElement.closest("tr, [data-rows] > *");
  const here = links.findIndex((link) => link === document.activeElement || (row && row.contains(link)));
  const next = here < 0 ? (by > 0 ? 0 : links.length - 1) : Math.min(links.length - 1, Math.max(0, here + by));
  links[next].focus();
  links[next].scrollIntoView({ block: "nearest" });
}

let afterG = 0;
document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  // Switched off, they are switched on again by the button at the foot of the page.
  if (!on || document.querySelector("dialog[open]")) return;
  if (event.timeStamp < afterG) {
    afterG = 0;
    const place = document.querySelector(`[data-goto="${CSS.escape(event.key)}"]`);
    if (place) {
      event.preventDefault();
      location.assign(place.href);
    }
    return;
  }
  switch (event.key) {
    case "?":
      document.getElementById("shortcuts").showModal();
      break;
    case "/": {
      const search = document.querySelector("main input[type=search], main [data-search]");
      if (!search) return;
      search.focus();
      search.select?.();
      break;
    }
    case "g":
      afterG = event.timeStamp + AFTER_G_MS;
      return;
    case "j":
      walk(1);
      break;
    case "k":
      walk(-1);
      break;
    default:
      return;
  }
  event.preventDefault();
});
