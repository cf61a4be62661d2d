// The form of a suite: what it is about, its parameters, and its steps as cards.
import { areaField, choiceField, fresh, add, button, idOf, itemButtons, section, textField, textList } from "./fields.js";
import { targetReference } from "./reference.js";
import { stepList } from "./steps.js";
import { h } from "./view.js";

export const SUITE_ORDER = ["version", "name", "description", "labels", "target", "agents", "parameters", "set_up", "steps", "tear_down"];

const PARAMETERS = ["parameters"];

export function suiteForm(ctx) {
  const some = (list) => (ctx.source.get([list]) ?? []).length > 0;
  return [
    section(ctx, "about", "Suite", ["name", "description", "labels", "agents", "version"], [
      textField(ctx, ["name"], "Name", { required: true, hint: "Its runs form one history." }),
      areaField(ctx, ["description"], "Description", { rows: 2 }),
      h("details", { key: "more", open: some("labels") || some("agents") }, h("summary", null, "Labels and agents"),
        h("div", { class: "stack" },
          textList(ctx, ["labels"], "Labels", { item: "label", hint: "Words to find the suite and its runs by." }),
          textList(ctx, ["agents"], "Runs on agents that carry", { item: "agent label", choices: ctx.labels(), hint: "Any agent when none is named." }))),
    ]),
    ...targetReference(ctx, { optional: true }),
    section(ctx, "steps", "Steps", ["steps"], stepList(ctx, ["steps"]), {
      hint: "Run from top to bottom. Add one with a button; drag a card by its handle, or use its arrows, to reorder.",
    }),
    section(ctx, "set_up", "Set-up", ["set_up"], stepList(ctx, ["set_up"]), { hint: "Prepares. When it fails, the steps are skipped and the tear-down still runs." }),
    section(ctx, "tear_down", "Tear-down", ["tear_down"], stepList(ctx, ["tear_down"]), { hint: "Cleans up, whatever happened before." }),
    parameters(ctx),
  ];
}

function parameters(ctx) {
  const found = ctx.source.get(PARAMETERS);
  const list = Array.isArray(found) ? found : [];
  return section(ctx, "parameters", "Parameters", ["parameters"], [
    h("ol", { class: "cards", key: "cards" }, list.map((parameter, at) => {
      const path = [...PARAMETERS, at];
      const name = String(parameter?.name ?? `parameter ${at + 1}`);
      return h("li", { key: at, class: "item", id: idOf(path), tabindex: "-1" },
        h("div", { class: "item-head" }, h("h3", null, h("code", null, `\${${name}}`)), itemButtons(ctx, PARAMETERS, at, list.length, name)),
        h("div", { class: "fields" },
          textField(ctx, [...path, "name"], "Name", { required: true }),
          choiceField(ctx, [...path, "type"], "Type", ["number", "boolean", "choice"], { absent: "text" }),
          textField(ctx, [...path, "default"], "Default", { required: true }),
          textField(ctx, [...path, "description"], "Description")),
        parameter?.type === "choice" ? textList(ctx, [...path, "choices"], "Choices", { item: "choice" }) : null);
    })),
    h("div", { class: "buttons", key: "add", id: idOf(PARAMETERS), tabindex: "-1" },
      button("Add parameter", () => add(ctx, PARAMETERS, { name: fresh(list, "value").replace(" ", "_"), default: "" }, list.length), { glyph: "+", id: `${idOf(PARAMETERS)}-add`, class: "quiet" })),
  ], { hint: "Values that whoever starts the suite may change. ${name} in a step stands for them." });
}
