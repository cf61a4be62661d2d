// The pane with the YAML text: line numbers, jumping to a line, and one undo for what is typed there and in the form.

export class TextPane {
  // `changed` is told of every change by typing or undoing.
  constructor(area, gutter, changed) {
    this.area = area;
    this.gutter = gutter;
    this.changed = changed;
    this.wrong = new Set();
    this.past = [{ text: area.value, from: 0, to: 0 }];
    this.future = [];
    this.lastTag = null;
    this.lastAt = 0;
    area.addEventListener("input", () => {
      this.remember("typed");
      this.number();
      changed(false);
    });
    area.addEventListener("scroll", () => (gutter.scrollTop = area.scrollTop));
    area.addEventListener("keydown", (event) => this.indent(event));
    const form = area.form;
    form.addEventListener("beforeinput", (event) => {
      if (event.inputType === "historyUndo" || event.inputType === "historyRedo") {
        event.preventDefault();
        this.travel(event.inputType === "historyUndo");
      }
    });
    form.addEventListener("keydown", (event) => {
      if (!(event.ctrlKey || event.metaKey) || event.altKey) return;
      const key = event.key.toLowerCase();
      if (key !== "z" && key !== "y") return;
      event.preventDefault();
      this.travel(key === "z" && !event.shiftKey);
    });
    gutter.hidden = false;
    this.number();
  }

  get text() {
    return this.area.value;
  }

  // Shows another text; the caret stays at what it stood at. Changes with the same tag are undone together.
  show(text, tag) {
    this.replace(text);
    this.remember(tag);
    this.number();
  }

  replace(text) {
    const old = this.area.value;
    if (old === text) return;
    let start = 0;
    while (start < old.length && start < text.length && old[start] === text[start]) start += 1;
    let behind = 0;
    const most = Math.min(old.length, text.length) - start;
    while (behind < most && old[old.length - 1 - behind] === text[text.length - 1 - behind]) behind += 1;
    const top = this.area.scrollTop;
    this.area.setRangeText(text.slice(start, text.length - behind), start, old.length - behind, "preserve");
    this.area.scrollTop = top;
  }

  remember(tag) {
    const now = performance.now();
    const entry = { text: this.area.value, from: this.area.selectionStart, to: this.area.selectionEnd };
    if (entry.text === this.past.at(-1).text) return;
    const together = tag !== null && tag === this.lastTag && now - this.lastAt < 1200 && this.past.length > 1;
    if (together) this.past[this.past.length - 1] = entry;
    else this.past.push(entry);
    if (this.past.length > 500) this.past.shift();
    this.future = [];
    this.lastTag = tag;
    this.lastAt = now;
  }

  // One step back or forth.
  travel(back) {
    if (back && this.past.length < 2) return;
    if (!back && this.future.length === 0) return;
    if (back) this.future.push(this.past.pop());
    else this.past.push(this.future.pop());
    const entry = this.past.at(-1);
    this.lastTag = null;
    this.replace(entry.text);
    if (document.activeElement === this.area) this.area.setSelectionRange(entry.from, entry.to);
    this.number();
    this.changed(true);
  }

  // The next change is undone by itself.
  settle() {
    this.lastTag = null;
  }

  // Marks the lines that problems stand in.
  mark(lines) {
    this.wrong = new Set(lines);
    this.number();
  }

  number() {
    const lines = this.area.value.split("\n").length;
    const children = this.gutter.children;
    while (children.length < lines) {
      const line = document.createElement("div");
      line.textContent = String(children.length + 1);
      this.gutter.append(line);
    }
    while (children.length > lines) children[children.length - 1].remove();
    for (let at = 0; at < lines; at += 1) children[at].classList.toggle("wrong", this.wrong.has(at + 1));
    this.gutter.scrollTop = this.area.scrollTop;
  }

  // Selects a line and brings it into sight.
  jump(number) {
    const lines = this.area.value.split("\n");
    const at = Math.min(Math.max(number, 1), lines.length) - 1;
    const start = lines.slice(0, at).reduce((sum, line) => sum + line.length + 1, 0);
    const height = parseFloat(getComputedStyle(this.area).lineHeight);
    this.area.focus();
    this.area.setSelectionRange(start, start + lines[at].length);
    this.area.scrollTop = Math.max(0, at * height - this.area.clientHeight / 2);
    this.area.closest(".editor").scrollIntoView({ block: "nearest" });
  }

  // Enter keeps the indentation of the line. Tab goes on to the next field, as everywhere.
  indent(event) {
    if (event.key !== "Enter" || event.isComposing || event.ctrlKey || event.metaKey) return;
    const { selectionStart: from, selectionEnd: to, value } = this.area;
    const line = value.slice(value.lastIndexOf("\n", from - 1) + 1, from);
    const spaces = /^ *(- )?/.exec(line)[0].replace("-", " ");
    if (spaces === "") return;
    event.preventDefault();
    this.area.setRangeText(`\n${spaces}`, from, to, "end");
    this.area.dispatchEvent(new Event("input", { bubbles: true }));
  }
}
