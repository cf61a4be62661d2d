// What virtual users do: compiled scenarios by choice, or steps declared one by one.
import { add, areaField, button, choiceField, fresh, idOf, itemButtons, pairs, section, textField, textList } from "./fields.js";
import { h } from "./view.js";

const SCENARIOS = ["scenarios"];
const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

export function scenariosSection(ctx) {
  const found = ctx.source.get(SCENARIOS);
  const scenarios = Array.isArray(found) ? found : [];
  const builtins = ctx.known.scenarios;
  return section(ctx, "scenarios", "Scenarios", ["scenarios"], [
    h("ol", { class: "cards", key: "cards" }, scenarios.map((scenario, at) => card(ctx, scenario ?? {}, at, scenarios))),
    h("div", { class: "buttons", key: "add", id: "f-scenarios", tabindex: "-1" },
      button("Add requests", () => add(ctx, SCENARIOS, { name: fresh(scenarios, "visitor"), steps: [{ name: "home", path: "/" }] }, scenarios.length), { glyph: "+", id: "f-scenarios-add", class: "quiet" }),
      builtins.length > 0
        ? button("Add built-in scenario", () => {
            const next = builtins.find((known) => !scenarios.some((scenario) => scenario?.builtin === known.name)) ?? builtins[0];
            add(ctx, SCENARIOS, { name: fresh(scenarios, next.name.split("/").at(-1)), builtin: next.name }, scenarios.length);
          }, { glyph: "+", class: "quiet" })
        : null),
  ], { hint: "What one virtual user does. Weights share the load out between scenarios." });
}

function card(ctx, scenario, at, scenarios) {
  const path = [...SCENARIOS, at];
  const name = String(scenario.name ?? `scenario ${at + 1}`);
  const built = scenario.builtin !== undefined;
  return h("li", { key: at, class: "item", id: idOf(path), tabindex: "-1" },
    h("div", { class: "item-head" }, h("h3", null, `${at + 1}. ${name}`),
      itemButtons(ctx, SCENARIOS, at, scenarios.length, name, { copy: () => ctx.edit(() => ctx.source.duplicate(SCENARIOS, at, { name: fresh(scenarios, name) }), null) })),
    h("div", { class: "fields" },
      textField(ctx, [...path, "name"], "Name", { required: true }),
      textField(ctx, [...path, "weight"], "Weight", { type: "whole", placeholder: "1" }),
      built ? choiceField(ctx, [...path, "builtin"], "Built-in scenario", ctx.known.scenarios.map((known) => known.name)) : null),
    built ? sends(ctx, scenario) : steps(ctx, [...path, "steps"], scenario.steps));
}

function sends(ctx, scenario) {
  const known = ctx.known.scenarios.find((known) => known.name === scenario.builtin);
  return known ? h("p", { class: "muted small" }, `Sends ${known.requests.join(", ")}.`) : null;
}

function steps(ctx, path, found) {
  const list = Array.isArray(found) ? found : [];
  return h("fieldset", { class: "rows", key: "steps", id: idOf(path), tabindex: "-1" },
    h("legend", null, "Requests, one after another"),
    h("ol", { class: "cards inner" }, list.map((step, at) => {
      const here = [...path, at];
      const what = String(step?.name ?? `request ${at + 1}`);
      const more = ["headers", "body", "expect_status"].some((field) => step?.[field] !== undefined);
      return h("li", { key: at, class: "item", id: idOf(here), tabindex: "-1" },
        h("div", { class: "fields tight" },
          textField(ctx, [...here, "name"], "Name", { required: true }),
          choiceField(ctx, [...here, "method"], "Method", METHODS.slice(1), { absent: "GET" }),
          textField(ctx, [...here, "path"], "Path", { required: true, placeholder: "/" }),
          textField(ctx, [...here, "think_time"], "Then pause", { placeholder: "0s" }),
          itemButtons(ctx, path, at, list.length, what)),
        h("details", { key: "more", open: more }, h("summary", null, "Headers, body, statuses"),
          h("div", { class: "stack" },
            pairs(ctx, [...here, "headers"], "Headers", { item: "header", fresh: "x-name" }),
            areaField(ctx, [...here, "body"], "Body", { mono: true }),
            textList(ctx, [...here, "expect_status"], "Statuses that count as success", { item: "status", type: "whole", fresh: 200, hint: "any below 400 when none is named" }))));
    })),
    button("Add request", () => add(ctx, path, { name: fresh(list, "request"), path: "/" }, list.length), { glyph: "+", id: `${idOf(path)}-add`, class: "quiet" }));
}
