// The faults of an experiment: the timeline, and a card for each with what it breaks and how hard.
import { add, button, choiceField, field, fresh, idOf, itemButtons, section, textField } from "./fields.js";
import { timeline } from "./timeline.js";
import { h } from "./view.js";

const FAULTS = ["faults"];

export function faultsSection(ctx) {
  const found = ctx.source.get(FAULTS);
  const faults = Array.isArray(found) ? found : [];
  return section(ctx, "faults", "Faults", ["faults"], [
    faults.length === 0
      ? h("p", { class: "muted", key: "none" }, "No fault yet: the run only measures. Add one to see what breaks with it.")
      : timeline(ctx, faults),
    h("ol", { class: "cards", key: "cards" }, faults.map((fault, at) => card(ctx, fault ?? {}, at, faults))),
    h("div", { class: "buttons", key: "add", id: "f-faults", tabindex: "-1" },
      ctx.known.faults.map((kind) => button(`Add ${kind.kind}`, () => add(ctx, FAULTS, example(ctx, kind, faults), faults.length),
        { glyph: "+", class: "quiet", disabled: !allowed(ctx, kind.kind), id: kind === ctx.known.faults[0] ? "f-faults-add" : undefined }))),
    refused(ctx),
  ], { hint: "What breaks, and when. Every fault is undone at its end, whatever happens." });
}

function allowed(ctx, kind) {
  const faults = ctx.target()?.limits?.faults;
  return !ctx.target() || (Array.isArray(faults) && faults.includes(kind));
}

function refused(ctx) {
  const not = ctx.known.faults.filter((kind) => !allowed(ctx, kind.kind)).map((kind) => kind.kind);
  if (not.length === 0) return null;
  return h("p", { class: "muted small", key: "refused" }, `The target does not allow ${not.join(", ")}: its limits name the kinds that it does.`);
}

// The links that a selector can name: `from -> to`, and each instance's own.
function links(ctx) {
  const found = ctx.target()?.links;
  const names = (Array.isArray(found) ? found : []).flatMap((link) => [
    `${link.from} -> ${link.to}`,
    ...(link.instance ? [`${link.from} -> ${link.instance}`] : []),
  ]);
  return [...new Set(names)];
}

function instances(ctx) {
  const found = ctx.target()?.services;
  return (Array.isArray(found) ? found : []).flatMap((service) =>
    (Array.isArray(service.instances) ? service.instances : []).map((instance) => [service.name, instance.name]));
}

function example(ctx, kind, faults) {
  const [service, instance] = instances(ctx)[0] ?? ["", ""];
  const selector = kind.selects === "link" ? { link: links(ctx)[0] ?? "" } : { service, instance };
  const given = kind.parameters.filter((parameter) => parameter.required);
  return {
    name: fresh(faults, { latency: "slow link", kill: "killed", pause: "frozen", "registry-gap": "unlisted" }[kind.kind] ?? kind.kind),
    kind: kind.kind,
    selector,
    ...(given.length > 0 ? { parameters: Object.fromEntries(given.map((parameter) => [parameter.name, "200ms"])) } : {}),
    start: "10s",
    ...(kind.lasts ? { duration: "10s" } : {}),
  };
}

function card(ctx, fault, at, faults) {
  const path = [...FAULTS, at];
  const kind = ctx.kindOf(fault.kind);
  const name = String(fault.name ?? `fault ${at + 1}`);
  return h("li", { key: at, class: "item", id: idOf(path), tabindex: "-1" },
    h("div", { class: "item-head" },
      h("h3", null, `${at + 1}. ${name}`),
      itemButtons(ctx, FAULTS, at, faults.length, name || `fault ${at + 1}`, {
        copy: () => ctx.edit(() => ctx.source.duplicate(FAULTS, at, { name: fresh(faults, name) }), null),
      })),
    h("div", { class: "fields" },
      textField(ctx, [...path, "name"], "Name", { required: true }),
      choiceField(ctx, [...path, "kind"], "Kind", ctx.known.faults.map((known) => known.kind), { changed: (chosen) => changeKind(ctx, at, fault, chosen) }),
      selector(ctx, path, fault, kind),
      (kind?.parameters ?? []).map((parameter) =>
        textField(ctx, [...path, "parameters", parameter.name], words(parameter.name), { placeholder: "200ms", required: parameter.required })),
      textField(ctx, [...path, "start"], "Starts at", { required: true, placeholder: "15s" }),
      kind?.lasts === false ? null : textField(ctx, [...path, "duration"], "Lasts", { required: true, placeholder: "10s" })));
}

function words(name) {
  return name.charAt(0).toUpperCase() + name.slice(1).replaceAll("_", " ");
}

function changeKind(ctx, at, fault, chosen) {
  const made = example(ctx, ctx.kindOf(chosen), []);
  const same = ctx.kindOf(fault.kind)?.selects === ctx.kindOf(chosen)?.selects;
  ctx.edit(() => {
    const path = [...FAULTS, at];
    ctx.source.set([...path, "kind"], chosen);
    if (!same) ctx.source.set([...path, "selector"], made.selector);
    ctx.source.set([...path, "parameters"], made.parameters);
    if (made.duration === undefined) ctx.source.remove([...path, "duration"]);
    else if (fault.duration === undefined) ctx.source.set([...path, "duration"], made.duration);
  }, null);
}

function selector(ctx, path, fault, kind) {
  const at = [...path, "selector"];
  if (kind?.selects === "link") {
    return choiceField(ctx, [...at, "link"], "Link", links(ctx), { hint: links(ctx).length === 0 ? "the target declares no link" : undefined });
  }
  // Service and instance are chosen together: one alone says nothing.
  const known = instances(ctx);
  const current = fault.selector?.service ? `${fault.selector.service}/${fault.selector.instance ?? ""}` : "";
  const choices = known.map(([service, instance]) => `${service}/${instance}`);
  if (!choices.includes(current)) choices.unshift(current);
  const control = h("select", {
    value: current,
    on: {
      change: (event) => {
        const pair = known[choices.indexOf(event.target.value) - (choices.length - known.length)];
        if (pair) ctx.edit(() => ctx.source.set(at, { service: pair[0], instance: pair[1] }), null);
      },
    },
  }, choices.map((choice) => h("option", { key: choice, value: choice }, choice === "" ? "choose …" : choice)));
  return field(ctx, [...at, "service"], "Instance", control, { hint: known.length === 0 ? "the target declares no instance" : undefined });
}
