// What Kennel says about the text as it stands, on top of the page, with a way to each field and line.
import { keyOf } from "./check.js";
import { idOf } from "./fields.js";
import { duration } from "./units.js";
import { h } from "./view.js";

export function summary(ctx, source) {
  const told = ctx.result;
  if (!told) return h("p", { class: "muted" }, "Checking …");
  if (told.failed) return h("div", { class: "notice warn", id: "unchecked" }, h("p", null, told.failed));
  if (told.valid) {
    const { kind, name, target, planned_s: planned } = told.valid;
    const what = {
      experiment: `“${name}” runs for ${duration(planned)} against ${target}.`,
      target: `“${name}” can be saved and used by experiments and suites.`,
      suite: `“${name}” can be saved and run.`,
    }[kind];
    return h("div", { class: "notice good", id: "valid" }, h("p", null, h("strong", null, "✓ Valid. "), what));
  }
  const count = told.problems.length;
  return h("div", { class: "notice bad", id: "problems" },
    h("h2", null, `✕ ${count} ${count === 1 ? "problem" : "problems"} to mend before it can be saved`),
    h("ol", { class: "problems" }, told.problems.map((problem, at) => {
      const field = fieldOf(problem);
      return h("li", { key: at },
        h("a", { href: `#${field ?? "source"}`, "data-line": problem.line, "data-field": field ?? undefined }, field ? "field" : "line"),
        h("span", { class: "what" }, problem.field ? h("span", { class: "mono" }, `${problem.field}: `) : null, problem.message, " ",
          h("a", { class: "line", href: "#source", "data-line": problem.line }, `line ${problem.line}`)),
        problem.expected ? h("span", { class: "expected" }, `expected ${problem.expected}`) : null);
    })));
}

// The field that shows a problem, or the nearest part of the form around it.
function fieldOf(problem) {
  const path = keyOf(problem).split("/");
  for (let length = path.length; length > 0; length -= 1) {
    const found = document.getElementById(idOf(path.slice(0, length))) ?? (length === 1 ? document.getElementById(`section-${path[0]}`) : null);
    if (found) return found.id;
  }
  return null;
}
