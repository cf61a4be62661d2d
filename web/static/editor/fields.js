// The fields of the form: each shows one value of the YAML, writes it back, and says what is wrong with it.
import { h, s } from "./view.js";

// No font can be relied on to have a sign for copies.
const COPY = s("svg", { viewBox: "0 0 16 16", width: 15, height: 15 }, s("path", { d: "M5.5 5.5h8v8h-8zM10.5 5V2.5h-8v8H5", fill: "none", stroke: "currentColor", "stroke-width": "1.4" }));

export function idOf(path) {
  return `f-${path.join("-").replace(/[^\w-]/g, "_")}`;
}

// What is wrong at a path. Whoever asks shows it; the rest is shown by the section around it.
export function problemsAt(ctx, path) {
  const key = path.join("/");
  const found = ctx.problems.get(key) ?? [];
  if (found.length > 0) ctx.claimed.add(key);
  return found;
}

function sentence(problem) {
  return problem.expected ? `${problem.message}; expected ${problem.expected}` : problem.message;
}

export function errorsOf(problems, id) {
  return problems.map((problem, at) => h("span", { class: "error", id: at === 0 ? `${id}-error` : undefined }, sentence(problem)));
}

// Label, hint, control and error, one below the other.
export function field(ctx, path, label, control, { hint, extra, class: more } = {}) {
  const id = idOf(path);
  const problems = problemsAt(ctx, path);
  const told = [problems.length > 0 ? `${id}-error` : null, hint ? `${id}-hint` : null].filter(Boolean).join(" ");
  control.props = { ...control.props, id, "aria-invalid": problems.length > 0 ? "true" : undefined, "aria-describedby": told || undefined };
  return h(
    "div",
    { class: `field ${more ?? ""}`, key: id },
    h("label", { for: id }, label),
    hint ? h("span", { class: "hint", id: `${id}-hint` }, hint) : null,
    control,
    errorsOf(problems, id),
    extra,
  );
}

// Text as the file has it: numbers without quotes where they are numbers.
function written(text, type) {
  if (type === "whole" && /^\d+$/.test(text)) return Number(text);
  if (type === "rate" && /^\d+(\.\d+)?$/.test(text)) return `${text}/s`;
  if (type === "any") {
    try {
      const value = JSON.parse(text);
      if (value === null || typeof value !== "object") return value;
    } catch {
      // Plain text.
    }
  }
  return text;
}

// A field of one line. `type`: text, whole, rate, any. A required one stays in the file when it is emptied.
export function textField(ctx, path, label, { type = "text", required, choices, placeholder, ...rest } = {}) {
  const list = choices?.length > 0 ? `${idOf(path)}-choices` : undefined;
  const control = h("input", {
    type: "text",
    value: shown(ctx.source.get(path)),
    list,
    placeholder,
    autocomplete: "off",
    inputmode: type === "whole" ? "numeric" : undefined,
    required: required || undefined,
    on: { input: (event) => change(ctx, path, event.target.value, type, required) },
  });
  const extra = list ? h("datalist", { id: list }, choices.map((choice) => h("option", { value: choice }))) : null;
  return field(ctx, path, label, control, { extra, ...rest });
}

function shown(value) {
  if (value === undefined || value === null) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function change(ctx, path, text, type, required) {
  const value = text === "" && !required ? undefined : written(text, type);
  ctx.edit(() => ctx.source.set(path, value), path.join("/"));
}

// A field of several lines.
export function areaField(ctx, path, label, { rows = 3, mono, ...rest } = {}) {
  const control = h("textarea", {
    value: shown(ctx.source.get(path)),
    rows,
    class: mono ? "mono" : undefined,
    spellcheck: mono ? "false" : undefined,
    on: { input: (event) => change(ctx, path, event.target.value, "text", false) },
  });
  return field(ctx, path, label, control, { class: "wide", ...rest });
}

// One of several. Choices are texts or `[value, label]`; the value that is written is offered even if it is unknown.
export function choiceField(ctx, path, label, choices, { absent, changed, ...rest } = {}) {
  const value = ctx.source.get(path);
  const pairs = choices.map((choice) => (Array.isArray(choice) ? choice : [choice, choice]));
  const current = value === undefined || value === null ? "" : shown(value);
  if (!pairs.some(([known]) => known === current) && (current !== "" || absent === undefined)) {
    pairs.unshift([current, current === "" ? "choose …" : `${current} (unknown)`]);
  }
  if (absent !== undefined) pairs.unshift(["", absent]);
  const control = h(
    "select",
    {
      value: current,
      on: {
        change: (event) => {
          const chosen = event.target.value;
          if (changed) return changed(chosen);
          ctx.edit(() => ctx.source.set(path, chosen === "" ? undefined : chosen), null);
        },
      },
    },
    pairs.map(([known, text]) => h("option", { key: known, value: known }, text)),
  );
  return field(ctx, path, label, control, rest);
}

// Yes or no; no is not written.
export function checkField(ctx, path, label, { hint } = {}) {
  const id = idOf(path);
  const problems = problemsAt(ctx, path);
  return h(
    "div",
    { class: "field tick", key: id },
    h(
      "label",
      { class: "check" },
      h("input", {
        type: "checkbox",
        id,
        checked: ctx.source.get(path) === true,
        on: { change: (event) => ctx.edit(() => ctx.source.set(path, event.target.checked || undefined), null) },
      }),
      label,
    ),
    hint ? h("span", { class: "hint" }, hint) : null,
    errorsOf(problems, id),
  );
}

// A button of the form; `small` for those in rows, whose label then is read but not seen.
export function button(label, act, { small, glyph, disabled, primary, id, class: more } = {}) {
  return h(
    "button",
    {
      type: "button",
      id,
      class: `button ${small ? "mini" : ""} ${primary ? "primary" : ""} ${more ?? ""}`,
      key: label,
      disabled: Boolean(disabled),
      "aria-label": small ? label : undefined,
      title: small ? label : undefined,
      on: { click: act },
    },
    glyph ? h("span", { class: "sign", "aria-hidden": "true" }, glyph) : null,
    small ? null : label,
  );
}

// Up, down, copy and remove for an item of a list.
export function itemButtons(ctx, path, index, count, what, { copy } = {}) {
  const moved = (to) => {
    ctx.edit(() => ctx.source.move(path, index, to), null);
    ctx.say(`${what} is now ${to + 1} of ${count}`);
    const key = to < index ? "up" : "down";
    ctx.focus(`${idOf([...path, to])}-${key}`, `${idOf([...path, to])}-${key === "up" ? "down" : "up"}`);
  };
  const id = idOf([...path, index]);
  return h(
    "span",
    { class: "item-buttons" },
    button(`Move ${what} up`, () => moved(index - 1), { small: true, glyph: "↑", disabled: index === 0, id: `${id}-up` }),
    button(`Move ${what} down`, () => moved(index + 1), { small: true, glyph: "↓", disabled: index === count - 1, id: `${id}-down` }),
    copy ? button(`Duplicate ${what}`, copy, { small: true, glyph: COPY }) : null,
    button(
      `Remove ${what}`,
      () => {
        ctx.edit(() => ctx.source.remove([...path, index]), null);
        ctx.say(`${what} is removed`);
        ctx.focus(`${idOf(path)}-add`);
      },
      { small: true, glyph: "✕" },
    ),
  );
}

// A list of single values, each in a field of its own.
export function textList(ctx, path, label, { item = "value", hint, type, choices, placeholder, fresh = "" } = {}) {
  const found = ctx.source.get(path);
  const values = Array.isArray(found) ? found : [];
  const id = idOf(path);
  return h(
    "fieldset",
    { class: "rows wide", key: id, id, tabindex: "-1" },
    h("legend", null, label),
    hint ? h("span", { class: "hint" }, hint) : null,
    errorsOf(problemsAt(ctx, path), id),
    h(
      "ol",
      { class: "lines" },
      values.map((_, at) =>
        h(
          "li",
          { key: at },
          textField(ctx, [...path, at], `${item} ${at + 1}`, { type, choices, placeholder, required: true, class: "unlabelled" }),
          button(`Remove ${item} ${at + 1}`, () => ctx.edit(() => ctx.source.remove([...path, at]), null), { small: true, glyph: "✕" }),
        ),
      ),
    ),
    button(`Add ${item}`, () => add(ctx, path, fresh, values.length), { glyph: "+", id: `${id}-add`, class: "quiet" }),
  );
}

export function add(ctx, path, value, count) {
  ctx.edit(() => ctx.source.insert(path, value), null);
  const item = [...path, count];
  ctx.focus(idOf(item), idOf([...item, "name"]), idOf([...item, Object.keys(value ?? {})[0] ?? ""]));
}

// Names with a value each, such as headers.
export function pairs(ctx, path, label, { item = "value", hint, type = "text", fresh = "" } = {}) {
  const found = ctx.source.get(path);
  const entries = found && typeof found === "object" && !Array.isArray(found) ? Object.entries(found) : [];
  const id = idOf(path);
  const rename = (at, name) => {
    if (entries.some(([other], index) => index !== at && other === name)) return;
    const changed = Object.fromEntries(entries.map(([other, value], index) => [index === at ? name : other, value]));
    ctx.edit(() => ctx.source.set(path, changed), `${path.join("/")}#${at}`);
  };
  return h(
    "fieldset",
    { class: "rows wide", key: id, id, tabindex: "-1" },
    h("legend", null, label),
    hint ? h("span", { class: "hint" }, hint) : null,
    errorsOf(problemsAt(ctx, path), id),
    h(
      "ol",
      { class: "lines" },
      entries.map(([name], at) =>
        h(
          "li",
          { key: at },
          h("input", {
            type: "text",
            id: `${id}-name-${at}`,
            "aria-label": `name of ${item} ${at + 1}`,
            value: name,
            on: { input: (event) => rename(at, event.target.value) },
          }),
          textField(ctx, [...path, name], `value of ${item} ${at + 1}`, { type, required: true, class: "unlabelled" }),
          button(`Remove ${item} ${at + 1}`, () => ctx.edit(() => ctx.source.remove([...path, name]), null), { small: true, glyph: "✕" }),
        ),
      ),
    ),
    button(
      `Add ${item}`,
      () => {
        let name = fresh;
        for (let number = 2; entries.some(([other]) => other === name); number += 1) name = `${fresh}${number}`;
        ctx.edit(() => ctx.source.set([...path, name], ""), null);
        ctx.focus(`${id}-name-${entries.length}`);
      },
      { glyph: "+", class: "quiet" },
    ),
  );
}

// A card of the form. What is wrong within and was not shown by a field is shown on top.
export function section(ctx, name, title, roots, children, { hint, actions } = {}) {
  const id = `section-${name}`;
  const rest = [];
  for (const [key, problems] of ctx.problems) {
    const inside = roots.some((root) => key === root || key.startsWith(`${root}/`));
    if (inside && !ctx.claimed.has(key)) {
      ctx.claimed.add(key);
      rest.push(...problems.map((problem) => ({ ...problem, key })));
    }
  }
  return h(
    "section",
    { class: `card part ${rest.length > 0 ? "wrong" : ""}`, key: id, id, tabindex: "-1", "aria-labelledby": `${id}-title` },
    h("div", { class: "head" }, h("h2", { id: `${id}-title` }, title), actions),
    h(
      "div",
      { class: "body stack" },
      hint ? h("p", { class: "muted small" }, hint) : null,
      rest.length > 0
        ? h("div", { class: "field" }, rest.map((problem) => h("span", { class: "error" }, `${problem.field}: ${sentence(problem)}`)))
        : null,
      children,
    ),
  );
}

// A name that no item of a list has.
export function fresh(items, wish) {
  const taken = new Set((Array.isArray(items) ? items : []).map((item) => item?.name));
  if (!taken.has(wish)) return wish;
  for (let number = 2; ; number += 1) if (!taken.has(`${wish} ${number}`)) return `${wish} ${number}`;
}
