// Draws a tree of nodes into the page and changes what is there as little as possible, so that focus, caret and
// scrolling survive every change.

const SVG = "http://www.w3.org/2000/svg";
const PROPERTIES = new Set(["value", "checked", "selected", "open", "disabled", "hidden"]);

// A node: `h("input", { key, class, on: { input }, style: { left: "3%" } }, ...children)`.
export function h(tag, props, ...children) {
  return { tag, props: props ?? {}, children: children.flat(Infinity).filter((child) => child || child === 0) };
}

// A node of a drawing.
export function s(tag, props, ...children) {
  return { ...h(tag, props, ...children), svg: true };
}

// Makes `root` show `nodes`. The value of the focused field stays as it was typed unless `force` says otherwise.
export function render(root, nodes, force = false) {
  patchChildren(root, [nodes].flat(Infinity).filter(Boolean), force);
}

function keyOf(node, index) {
  return node.props?.key !== undefined ? `${node.tag}:${node.props.key}` : `${node.tag ?? "#"}:#${index}`;
}

function patchChildren(parent, nodes, force) {
  const old = new Map();
  for (const child of parent.childNodes) if (child.kennelKey !== undefined) old.set(child.kennelKey, child);
  const kept = new Set();
  let at = parent.firstChild;
  const unkeyed = new Map();
  for (const node of nodes) {
    const kind = typeof node === "object" ? node.tag : "#";
    const index = unkeyed.get(kind) ?? 0;
    if (typeof node !== "object" || node.props.key === undefined) unkeyed.set(kind, index + 1);
    const key = typeof node === "object" ? keyOf(node, index) : `#:#${index}`;
    let element = old.get(key);
    if (!element || kept.has(element)) element = create(node, key);
    kept.add(element);
    patch(element, node, force);
    if (element !== at) parent.insertBefore(element, at);
    else at = at.nextSibling;
  }
  for (const child of [...parent.childNodes]) if (!kept.has(child)) child.remove();
}

function create(node, key) {
  let element;
  if (typeof node !== "object") element = document.createTextNode("");
  else element = node.svg ? document.createElementNS(SVG, node.tag) : document.createElement(node.tag);
  element.kennelKey = key;
  element.kennelProps = {};
  return element;
}

function patch(element, node, force) {
  if (typeof node !== "object") {
    const text = String(node);
    if (element.data !== text) element.data = text;
    return;
  }
  const before = element.kennelProps;
  for (const name of Object.keys(before)) if (!(name in node.props)) setProp(element, name, undefined, force);
  // A list's choices must be there before one of them is chosen.
  patchChildren(element, node.children, force);
  for (const [name, value] of Object.entries(node.props)) setProp(element, name, value, force);
  element.kennelProps = node.props;
}

function setProp(element, name, value, force) {
  if (name === "key") return;
  if (name === "on") {
    for (const type of Object.keys(element.kennelProps?.on ?? {})) if (!value?.[type]) element[`on${type}`] = null;
    for (const [type, handler] of Object.entries(value ?? {})) element[`on${type}`] = handler;
  } else if (name === "style") {
    for (const [property, text] of Object.entries(value ?? {})) {
      if (element.style.getPropertyValue(property) !== text) element.style.setProperty(property, text);
    }
  } else if (name === "open") {
    // Whoever opened or closed it may have the last word.
    if (element.kennelProps?.open !== value) element.open = Boolean(value);
  } else if (PROPERTIES.has(name)) {
    const text = name === "value" ? String(value ?? "") : Boolean(value);
    if (name === "value" && element === document.activeElement && !force && element.tagName !== "SELECT") return;
    if (element[name] !== text) element[name] = text;
  } else if (value === undefined || value === null || value === false) {
    element.removeAttribute(name);
  } else {
    const text = value === true ? "" : String(value);
    if (element.getAttribute(name) !== text) element.setAttribute(name, text);
  }
}
