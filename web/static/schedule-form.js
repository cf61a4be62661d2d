// The form of a schedule: presets without a round trip, and what the expression comes to while it is typed.
import { showTimes } from "./times.js";

const form = document.getElementById("schedule-form");
const [cron, zone, preview] = ["cron", "zone", "preview"].map((id) => document.getElementById(id));

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [attribute, value] of Object.entries(attributes)) made.setAttribute(attribute, value);
  return made;
}

function show(answer) {
  const words = element("p", "", { class: "preview-words" });
  words.append(element("strong", answer.words));
  const dues = element("ol", "", { class: "dues" });
  for (const due of answer.next) {
    const yours = element("span", "yours: ", { class: "muted small" });
    yours.append(element("time", due.due_at, { datetime: due.due_at }));
    const item = element("li", "");
    item.append(element("span", due.local, { class: "mono" }), " ", yours);
    if (due.note) item.append(" ", element("span", due.note, { class: "muted small" }));
    dues.append(item);
  }
  preview.replaceChildren(words, dues);
  if (answer.clock_changes.length > 0) {
    const changes = element("ul", "", { class: "clock-changes" });
    changes.append(...answer.clock_changes.map((change) => element("li", change)));
    preview.append(changes);
  }
  showTimes(preview);
}

function problem(field, message) {
  const input = document.getElementById(field);
  input?.setAttribute("aria-invalid", "true");
  preview.replaceChildren(element("p", message, { class: "error" }));
}

let asked = 0;
async function ask() {
  const mine = ++asked;
  const query = new URLSearchParams({ cron: cron.value, zone: zone.value || "UTC" });
  let answer;
  try {
    answer = await fetch(`/api/v1/schedule-preview?${query}`);
  } catch {
    return; // The server is away; what it said last stays.
  }
  const body = await answer.json().catch(() => null);
  if (mine !== asked || !body) return;
  for (const input of [cron, zone]) {
    input.removeAttribute("aria-invalid");
    document.getElementById(`${input.id}-error`)?.remove();
  }
  if (answer.ok) show(body);
  else problem(body.error?.startsWith("zone") ? "zone" : "cron", body.problems?.[0]?.message ?? body.error);
}

let pause;
for (const input of [cron, zone]) {
  input.addEventListener("input", () => {
    clearTimeout(pause);
    pause = setTimeout(ask, 250);
  });
}
for (const button of form.querySelectorAll("button[name=preset]")) {
  button.addEventListener("click", (event) => {
    event.preventDefault();
    cron.value = button.value;
    ask();
  });
}
// A name that was not touched follows what runs.
const [subject, name] = ["subject", "name"].map((id) => document.getElementById(id));
let follows = name.value === "";
name.addEventListener("input", () => (follows = name.value === ""));
subject.addEventListener("change", () => {
  if (follows && subject.value) name.value = `${subject.selectedOptions[0].textContent}, scheduled`;
});
// The viewer's zone may just have been filled in.
if (zone.value !== zone.defaultValue) ask();
