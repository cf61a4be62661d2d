// The editor of one file: the YAML text is the truth, the form beside it shows it and changes it.
import { Check, keyOf } from "./check.js";
import { EXPERIMENT_ORDER, experimentForm } from "./experiment.js";
import { Source } from "./source.js";
import { SUITE_ORDER, suiteForm } from "./suite.js";
import { summary } from "./summary.js";
import { TARGET_ORDER, targetForm } from "./target.js";
import { TextPane } from "./text.js";
import { h, render } from "./view.js";

const FORMS = {
  experiment: [experimentForm, EXPERIMENT_ORDER],
  suite: [suiteForm, SUITE_ORDER],
  target: [targetForm, TARGET_ORDER],
};

const form = document.getElementById("file-editor");
const area = document.getElementById("source");
const root = document.getElementById("fields");
const [sections, order] = FORMS[form.dataset.kind];

const source = new Source(area.value, order);
const saved = form.dataset.saved === "yes" ? area.value : null;
let leaving = false;
let toFocus = [];

const pane = new TextPane(area, document.getElementById("gutter"), (travelled) => {
  source.read(area.value);
  draw(travelled);
  check.soon(area.value);
});

const ctx = {
  source,
  known: { targets: [], experiments: [], scenarios: [], faults: [] },
  agents: [],
  problems: new Map(),
  claimed: new Set(),
  ui: {},
  result: null,
  draw: () => draw(false),
  // Changes the source and shows it everywhere. Changes with one tag are undone together.
  edit(change, tag) {
    if (source.broken) return;
    change();
    pane.show(source.text, tag);
    draw(false);
    check.soon(source.text);
  },
  settle: () => pane.settle(),
  say: (text) => {
    document.getElementById("said").textContent = text;
  },
  // Puts the focus on the first of these that is there and can take it.
  focus(...ids) {
    toFocus = ids;
    takeFocus();
  },
  jump: (line) => pane.jump(line),
  kindOf: (kind) => ctx.known.faults.find((known) => known.kind === kind),
  // The target that the file means, as declared; null when it is not known.
  target() {
    const value = source.get(["target"]);
    if (value !== null && typeof value === "object") return value;
    return ctx.known.targets.find((target) => target.name === value) ?? null;
  },
  commands: () => ctx.agents.flatMap((agent) => agent.commands ?? []),
  labels: () => [...new Set(ctx.agents.flatMap((agent) => agent.labels ?? []))],
};

const check = new Check(form.dataset.kind, (told) => {
  ctx.result = told;
  ctx.problems = new Map();
  for (const problem of told.problems ?? []) {
    const key = keyOf(problem);
    ctx.problems.set(key, [...(ctx.problems.get(key) ?? []), problem]);
  }
  draw(false);
});

function draw(force) {
  ctx.claimed = new Set();
  const broken = source.broken
    ? h("div", { class: "notice warn", key: "broken", id: "broken" }, h("h2", null, "The form waits for the YAML"), h("p", null, `Line ${source.broken.line}: ${source.broken.message}. Mend it in the text; the form shows what it said before.`))
    : null;
  render(root, [broken, h("fieldset", { class: "stack sections", key: "sections", disabled: Boolean(source.broken) }, sections(ctx))], force);
  render(document.getElementById("result"), summary(ctx, source));
  pane.mark([...(ctx.result?.problems ?? []).map((problem) => problem.line), ...(source.broken ? [source.broken.line] : [])]);
  document.getElementById("unsaved").hidden = area.value === saved;
  takeFocus();
}

function takeFocus() {
  for (const id of toFocus) {
    const element = document.getElementById(id);
    if (element && !element.disabled) {
      toFocus = [];
      element.focus();
      return;
    }
  }
}

async function fetchJson(path) {
  const answer = await fetch(`/api/v1${path}`);
  return answer.ok ? answer.json() : null;
}

async function learn() {
  const [known, agents] = await Promise.all([
    fetchJson("/surroundings").catch(() => null),
    form.dataset.kind === "suite" ? fetchJson("/agents").catch(() => null) : null,
  ]);
  if (known) ctx.known = known;
  if (Array.isArray(agents)) ctx.agents = agents;
  draw(false);
  document.body.dataset.editor = "ready";
}

// From a problem to its field or its line.
document.addEventListener("click", (event) => {
  const link = event.target.closest("[data-line]");
  if (!link) return;
  event.preventDefault();
  const field = link.dataset.field && document.getElementById(link.dataset.field);
  if (!field) return pane.jump(Number(link.dataset.line));
  for (let at = field; at; at = at.parentElement) if (at.tagName === "DETAILS") at.open = true;
  setView(view() === "yaml" ? "both" : view());
  field.scrollIntoView({ block: "center" });
  field.focus({ preventScroll: true });
});

// Form, YAML or both.
function view() {
  return form.dataset.view;
}

function setView(wish) {
  form.dataset.view = wish;
  for (const choice of document.querySelectorAll("[data-show]")) choice.setAttribute("aria-pressed", String(choice.dataset.show === wish));
  try {
    localStorage.setItem("kennel-editor-view", wish);
  } catch {
    // Storage may be forbidden; the choice then lasts as long as the page.
  }
}

for (const choice of document.querySelectorAll("[data-show]")) choice.addEventListener("click", () => setView(choice.dataset.show));
document.getElementById("undo").addEventListener("click", () => pane.travel(true));
document.getElementById("redo").addEventListener("click", () => pane.travel(false));
document.getElementById("open-file")?.addEventListener("change", async (event) => {
  const [file] = event.target.files;
  if (!file) return;
  const text = (await file.text()).replace(/^\ufeff/, "").replaceAll("\r\n", "\n");
  pane.show(text, null);
  source.read(text);
  draw(true);
  check.now(text);
  ctx.say(`${file.name} is opened; it is not saved yet`);
});

form.addEventListener("submit", () => (leaving = true));
addEventListener("pageshow", () => (leaving = false));
addEventListener("beforeunload", (event) => {
  if (!leaving && area.value !== saved && area.value.trim() !== "" && navigator.userActivation?.hasBeenActive !== false) event.preventDefault();
});
// Enter in a field of the form must not save by accident.
root.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && event.target.tagName === "INPUT" && event.target.type !== "checkbox") event.preventDefault();
});

let remembered = null;
try {
  remembered = localStorage.getItem("kennel-editor-view");
} catch {
  // Storage may be forbidden.
}
setView(["form", "yaml", "both"].includes(remembered) ? remembered : "both");
root.hidden = false;
for (const element of document.querySelectorAll("[data-scripted]")) element.hidden = false;
draw(false);
check.now(area.value);
learn();

