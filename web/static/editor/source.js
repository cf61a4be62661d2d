// The YAML text, which is the one truth: reading it, and changing single values in it so that comments and whatever
// else was written stay as they are.
import { Document, isMap, isScalar, isSeq, parseDocument, visit } from "../vendor/yaml-2.9.1/yaml.min.js";

export class Source {
  constructor(text, order = []) {
    // Fields of the file in the order in which they are written when they are new.
    this.order = order;
    this.value = {};
    this.read(text);
  }

  // Takes another text over. A text that is no YAML leaves the last value standing, and says why in `broken`.
  read(text) {
    this.text = text;
    this.doc = parseDocument(text);
    const error = this.doc.errors[0];
    this.broken = error ? { message: error.message.split("\n")[0], line: error.linePos?.[0]?.line ?? 1 } : null;
    if (this.broken) return;
    let value = null;
    try {
      value = this.doc.toJS({ maxAliasCount: 100 });
    } catch (error) {
      this.broken = { message: error.message, line: 1 };
      return;
    }
    this.value = value !== null && typeof value === "object" && !Array.isArray(value) ? value : {};
    if (this.doc.contents !== null && !isMap(this.doc.contents)) {
      this.broken = { message: "the file is no mapping of fields", line: 1 };
    }
  }

  get(path) {
    let at = this.value;
    for (const part of path) {
      if (at === null || typeof at !== "object") return undefined;
      at = at[part];
    }
    return at;
  }

  // Writes a value; undefined removes the field.
  set(path, value) {
    if (this.broken) return;
    if (value === undefined) return this.remove(path);
    const node = this.doc.getIn(path, true);
    if (isScalar(node) && isPlain(value) && this.spliceScalar(node, path, value)) return;
    this.ready(path);
    if (isScalar(node) && isPlain(value)) {
      node.value = value;
      if (typeof value === "string" && value.includes("\n")) node.type = "BLOCK_LITERAL";
    } else {
      const made = this.doc.createNode(value);
      if (typeof value === "string" && value.includes("\n")) made.type = "BLOCK_LITERAL";
      this.put(path, made);
    }
    this.write();
  }

  // Removes a field or an item, and the mapping that held it when it is empty then and may be absent.
  remove(path) {
    if (this.broken || this.doc.getIn(path, true) === undefined) return;
    this.doc.deleteIn(path);
    const parent = path.slice(0, -1);
    const left = parent.length > 0 ? this.doc.getIn(parent, true) : null;
    if (left && (isMap(left) || isSeq(left)) && left.items.length === 0 && typeof parent.at(-1) === "string") {
      this.doc.deleteIn(parent);
    }
    this.write();
  }

  // Adds an item to a list, at the end unless told where.
  insert(path, value, index) {
    if (this.broken) return;
    this.ready(path);
    const list = this.doc.getIn(path, true);
    if (!isSeq(list)) {
      const made = this.doc.createNode([value]);
      this.put(path, made);
    } else {
      const item = this.doc.createNode(value);
      const like = list.items.at(-1);
      if (isMap(item) && isMap(like)) item.flow = like.flow;
      if (isMap(item) && like === undefined) list.flow = false;
      list.items.splice(index ?? list.items.length, 0, item);
    }
    this.write();
  }

  // Moves an item of a list to another place in it.
  move(path, from, to) {
    const list = this.doc.getIn(path, true);
    if (this.broken || !isSeq(list) || to < 0 || to >= list.items.length || from === to) return;
    const [item] = list.items.splice(from, 1);
    list.items.splice(to, 0, item);
    this.write();
  }

  // Adds a copy of an item after it, with some fields changed.
  duplicate(path, index, changes) {
    const list = this.doc.getIn(path, true);
    if (this.broken || !isSeq(list)) return;
    const copy = list.items[index].clone();
    copy.commentBefore = null;
    for (const [field, value] of Object.entries(changes)) copy.set(field, value);
    list.items.splice(index + 1, 0, copy);
    this.write();
  }

  // Line (from 1) of a field, or of the nearest one above it.
  line(path) {
    for (let length = path.length; length > 0; length -= 1) {
      const node = this.doc.getIn(path.slice(0, length), true);
      if (node?.range) return this.text.slice(0, node.range[0]).split("\n").length;
    }
    return 1;
  }

  // Replaces the characters of one scalar and nothing else.
  spliceScalar(node, path, value) {
    if (!node.range || String(node.type).startsWith("BLOCK") || String(value).includes("\n") || node.anchor) return false;
    let flow = false;
    for (let length = 0; length < path.length; length += 1) {
      const holder = length === 0 ? this.doc.contents : this.doc.getIn(path.slice(0, length), true);
      flow ||= Boolean(holder?.flow);
    }
    const written = scalarText(value, node.type, flow);
    let [start, end] = node.range;
    // An empty value stands right behind its colon.
    const before = start === end && !/\s$/.test(this.text.slice(0, start)) ? " " : "";
    this.read(this.text.slice(0, start) + before + written + this.text.slice(end));
    return true;
  }

  // Sees to it that everything above a path can hold it.
  ready(path) {
    if (this.doc.contents === null) this.doc.contents = this.doc.createNode({});
    for (let length = 1; length < path.length; length += 1) {
      const above = path.slice(0, length);
      const node = this.doc.getIn(above, true);
      if (isMap(node) || isSeq(node)) {
        // `{}` and `[]` grow as blocks.
        if (node.items.length === 0) node.flow = false;
        continue;
      }
      this.put(above, this.doc.createNode(typeof path[length] === "number" ? [] : {}));
    }
  }

  // Puts a node in place; a new field of the file comes where the format has it.
  put(path, node) {
    const [field] = path;
    if (path.length === 1 && !this.doc.contents.has(field) && this.order.includes(field)) {
      const later = this.order.slice(this.order.indexOf(field) + 1);
      const items = this.doc.contents.items;
      const at = items.findIndex((pair) => later.includes(String(pair.key?.value ?? pair.key)));
      const pair = this.doc.createPair(field, node);
      const spacious = items.some((other) => other.key?.spaceBefore);
      if (spacious && (isMap(node) || isSeq(node))) pair.key = Object.assign(this.doc.createNode(field), { spaceBefore: true });
      items.splice(at < 0 ? items.length : at, 0, pair);
      return;
    }
    this.doc.setIn(path, node);
  }

  // The document as text, in the manner in which it was written.
  write() {
    const text = this.doc.toString({
      lineWidth: this.foldedWidth(),
      indentSeq: !/^[^\s#-][^\n]*:[ \t]*(#[^\n]*)?\n- /m.test(this.text),
      flowCollectionPadding: !/[:\-[,] *\{[^\s}]/.test(this.text),
      indent: /^[^\s#-][^\n]*:[ \t]*\n {4}\S/m.test(this.text) ? 4 : 2,
    });
    const tight = /\[[^\s\]]/.test(this.text);
    this.read(text);
    if (tight) this.tighten();
  }

  // Takes the spaces within brackets out again, where none were before.
  tighten() {
    const spaces = [];
    const whole = this.text;
    visit(this.doc, {
      Seq(_, node) {
        if (!node.flow || !node.range) return;
        const [start, end] = node.range;
        const inner = whole.slice(start, end);
        if (inner.startsWith("[ ") && inner.endsWith(" ]") && !inner.includes("\n")) spaces.push(start + 1, end - 2);
      },
    });
    let text = whole;
    for (const at of spaces.sort((a, b) => b - a)) text = text.slice(0, at) + text.slice(at + 1);
    if (spaces.length > 0) this.read(text);
  }

  // How wide folded texts are, so that they stay folded where they were; 0 for no folding.
  foldedWidth() {
    if (!/: *>[-+]?\d* *$/m.test(this.text)) return 0;
    return Math.max(80, ...this.text.split("\n").map((line) => line.length));
  }
}

function isPlain(value) {
  return value === null || ["string", "number", "boolean"].includes(typeof value);
}

// A scalar as text, with the quotes it had where it had some.
function scalarText(value, type, flow) {
  const doc = new Document([value]);
  doc.contents.flow = flow;
  if (typeof value === "string" && String(type).startsWith("QUOTE")) doc.contents.items[0].type = type;
  const text = doc.toString({ lineWidth: 0, flowCollectionPadding: false }).trim();
  return flow ? text.slice(1, -1) : text.replace(/^- /, "");
}
