// The load section: the model, its stages or users, and the curve they come to.
import { corners, curve } from "./curve.js";
import { add, button, choiceField, idOf, itemButtons, section, textField } from "./fields.js";
import { duration } from "./units.js";
import { h } from "./view.js";

const LOAD = ["load"];

export function loadSection(ctx) {
  const load = ctx.source.get(LOAD) ?? {};
  const closed = load.model === "closed";
  const drawn = curve(load);
  return section(ctx, "load", "Load profile", ["load"], [
    choiceField(ctx, [...LOAD, "model"], "Model", [["open", "Open: arrivals come at a rate"], ["closed", "Closed: a number of users"]], {
      hint: closed ? "Each user sends its next request when the last one is answered." : "Arrivals come whether or not the target keeps up.",
      changed: (model) => ctx.edit(() => ctx.source.set(LOAD, converted(load, model)), null),
    }),
    closed ? closedFields(ctx) : openFields(ctx, load),
    h("figure", { class: "curve-figure", key: "curve" },
      drawn ?? h("p", { class: "muted", id: "load-curve" }, "The curve appears when every rate and duration can be read (60/s, 30s, 2m).")),
  ]);
}

function converted(load, model) {
  const length = duration(corners(load)?.length ?? 60);
  const warm = load.warm_up === undefined ? {} : { warm_up: load.warm_up };
  const seed = load.seed === undefined ? {} : { seed: load.seed };
  if (model === "closed") return { model, users: 10, duration: length, think_time: "1s", ...warm, ...seed };
  return { model, stages: [{ rate: "10/s", duration: length }], ...warm, ...seed };
}

function closedFields(ctx) {
  return h("div", { class: "fields", key: "closed" },
    textField(ctx, [...LOAD, "users"], "Users", { type: "whole", required: true }),
    textField(ctx, [...LOAD, "duration"], "Duration", { required: true, placeholder: "60s" }),
    textField(ctx, [...LOAD, "ramp_up"], "Users start over", { placeholder: "0s" }),
    textField(ctx, [...LOAD, "think_time"], "Think time", { placeholder: "0s" }),
    textField(ctx, [...LOAD, "warm_up"], "Warm-up", { placeholder: "0s" }));
}

function openFields(ctx, load) {
  const path = [...LOAD, "stages"];
  const stages = Array.isArray(load.stages) ? load.stages : [];
  const last = stages.at(-1)?.rate ?? "10/s";
  return h("div", { class: "stack", key: "open" },
    h("fieldset", { class: "rows", id: idOf(path), tabindex: "-1" },
      h("legend", null, "Stages"),
      h("ol", { class: "stages" },
        stages.map((_, at) => h("li", { key: at, class: "row" },
          textField(ctx, [...path, at, "from"], "From rate", { type: "rate", placeholder: "same" }),
          textField(ctx, [...path, at, "rate"], "To rate", { type: "rate", required: true, placeholder: "60/s" }),
          textField(ctx, [...path, at, "duration"], "For", { required: true, placeholder: "30s" }),
          itemButtons(ctx, path, at, stages.length, `stage ${at + 1}`)))),
      button("Add stage", () => add(ctx, path, { rate: String(last), duration: "30s" }, stages.length), { glyph: "+", id: `${idOf(path)}-add`, class: "quiet" })),
    h("div", { class: "fields" },
      choiceField(ctx, [...LOAD, "arrivals"], "Arrivals", [["constant", "evenly spaced"], ["poisson", "at random (Poisson)"]], { absent: "evenly spaced (default)" }),
      textField(ctx, [...LOAD, "warm_up"], "Warm-up", { placeholder: "0s", hint: "measured, but does not count" }),
      textField(ctx, [...LOAD, "max_users"], "Most users at once", { type: "whole", placeholder: "200" }),
      textField(ctx, [...LOAD, "patience"], "Patience", { placeholder: "10s", hint: "an arrival that waits longer is dropped" })));
}
