// Follows a live run over server-sent events: feeds the charts and keeps the rest of the page fresh by taking over
// the sections that the server renders, so that each table is written in one place only.
import { csrf } from "./csrf.js";
import { duration } from "./numbers.js";

const REFRESH_EVERY_MS = 5000;
const GLYPHS = { true: ["met", "✓", "met"], false: ["missed", "✕", "missed"], null: ["", "–", "not measured"] };

export function follow({ api, addSeconds, setFault, setPhase, measured, load }) {
  const source = new EventSource(`${api}/live`);
  let state = document.getElementById("state").dataset.state;
  let broken = false;
  let over = false;
  let timer = null;
  let due = Infinity;
  let refreshing = false;

  // Sections are refreshed one after another, never more than a fifth of the time, so that a slow server can breathe.
  function refreshWithin(delay) {
    const at = performance.now() + delay;
    if (over || at >= due) return;
    clearTimeout(timer);
    due = at;
    timer = setTimeout(refresh, delay);
  }
  async function refresh() {
    if (refreshing) return;
    refreshing = true;
    due = Infinity;
    const began = performance.now();
    if (!document.hidden) await replaceSections();
    refreshing = false;
    const took = performance.now() - began;
    const wait = Math.max(took * 4, due === Infinity ? REFRESH_EVERY_MS : 50);
    due = Infinity;
    refreshWithin(wait);
  }
  refreshWithin(REFRESH_EVERY_MS);

  async function finish() {
    source.close();
    over = true;
    clearTimeout(timer);
    await replaceSections();
    await load();
  }

  source.addEventListener("open", () => {
    if (broken) load();
    broken = false;
    connection("");
  });
  source.addEventListener("error", () => {
    broken = true;
    connection("Connection lost, trying again…");
  });
  source.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    switch (event.event) {
      case "second":
        setPhase(state, 1 + Math.max(0, ...Object.values(event.seconds).map((second) => second.second)));
        addSeconds(event.seconds);
        showProgress(measured());
        break;
      case "state":
        state = event.run.state;
        if (state === "judged") finish();
        else refreshWithin(50);
        break;
      case "fault":
        setFault(event.fault);
        refreshWithin(50);
        break;
      case "guard":
        showGuard(event.guard);
        break;
      case "warning":
        refreshWithin(50);
        break;
    }
  });

  // What the server rendered may be older than what the stream told since.
  document.addEventListener("kennel:replaced", () => showProgress(measured()));
  haltInPlace();
}

function connection(text) {
  const place = document.getElementById("connection");
  if (place) place.textContent = text;
}

function showProgress(seconds) {
  const bar = document.getElementById("progress");
  if (!bar || seconds === 0) return;
  bar.value = Math.min(seconds, bar.max);
  const [done, planned] = [duration(bar.value), duration(bar.max)];
  document.getElementById("progress-text").textContent = `${done} of ${planned}`;
  document.getElementById("load-length").textContent = seconds + 1 >= bar.max ? planned : `${done} of ${planned}`;
}

function showGuard(guard) {
  const row = [...document.querySelectorAll("[data-guard]")].find((row) => row.dataset.guard === guard.objective);
  if (!row) return;
  const [kind, glyph, word] = GLYPHS[String(guard.met ?? null)];
  const badge = row.querySelector(".badge");
  badge.className = `badge ${kind}`;
  badge.querySelector(".glyph").textContent = glyph;
  badge.querySelector(".word").textContent = word;
  row.querySelector(".measured").textContent = guard.measured ?? "–";
}

// Takes over each section marked data-section from a fresh copy of this page; open details and focus stay.
async function replaceSections() {
  let fresh;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  } catch {
    return; // The next refresh tries again; the stream tells of a lost connection.
  }
  for (const old of document.querySelectorAll("[data-section]")) {
    const section = fresh.getElementById(old.id);
    if (!section || section.outerHTML === old.dataset.was) continue;
    const was = section.outerHTML;
    const halting = old.querySelector("#halt:disabled");
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    for (const details of old.querySelectorAll("details[id][open]")) {
      section.querySelector(`#${CSS.escape(details.id)}`)?.setAttribute("open", "");
    }
    const adopted = document.adoptNode(section);
    old.replaceWith(adopted);
    adopted.dataset.was = was;
    if (halting && adopted.querySelector("#halt")) showHalting(adopted.querySelector("#halt"));
    if (focused) document.getElementById(focused)?.focus();
    adopted.dispatchEvent(new CustomEvent("kennel:replaced", { bubbles: true }));
  }
  document.title = fresh.title;
}

function showHalting(button) {
  button.disabled = true;
  button.textContent = "Halting…";
}

// One click halts, without leaving the page.
function haltInPlace() {
  document.addEventListener("submit", async (event) => {
    const form = event.target.closest("#halt-form");
    if (!form) return;
    event.preventDefault();
    const button = form.querySelector("#halt");
    showHalting(button);
    try {
      const answer = await fetch(form.getAttribute("action"), { method: "POST", headers: csrf() });
      if (!answer.ok) throw new Error(String(answer.status));
    } catch {
      button.disabled = false;
      button.textContent = "Halt failed: try again";
    }
  });
}
