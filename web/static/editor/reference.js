// Which target a file means: one that is known by name, or one that is declared in the file itself.
import { field, section } from "./fields.js";
import { targetSections } from "./target.js";
import { h } from "./view.js";

const PATH = ["target"];
const INLINE = "\u0000inline";

export function targetReference(ctx, { optional } = {}) {
  const value = ctx.source.get(PATH);
  const inline = value !== null && typeof value === "object";
  const names = ctx.known.targets.map((target) => target.name);
  const current = inline ? INLINE : String(value ?? "");
  if (!inline && !names.includes(current) && (current !== "" || !optional)) names.unshift(current);
  const control = h("select", { value: current, on: { change: (event) => chosen(ctx, event.target.value) } },
    optional ? h("option", { key: "", value: "" }, "none: no step sends requests") : null,
    names.filter((name) => name !== "" || !optional).map((name) => h("option", { key: name, value: name }, name === "" ? "choose …" : name)),
    h("option", { key: INLINE, value: INLINE }, "declared in this file"));
  const hint = ctx.known.targets.length === 0 ? "No target is known yet: declare one in this file, or on the page of targets." : undefined;
  const parts = [section(ctx, "target", "Target", inline ? ["target#"] : ["target"], [
    field(ctx, PATH, "System under test", control, { hint }),
    inline ? null : about(ctx),
  ])];
  return inline ? [...parts, ...targetSections(ctx, PATH)] : parts;
}

function chosen(ctx, name) {
  const example = { name: "my-system", base_url: "http://127.0.0.1:8080", allowed_hosts: ["127.0.0.1:8080"], limits: { max_rate: "100/s" } };
  ctx.edit(() => ctx.source.set(PATH, name === INLINE ? example : name === "" ? undefined : name), null);
}

function about(ctx) {
  const target = ctx.target();
  if (!target) return null;
  const count = (list, one, many) => `${list?.length ?? 0} ${list?.length === 1 ? one : many}`;
  return h("p", { class: "muted small" }, `${target.base_url} · ${count(target.services, "service", "services")} · ${count(target.links, "link", "links")} · ${count(target.audits, "audit", "audits")}`);
}
