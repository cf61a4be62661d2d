// Follows a suite's run over server-sent events: takes over the sections that the server renders when a step changes,
// and appends to the logs of steps that are under way. Also finds text in a log.
import { csrf } from "./csrf.js";

const page = document.getElementById("suite-run");
const api = `/api/v1/suite-runs/${page.dataset.runId}`;
const SECTIONS_EVERY_MS = 400;
const LOGS_EVERY_MS = 250;
// What a log may hold in the page; older lines are in the whole log.
const LONGEST_SHOWN = 400_000;

// Colours and other orders to a terminal (ECMA-48) are not text.
function plain(text) {
  return text.replace(/\u001b\[[\d;?]*[ -/]*[@-~]|\u001b\][^\u0007\u001b]*(\u0007|\u001b\\)?|\u001b./g, "").replace(/\r\n/g, "\n").replace(/[^\n\r]*\r(?!\n)/g, "").replace(/[\u0000-\u0008\u000b-\u001f\u007f]/g, "");
}

const decoders = new WeakMap();
const asked = new WeakMap();

// Appends what a log has grown by, once at a time.
async function grow(log) {
  if (asked.get(log)) {
    asked.set(log, "again");
    return;
  }
  asked.set(log, "once");
  const { path, attempt, end } = log.dataset;
  try {
    const answer = await fetch(`${api}/log?path=${encodeURIComponent(path)}&attempt=${attempt}&from=${end}`);
    if (answer.ok) {
      const bytes = new Uint8Array(await answer.arrayBuffer());
      if (!decoders.has(log)) decoders.set(log, new TextDecoder());
      const text = plain(decoders.get(log).decode(bytes, { stream: true }));
      log.dataset.end = String(Number(end) + bytes.length);
      if (text) {
        const follows = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
        log.append(text);
        if (log.textContent.length > LONGEST_SHOWN) log.textContent = `… the beginning is in the whole log\n${log.textContent.slice(-LONGEST_SHOWN / 2)}`;
        if (follows) log.scrollTop = log.scrollHeight;
        log.dispatchEvent(new CustomEvent("kennel:grown", { bubbles: true }));
      }
    }
  } catch {
    // The next event tries again.
  }
  setTimeout(() => {
    const again = asked.get(log) === "again";
    asked.delete(log);
    if (again) grow(log);
  }, LOGS_EVERY_MS);
}

function logOf(path, attempt) {
  return [...document.querySelectorAll("pre[data-path]")].find((log) => log.dataset.path === path && log.dataset.attempt === String(attempt));
}

function showEnds(root) {
  for (const log of root.querySelectorAll("pre.log:not(.whole)")) log.scrollTop = log.scrollHeight;
}

// Takes over each section from a fresh copy of this page. Logs under way stay: they are grown piece by piece.
async function replaceSections() {
  const answer = await fetch(location.href, { headers: { accept: "text/html" } });
  if (!answer.ok) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-section]")) {
    const section = fresh.getElementById(old.id);
    if (!section || section.outerHTML === old.dataset.was) continue;
    const was = section.outerHTML;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
    const known = new Map([...old.querySelectorAll("details[id]")].map((details) => [details.id, details]));
    for (const details of section.querySelectorAll("details[id]")) {
      const before = known.get(details.id);
      // What somebody opened stays open; what the server opens (a failure) opens.
      if (before?.open && before.dataset.touched) details.open = true;
      if (before && !before.open && before.dataset.touched) details.open = false;
      if (before?.dataset.touched) details.dataset.touched = "true";
    }
    const adopted = document.adoptNode(section);
    for (const log of adopted.querySelectorAll("pre[data-live][id]")) {
      const before = old.querySelector(`#${CSS.escape(log.id)}`);
      if (before) log.replaceWith(before);
    }
    const scrolled = new Map([...old.querySelectorAll("pre.log[id]")].map((log) => [log.id, log.scrollTop]));
    old.replaceWith(adopted);
    adopted.dataset.was = was;
    for (const log of adopted.querySelectorAll("pre.log[id]")) log.scrollTop = scrolled.get(log.id) ?? log.scrollHeight;
    if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
    adopted.dispatchEvent(new CustomEvent("kennel:replaced", { bubbles: true }));
  }
  document.title = fresh.title;
}

let due = false;
let busy = false;
async function refresh() {
  if (busy) {
    due = true;
    return;
  }
  busy = true;
  const began = performance.now();
  try {
    if ("logPage" in page.dataset === false) await replaceSections();
  } catch {
    // The next event tries again.
  }
  // Never more than a fifth of the time, so that a slow server can breathe.
  setTimeout(() => {
    busy = false;
    if (due) {
      due = false;
      refresh();
    }
  }, Math.max(SECTIONS_EVERY_MS, (performance.now() - began) * 4));
}

function follow() {
  const source = new EventSource(`${api}/live`);
  let broken = false;
  source.addEventListener("open", () => {
    if (broken) refresh();
    broken = false;
    for (const log of document.querySelectorAll("pre[data-live]")) grow(log);
  });
  source.addEventListener("error", () => (broken = true));
  source.addEventListener("message", (message) => {
    const event = JSON.parse(message.data);
    if (event.event === "log") {
      const log = logOf(event.path, event.attempt);
      if (log) grow(log);
      return;
    }
    if (event.event === "step" && event.step.state === "ended" && event.step.outcome !== "passed") {
      const said = document.getElementById("said");
      if (said) said.textContent = `${event.step.name}: ${event.step.outcome}`;
    }
    if (event.event === "run" && event.run.state === "ended") {
      source.close();
      for (const log of document.querySelectorAll("pre[data-live]")) {
        grow(log);
        delete log.dataset.live;
      }
    }
    refresh();
  });
}

document.addEventListener("click", (event) => {
  const details = event.target.closest("summary")?.parentElement;
  if (details) details.dataset.touched = "true";
});

// One click cancels, without leaving the page.
document.addEventListener("submit", async (event) => {
  const form = event.target.closest("#cancel-form");
  if (!form) return;
  event.preventDefault();
  const button = form.querySelector("button");
  button.disabled = true;
  button.textContent = "Cancelling…";
  try {
    const answer = await fetch(`${api}/cancel`, { method: "POST", headers: csrf() });
    if (!answer.ok && answer.status !== 409) throw new Error(String(answer.status));
  } catch {
    button.disabled = false;
    button.textContent = "Not cancelled: try again";
  }
});

// Shows only the lines of a log that hold what is looked for.
const find = document.getElementById("find");
if (find) {
  const log = document.getElementById("log");
  let whole = log.textContent;
  const show = () => {
    const text = find.value.toLowerCase();
    const lines = whole.split("\n");
    const fit = text ? lines.filter((line) => line.toLowerCase().includes(text)) : lines;
    log.textContent = fit.join("\n");
    document.getElementById("found").textContent = text ? `${fit.length} of ${lines.length} lines` : "";
  };
  log.addEventListener("kennel:grown", () => {
    if (!find.value) whole = log.textContent;
  });
  find.addEventListener("input", show);
}

showEnds(document);
if (page.dataset.follow === "true") follow();
