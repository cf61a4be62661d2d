// Steps of a suite as cards: added, filled in, reordered by drag or by button, copied and removed.
import { add, checkField, choiceField, errorsOf, fresh, idOf, itemButtons, pairs, problemsAt, textField, textList } from "./fields.js";
import { checkFields } from "./check-step.js";
import { h } from "./view.js";

export const KINDS = {
  experiment: { title: "Experiment", glyph: "⚡", hint: "load and faults, with a verdict" },
  check: { title: "Check", glyph: "✓", hint: "one request and what its answer must be" },
  command: { title: "Command", glyph: "❯", hint: "a test command of an agent: Robot Framework, pytest …" },
  wait: { title: "Wait", glyph: "◷", hint: "let time pass" },
  parallel: { title: "Parallel group", glyph: "∥", hint: "steps at the same time" },
};

export function kindOf(step) {
  return Object.keys(KINDS).find((kind) => step?.[kind] !== undefined) ?? null;
}

export function stepList(ctx, path) {
  const found = ctx.source.get(path);
  const steps = Array.isArray(found) ? found : [];
  const nested = path.includes("parallel");
  return [
    errorsOf(problemsAt(ctx, path), idOf(path)),
    steps.length === 0 ? h("p", { class: "muted", key: "none" }, path[0] === "steps" && !nested ? "No step yet. Add the first one:" : "None.") : null,
    h("ol", { class: "cards steps", key: "cards", "data-list": path.join("/") }, steps.map((step, at) => card(ctx, path, step ?? {}, at, steps))),
    h("div", { class: "add-step", key: "add", id: idOf(path), tabindex: "-1", role: "group", "aria-label": "Add a step" },
      Object.entries(KINDS).filter(([kind]) => !nested || kind !== "parallel").map(([kind, { title, glyph, hint }], index) =>
        h("button", { type: "button", class: "button add-kind", key: kind, title: hint, id: index === 0 ? `${idOf(path)}-add` : undefined, "data-add": kind,
          on: { click: () => add(ctx, path, example(ctx, kind), steps.length) } },
          h("span", { "aria-hidden": "true" }, `+ ${glyph} `), h("span", { class: "visually-hidden" }, "Add "), title))),
  ];
}

// A step of a kind that is valid as it stands wherever that is possible.
function example(ctx, kind) {
  const name = (wish) => fresh(allSteps(ctx), wish);
  const path = "/";
  if (kind === "experiment") {
    const known = ctx.known.experiments[0]?.name ?? "";
    return { name: name(known ? `Run ${known}` : "Experiment"), experiment: known };
  }
  if (kind === "check") return { name: name("Home page answers"), check: { url: path, expect: { status: 200, within: "2s" } } };
  if (kind === "command") {
    const known = ctx.commands()[0]?.name ?? "";
    return { name: name(known ? `Run ${known}` : "Command"), command: known };
  }
  if (kind === "wait") return { name: name("Wait"), wait: "10s" };
  const inner = (wish, url) => ({ name: name(wish), check: { url, expect: { status: 200 } } });
  return { name: name("At the same time"), parallel: [inner("First page answers", path), inner("Second page answers", path)] };
}

function allSteps(ctx) {
  const lists = ["set_up", "steps", "tear_down"].map((list) => ctx.source.get([list])).filter(Array.isArray);
  return lists.flat().flatMap((step) => [step, ...(Array.isArray(step?.parallel) ? step.parallel : [])]);
}

function card(ctx, path, step, at, steps) {
  const here = [...path, at];
  const kind = kindOf(step);
  const known = KINDS[kind] ?? { title: "Step", glyph: "?" };
  const name = String(step.name ?? `step ${at + 1}`);
  const drag = ctx.ui.drag;
  const mine = drag?.list === path.join("/");
  const mark = mine && drag.to === at && drag.from !== at ? (drag.to < drag.from ? "drop-before" : "drop-after") : "";
  const copies = () => {
    const changes = { name: fresh(allSteps(ctx), name) };
    if (Array.isArray(step.parallel)) {
      const taken = [...allSteps(ctx), changes];
      changes.parallel = step.parallel.map((inner) => {
        const copy = { ...inner, name: fresh(taken, String(inner?.name ?? "step")) };
        taken.push(copy);
        return copy;
      });
    }
    ctx.edit(() => ctx.source.duplicate(path, at, changes), null);
    ctx.say(`${name} is duplicated as ${changes.name}`);
    ctx.focus(idOf([...path, at + 1, "name"]));
  };
  return h("li", { key: at, class: `item step step-${kind ?? "unknown"} ${mark} ${mine && drag.from === at ? "dragged" : ""}`, id: idOf(here), tabindex: "-1" },
    h("div", { class: "item-head" },
      h("h3", null,
        h("span", { class: "handle", "aria-hidden": "true", title: "Drag to reorder", on: { pointerdown: (event) => dragCard(ctx, event, path, at) } }, "⠿"),
        h("span", { class: "badge" }, h("span", { class: "glyph", "aria-hidden": "true" }, known.glyph), known.title),
        h("span", null, `${at + 1}. ${name}`)),
      itemButtons(ctx, path, at, steps.length, name, { copy: copies })),
    errorsOf(problemsAt(ctx, here), idOf(here)),
    h("div", { class: "fields" },
      textField(ctx, [...here, "name"], "Name", { required: true }),
      body(ctx, here, kind, step)),
    kind === "check" ? checkFields(ctx, [...here, "check"], step.check) : null,
    kind === "parallel" ? h("div", { class: "nested stack" }, stepList(ctx, [...here, "parallel"])) : null,
    more(ctx, here, kind, step));
}

function body(ctx, here, kind) {
  if (kind === "experiment") {
    const known = ctx.known.experiments.map((experiment) => [experiment.name, experiment.kept ? experiment.name : `${experiment.name} (ships with Kennel)`]);
    return choiceField(ctx, [...here, "experiment"], "Experiment", known);
  }
  if (kind === "command") {
    const known = ctx.commands();
    return choiceField(ctx, [...here, "command"], "Command", known.map((command) => command.name), {
      hint: known.length === 0 ? "No agent offers a command: its configuration names those that may run." : known.find((command) => command.name === ctx.source.get([...here, "command"]))?.description,
    });
  }
  if (kind === "wait") return textField(ctx, [...here, "wait"], "For", { required: true, placeholder: "10s" });
  return null;
}

function more(ctx, here, kind, step) {
  const fields = ["continue_on_failure", "retries", "retry_delay", "timeout", "with", "arguments"];
  return h("details", { key: "more", open: fields.some((name) => step[name] !== undefined) },
    h("summary", null, "When it fails, retries, time limit"),
    h("div", { class: "stack" },
      checkField(ctx, [...here, "continue_on_failure"], "Go on with the next step although it failed"),
      h("div", { class: "fields" },
        textField(ctx, [...here, "retries"], "Retries", { type: "whole", placeholder: "0" }),
        textField(ctx, [...here, "retry_delay"], "Pause before a retry", { placeholder: "0s" }),
        textField(ctx, [...here, "timeout"], "Time limit", { placeholder: "none" })),
      kind === "experiment" ? pairs(ctx, [...here, "with"], "Other values in the experiment", { item: "value", type: "any", fresh: "/load/stages/0/rate", hint: "By JSON pointer, for instance /load/stages/0/rate: 50/s" }) : null,
      kind === "command" ? textList(ctx, [...here, "arguments"], "Arguments", { item: "argument" }) : null));
}

// A card follows the pointer to another place in its list.
function dragCard(ctx, event, path, from) {
  if (event.button !== 0) return;
  event.preventDefault();
  const handle = event.currentTarget;
  const list = handle.closest("ol");
  const key = path.join("/");
  handle.setPointerCapture(event.pointerId);
  const move = (event) => {
    if (event.clientY < 48) scrollBy(0, -24);
    if (event.clientY > innerHeight - 48) scrollBy(0, 24);
    const cards = [...list.children].filter((child) => child.classList.contains("step"));
    const above = cards.filter((card, at) => {
      const box = card.getBoundingClientRect();
      return at !== from && event.clientY > box.top + box.height / 2;
    }).length;
    ctx.ui.drag = { list: key, from, to: above };
    ctx.draw();
  };
  const done = (event) => {
    handle.removeEventListener("pointermove", move);
    handle.removeEventListener("pointerup", done);
    handle.removeEventListener("pointercancel", done);
    const drag = ctx.ui.drag;
    ctx.ui.drag = null;
    if (drag && event.type === "pointerup" && drag.to !== from) {
      ctx.edit(() => ctx.source.move(path, from, drag.to), null);
      ctx.say(`the step is now number ${drag.to + 1}`);
    } else ctx.draw();
  };
  handle.addEventListener("pointermove", move);
  handle.addEventListener("pointerup", done);
  handle.addEventListener("pointercancel", done);
}
