// Objectives, guards, steady state and audits: rows with a builder of metric, request, comparison, value and phase,
// beside the free text that it writes.
import { add, button, errorsOf, idOf, itemButtons, problemsAt, section } from "./fields.js";
import { h } from "./view.js";

const METRICS = [
  ["p50", "median (p50)"], ["p90", "p90"], ["p95", "p95"], ["p99", "p99"], ["p99.9", "p99.9"],
  ["max", "longest"], ["mean", "mean"], ["error_rate", "error rate"], ["rate", "requests a second"], ["dropped", "dropped arrivals"],
];
const COMPARISONS = [["<", "below"], ["<=", "at most"], [">", "above"], [">=", "at least"]];
const PHASES = ["warm-up", "steady", "fault", "recovery"];
const EXAMPLES = { error_rate: "1%", rate: "50/s", dropped: "0" };

const LISTS = {
  objectives: {
    title: "Objectives", item: "objective", example: "p99 < 500ms", scope: true,
    hint: "What must hold for the run to pass.",
  },
  steady_state: {
    title: "Steady state", item: "condition", example: "error_rate < 1%",
    hint: "What must hold before the first fault and again after the last: without it the run says nothing.",
  },
  guards: {
    title: "Guards", item: "guard", example: "error_rate < 50% over 5s", window: true,
    hint: "Watched live: a breach halts the run and reverts every fault.",
  },
};

// The parts of an objective, or null when it is written in a way that the builder has no fields for.
export function parts(text) {
  const found = /^\s*(p[0-9.]+|max|mean|error_rate|rate|dropped)\s*(?:\(\s*(.+?)\s*\)\s*)?(<=|>=|<|>)\s*([^\s].*?)(?:\s+during\s+(.+?))?(?:\s+over\s+([0-9.a-zµ ]+))?\s*$/.exec(String(text ?? ""));
  if (!found) return null;
  const [, metric, request, comparison, value, scope, window] = found;
  return { metric, request: request ?? "", comparison, value, scope: scope ?? "", window: window ?? "" };
}

export function written({ metric, request, comparison, value, scope, window }) {
  return `${metric}${request ? `(${request})` : ""} ${comparison} ${value}${scope ? ` during ${scope}` : ""}${window ? ` over ${window}` : ""}`;
}

export function objectivesSections(ctx) {
  return [
    section(ctx, "objectives", "What must hold", ["objectives", "steady_state", "guards"], Object.keys(LISTS).map((list) => rows(ctx, list))),
    audits(ctx),
  ];
}

function rows(ctx, list) {
  const { title, item, example, hint } = LISTS[list];
  const found = ctx.source.get([list]);
  const values = Array.isArray(found) ? found : [];
  return h("fieldset", { class: "rows wide", key: list, id: idOf([list]), tabindex: "-1" },
    h("legend", null, title),
    h("span", { class: "hint" }, hint),
    errorsOf(problemsAt(ctx, [list]), idOf([list])),
    h("ol", { class: "lines" }, values.map((text, at) => row(ctx, list, text, at, values.length))),
    button(`Add ${item}`, () => add(ctx, [list], example, values.length), { glyph: "+", id: `${idOf([list])}-add`, class: "quiet" }));
}

function requests(ctx) {
  const scenarios = ctx.source.get(["scenarios"]);
  const names = (Array.isArray(scenarios) ? scenarios : []).flatMap((scenario) => {
    const builtin = ctx.known.scenarios.find((known) => known.name === scenario?.builtin);
    return builtin ? builtin.requests : (Array.isArray(scenario?.steps) ? scenario.steps : []).map((step) => String(step?.name ?? ""));
  });
  return [...new Set(names.filter(Boolean))];
}

function row(ctx, list, text, at, count) {
  const { item, scope, window } = LISTS[list];
  const path = [list, at];
  const id = idOf(path);
  const problems = problemsAt(ctx, path);
  const read = parts(text);
  const name = `${item} ${at + 1}`;
  const change = (changes) => {
    const next = { ...(read ?? parts(LISTS[list].example)), ...changes };
    if (changes.metric && kindOf(changes.metric) !== kindOf(read?.metric ?? "")) next.value = EXAMPLES[changes.metric] ?? "500ms";
    if (changes.metric === "dropped") next.request = "";
    ctx.edit(() => ctx.source.set(path, written(next)), `${id}-built`);
  };
  const faults = ctx.source.get(["faults"]);
  const faultNames = (Array.isArray(faults) ? faults : []).map((fault) => String(fault?.name ?? "")).filter(Boolean);
  const some = (label, value, choices, field, absent) => select(`${label} of ${name}`, value, choices, absent, (chosen) => change({ [field]: chosen }));
  return h("li", { key: at, class: "objective" },
    h("div", { class: "builder", role: "group", "aria-label": `builder of ${name}` },
      read
        ? [
            some("metric", read.metric, METRICS, "metric"),
            read.metric === "dropped" ? null : some("request", read.request, requests(ctx), "request", "all requests"),
            some("comparison", read.comparison, COMPARISONS, "comparison"),
            h("input", { key: "value", type: "text", class: "narrow", "aria-label": `value of ${name}`, value: read.value, id: `${id}-value`,
              on: { input: (event) => change({ value: event.target.value.trim() || "0" }) } }),
            scope ? some("phase", read.scope, [...PHASES, ...faultNames], "scope", "the whole run") : null,
            window ? h("input", { key: "window", type: "text", class: "narrow", "aria-label": `window of ${name}`, placeholder: "5s", value: read.window,
              on: { input: (event) => change({ window: event.target.value.trim() }) } }) : null,
          ]
        : h("span", { class: "muted small" }, "Written freely: the builder cannot show it")),
    h("div", { class: "field unlabelled" },
      h("label", { for: id }, `text of ${name}`),
      h("input", { id, type: "text", class: "mono", value: String(text ?? ""), "aria-invalid": problems.length > 0 ? "true" : undefined,
        "aria-describedby": problems.length > 0 ? `${id}-error` : undefined,
        on: { input: (event) => ctx.edit(() => ctx.source.set(path, event.target.value), path.join("/")) } }),
      errorsOf(problems, id)),
    itemButtons(ctx, [list], at, count, name));
}

function kindOf(metric) {
  return metric in EXAMPLES ? metric : "time";
}

function select(label, value, choices, absent, chosen) {
  const all = choices.map((choice) => (Array.isArray(choice) ? choice : [choice, choice]));
  if (absent !== undefined) all.unshift(["", absent]);
  if (!all.some(([known]) => known === value)) all.push([value, value]);
  return h("select", { key: label, "aria-label": label, value, on: { change: (event) => chosen(event.target.value) } },
    all.map(([known, text]) => h("option", { key: known, value: known }, text)));
}

function audits(ctx) {
  const found = ctx.source.get(["audits"]);
  const asked = Array.isArray(found) ? found.map(String) : [];
  const offered = ctx.target()?.audits;
  const known = (Array.isArray(offered) ? offered : []).map((audit) => audit.name);
  const names = [...new Set([...known, ...asked])];
  const tick = (name, on) => ctx.edit(() => {
    if (on) ctx.source.insert(["audits"], name);
    else ctx.source.remove(["audits", asked.indexOf(name)]);
  }, null);
  return section(ctx, "audits", "Audits", ["audits"],
    names.length === 0
      ? h("p", { class: "muted", id: "f-audits", tabindex: "-1" }, "The target offers no audit.")
      : h("div", { class: "ticks-row", id: "f-audits", tabindex: "-1" }, names.map((name) =>
          h("div", { class: "field", key: name },
            h("label", { class: "check" }, h("input", { type: "checkbox", checked: asked.includes(name), on: { change: (event) => tick(name, event.target.checked) } }),
              name, known.includes(name) ? null : h("span", { class: "muted" }, " (not offered)")),
            asked.includes(name) ? errorsOf(problemsAt(ctx, ["audits", asked.indexOf(name)]), idOf(["audits", asked.indexOf(name)])) : null))),
    { hint: "Checks of the target's own books after it has gone quiet." });
}
