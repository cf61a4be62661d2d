// Parts that keep themselves fresh: <section id="x" data-fresh="3"> is replaced by the server's own rendering of it,
// every 3 seconds, when that changed. What the reader does in it stays: focus, open details, scrolling, typing.

function isBusy(section) {
  const active = document.activeElement;
  if (section.contains(active) && active.matches("input:not([type=checkbox], [type=radio]), textarea, select")) return true;
  return section.querySelector("dialog[open], details.confirm[open]") !== null;
}

const FOCUSABLE = "a[href], button, input, select, textarea, summary, [tabindex]";

function replace(old, fresh) {
  const open = new Map([...old.querySelectorAll("details[id]")].map((details) => [details.id, details.open]));
  const scrolled = [...old.querySelectorAll(".scroll, [data-scrolls]")].map((element) => [element.scrollLeft, element.scrollTop]);
  const checked = new Map([...old.querySelectorAll("input[type=checkbox][id]")].map((box) => [box.id, box.checked]));
  const focused = old.contains(document.activeElement) ? document.activeElement : null;
  const place = focused ? [...old.querySelectorAll(FOCUSABLE)].indexOf(focused) : -1;
  const section = document.adoptNode(fresh);
  old.replaceWith(section);
  for (const [id, is] of open) {
    const details = section.querySelector(`#${CSS.escape(id)}`);
    if (details) details.open = is;
  }
  for (const [id, is] of checked) {
    const box = section.querySelector(`#${CSS.escape(id)}`);
    if (box) box.checked = is;
  }
  section.querySelectorAll(".scroll, [data-scrolls]").forEach((element, index) => {
    if (scrolled[index]) [element.scrollLeft, element.scrollTop] = scrolled[index];
  });
  if (focused) {
    const same = focused.id ? document.getElementById(focused.id) : focused.href && [...section.querySelectorAll("a[href]")].find((link) => link.href === focused.href);
    (same || section.querySelectorAll(FOCUSABLE)[place])?.focus({ preventScroll: true });
  }
  section.dispatchEvent(new CustomEvent("kennel:replaced", { bubbles: true }));
}

const shown = new Map();

async function refresh() {
  const sections = [...document.querySelectorAll("[data-fresh][id]")];
  if (sections.length === 0) return null;
  if (!document.hidden) {
    try {
      const answer = await fetch(location.href, { headers: { accept: "text/html" } });
      if (answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        for (const section of sections) {
          const fresh = page.getElementById(section.id);
          if (!fresh || !section.isConnected || isBusy(section)) continue;
          // How long ago something was is no change.
          const text = fresh.outerHTML.replace(/(<time[^>]* data-relative[^>]*>)[^<]*/g, "$1");
          if (shown.get(section.id) === text) continue;
          shown.set(section.id, text);
          replace(section, fresh);
        }
      }
    } catch {
      // The next round tries again.
    }
  }
  return Math.min(...sections.map((section) => Number(section.dataset.fresh) || 3));
}

// Never more than a fifth of the time, so that a slow server can breathe.
export async function keepFresh() {
  const first = document.querySelector("[data-fresh][id]");
  if (!first) return;
  let wait = (Number(first.dataset.fresh) || 3) * 1000;
  const round = async () => {
    const began = performance.now();
    const every = await refresh();
    if (every === null) return;
    wait = Math.max(every * 1000, (performance.now() - began) * 4);
    setTimeout(round, wait);
  };
  setTimeout(round, wait);
}
