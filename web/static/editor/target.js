// The declaration of a target, alone in a file or within an experiment or suite.
import { add, button, checkField, choiceField, errorsOf, fresh, idOf, itemButtons, problemsAt, section, textField, textList } from "./fields.js";
import { h } from "./view.js";

export const TARGET_ORDER = ["name", "environment", "base_url", "allowed_hosts", "services", "links", "registry", "health", "audits", "limits"];

export function targetForm(ctx) {
  return targetSections(ctx, []);
}

export function targetSections(ctx, base) {
  const at = (...path) => [...base, ...path];
  const root = (...names) => names.map((name) => [...base, name].join("/"));
  const key = base.length > 0 ? "inline-" : "";
  return [
    section(ctx, `${key}target-where`, base.length > 0 ? "Target, declared here" : "Target", root("name", "environment", "base_url", "allowed_hosts", "health"), [
      h("div", { class: "fields" },
        textField(ctx, at("name"), "Name", { required: true, hint: base.length > 0 ? undefined : "experiments and suites refer to it" }),
        choiceField(ctx, at("environment"), "Environment", ["staging", "production"], { absent: "development" })),
      textField(ctx, at("base_url"), "Base URL", { required: true, placeholder: "http://127.0.0.1:8080", extra: allowButton(ctx, base) }),
      textList(ctx, at("allowed_hosts"), "Allowed hosts", { item: "host", placeholder: "host or host:port", hint: "Traffic and faults reach these and nothing else." }),
      textList(ctx, at("health"), "Health checks", { item: "URL", placeholder: "http://127.0.0.1:8080/health", hint: "Answer 2xx while the target is healthy; asked before a run starts." }),
    ]),
    servicesSection(ctx, base, key),
    linksSection(ctx, base, key),
    section(ctx, `${key}target-more`, "Registry and audits", root("registry", "audits"), [registry(ctx, base), audits(ctx, base)]),
    limitsSection(ctx, base, key),
  ];
}

function hostOf(url) {
  return /^https?:\/\/([^/?#@\s]+)/.exec(String(url ?? ""))?.[1] ?? null;
}

// One press adds the host that is missing.
function allowButton(ctx, base) {
  const host = hostOf(ctx.source.get([...base, "base_url"]));
  const allowed = ctx.source.get([...base, "allowed_hosts"]);
  const list = Array.isArray(allowed) ? allowed.map(String) : [];
  if (!host || list.includes(host) || list.includes(host.replace(/:\d+$/, ""))) return null;
  return button(`Allow ${host}`, () => ctx.edit(() => {
    const empty = list.indexOf("");
    if (empty >= 0) ctx.source.set([...base, "allowed_hosts", empty], host);
    else ctx.source.insert([...base, "allowed_hosts"], host);
  }, null), { glyph: "+", class: "quiet" });
}

function items(ctx, path) {
  const found = ctx.source.get(path);
  return Array.isArray(found) ? found : [];
}

function servicesSection(ctx, base, key) {
  const path = [...base, "services"];
  const services = items(ctx, path);
  return section(ctx, `${key}services`, "Services", [path.join("/")], [
    h("ol", { class: "cards" }, services.map((service, at) => {
      const name = String(service?.name ?? `service ${at + 1}`);
      return h("li", { key: at, class: "item", id: idOf([...path, at]), tabindex: "-1" },
        h("div", { class: "item-head" }, h("h3", null, name), itemButtons(ctx, path, at, services.length, name)),
        textField(ctx, [...path, at, "name"], "Name", { required: true }),
        instances(ctx, [...path, at, "instances"]));
    })),
    h("div", { class: "buttons", id: idOf(path), tabindex: "-1" },
      button("Add service", () => add(ctx, path, { name: fresh(services, "service"), instances: [{ name: "service-1" }] }, services.length), { glyph: "+", id: `${idOf(path)}-add`, class: "quiet" })),
  ], { hint: "Processes that faults may kill or freeze, and how to find each on the agent's host." });
}

function instances(ctx, path) {
  const list = items(ctx, path);
  return h("fieldset", { class: "rows", id: idOf(path), tabindex: "-1" },
    h("legend", null, "Instances"),
    h("ol", { class: "cards inner" }, list.map((instance, at) => {
      const here = [...path, at];
      const process = [...here, "process"];
      const name = String(instance?.name ?? `instance ${at + 1}`);
      return h("li", { key: at, class: "item", id: idOf(here), tabindex: "-1" },
        h("div", { class: "fields tight" },
          textField(ctx, [...here, "name"], "Name", { required: true }),
          textField(ctx, [...here, "address"], "Address", { placeholder: "127.0.0.1:9001" }),
          textField(ctx, [...process, "pid_file"], "Pid file"),
          textField(ctx, [...process, "listening_port"], "Listening port", { type: "whole" }),
          textField(ctx, [...process, "command_line"], "Command line contains"),
          itemButtons(ctx, path, at, list.length, name)),
        checkField(ctx, [...process, "supervised"], "A supervisor starts it again after it died"),
        errorsOf(problemsAt(ctx, process), idOf(process)));
    })),
    button("Add instance", () => add(ctx, path, { name: fresh(list, "instance") }, list.length), { glyph: "+", id: `${idOf(path)}-add`, class: "quiet" }));
}

function linksSection(ctx, base, key) {
  const path = [...base, "links"];
  const links = items(ctx, path);
  return section(ctx, `${key}links`, "Links", [path.join("/")], [
    h("ol", { class: "cards" }, links.map((link, at) => {
      const here = [...path, at];
      const name = `${link?.from ?? "?"} -> ${link?.instance ?? link?.to ?? "?"}`;
      return h("li", { key: at, class: "item", id: idOf(here), tabindex: "-1" },
        h("div", { class: "item-head" }, h("h3", null, name), itemButtons(ctx, path, at, links.length, name)),
        h("div", { class: "fields tight" },
          textField(ctx, [...here, "from"], "From service", { required: true }),
          textField(ctx, [...here, "to"], "To service", { required: true }),
          textField(ctx, [...here, "instance"], "To instance", { placeholder: "any" }),
          textField(ctx, [...here, "listen"], "Caller dials", { required: true, placeholder: "127.0.0.1:7001" }),
          textField(ctx, [...here, "upstream"], "Proxy forwards to", { required: true, placeholder: "127.0.0.1:9001" })),
        h("details", { key: "toxiproxy", open: link?.toxiproxy !== undefined }, h("summary", null, "On a Toxiproxy server"),
          h("div", { class: "fields tight" },
            textField(ctx, [...here, "toxiproxy", "api"], "API", { placeholder: "http://127.0.0.1:8474" }),
            textField(ctx, [...here, "toxiproxy", "proxy"], "Proxy"))));
    })),
    h("div", { class: "buttons", id: idOf(path), tabindex: "-1" },
      button("Add link", () => add(ctx, path, { from: "caller", to: "callee", listen: "127.0.0.1:7001", upstream: "127.0.0.1:9001" }, links.length), { glyph: "+", id: `${idOf(path)}-add`, class: "quiet" })),
  ], { hint: "Connections between services that run through a fault proxy, for latency and the like." });
}

function registry(ctx, base) {
  const path = [...base, "registry"];
  const there = ctx.source.get(path) !== undefined;
  if (!there) {
    return h("div", { class: "buttons", key: "registry", id: idOf(path), tabindex: "-1" },
      button("Add registry", () => ctx.edit(() => ctx.source.set(path, { kind: "reference-system", url: "http://127.0.0.1:1" }), null), { glyph: "+", class: "quiet" }));
  }
  return h("fieldset", { class: "rows", key: "registry", id: idOf(path), tabindex: "-1" },
    h("legend", null, "Registry"),
    h("div", { class: "fields tight" },
      choiceField(ctx, [...path, "kind"], "Kind", ["reference-system"]),
      textField(ctx, [...path, "url"], "URL", { required: true }),
      button("Remove registry", () => ctx.edit(() => ctx.source.remove(path), null), { small: true, glyph: "✕" })));
}

function audits(ctx, base) {
  const path = [...base, "audits"];
  const list = items(ctx, path);
  return h("fieldset", { class: "rows", key: "audits", id: idOf(path), tabindex: "-1" },
    h("legend", null, "Audits"),
    h("ol", { class: "lines" }, list.map((audit, at) => h("li", { key: at, class: "row", id: idOf([...path, at]), tabindex: "-1" },
      textField(ctx, [...path, at, "name"], "Name", { required: true }),
      textField(ctx, [...path, at, "url"], "URL", { required: true }),
      itemButtons(ctx, path, at, list.length, `audit ${audit?.name ?? at + 1}`)))),
    button("Add audit", () => add(ctx, path, { name: fresh(list, "books"), url: "http://127.0.0.1:9/audit" }, list.length), { glyph: "+", id: `${idOf(path)}-add`, class: "quiet" }));
}

function limitsSection(ctx, base, key) {
  const path = [...base, "limits"];
  const found = ctx.source.get([...path, "faults"]);
  const allowed = Array.isArray(found) ? found.map(String) : [];
  const tick = (kind, on) => ctx.edit(() => {
    if (on) ctx.source.insert([...path, "faults"], kind);
    else ctx.source.remove([...path, "faults", allowed.indexOf(kind)]);
  }, null);
  return section(ctx, `${key}limits`, "Limits", [path.join("/")], [
    h("div", { class: "fields", key: "most" },
      textField(ctx, [...path, "max_rate"], "Most arrivals a second", { type: "rate", placeholder: "no limit" }),
      textField(ctx, [...path, "max_users"], "Most users at once", { type: "whole", placeholder: "no limit" })),
    h("fieldset", { class: "rows", key: "faults", id: idOf([...path, "faults"]), tabindex: "-1" },
      h("legend", null, "Faults that are allowed"),
      h("div", { class: "ticks-row" }, ctx.known.faults.map((kind) => h("label", { class: "check", key: kind.kind },
        h("input", { type: "checkbox", checked: allowed.includes(kind.kind), on: { change: (event) => tick(kind.kind, event.target.checked) } }), kind.kind))),
      errorsOf(problemsAt(ctx, [...path, "faults"]), idOf([...path, "faults"]))),
  ], { hint: "Bounds that no experiment on this target may pass." });
}
