// Pages about tests: a click on a mark leads to that attempt, arrow keys walk over a matrix, files can be dropped.

// Marks of a strip are too small to be links of their own; with a mouse each leads to its attempt all the same.
document.addEventListener("click", (event) => {
  const mark = event.target.closest(".strip [data-run]");
  if (mark && !event.ctrlKey && !event.metaKey && !event.shiftKey && event.detail > 0) {
    event.preventDefault();
    location.href = `/suite-runs/${mark.dataset.run}/tests/${mark.closest(".strip").dataset.test}`;
    return;
  }
  const bar = event.target.closest("[data-href]");
  if (bar) location.href = bar.dataset.href;
});

// Where the walk over a matrix goes on after the page with its next part is loaded.
const ARRIVAL = "kennel-matrix";

function leave(part, from) {
  const link = document.querySelector(`[data-part="${part}"]`);
  if (!link) return;
  try {
    sessionStorage.setItem(ARRIVAL, JSON.stringify({ part, ...from, path: new URL(link.href).pathname }));
  } catch {
    // Without storage the next part opens all the same, and the walk begins at its first cell.
  }
  location.assign(link.href);
}

function arrival() {
  try {
    const from = JSON.parse(sessionStorage.getItem(ARRIVAL));
    sessionStorage.removeItem(ARRIVAL);
    return from?.path === location.pathname ? from : null;
  } catch {
    return null;
  }
}

function whenLoaded(act) {
  if (document.readyState === "complete") act();
  else addEventListener("load", () => requestAnimationFrame(act), { once: true });
}

// One cell at a time is in the order of the tab key; arrows move it (WAI-ARIA grid pattern).
function walk(table) {
  const rows = [...table.querySelectorAll("tbody tr")].map((row) => [...row.querySelectorAll("th, td")].map((cell) => cell.querySelector("a")));
  const links = rows.flat().filter(Boolean);
  links.forEach((link) => link.setAttribute("tabindex", "-1"));
  links[0]?.setAttribute("tabindex", "0");
  const place = (link) => {
    const row = rows.findIndex((cells) => cells.includes(link));
    return [row, rows[row]?.indexOf(link) ?? -1];
  };
  const go = (link) => {
    links.forEach((other) => other.setAttribute("tabindex", other === link ? "0" : "-1"));
    link.focus();
    link.scrollIntoView({ block: "nearest", inline: "nearest" });
  };
  // The next cell in a direction that holds something.
  const next = (row, column, down, right) => {
    for (let r = row + down, c = column + right; rows[r] && c >= 0 && c < rows[r].length; r += down, c += right) {
      if (rows[r][c]) return rows[r][c];
    }
    return null;
  };
  table.addEventListener("keydown", (event) => {
    const [row, column] = place(event.target.closest("a"));
    if (row < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    const filled = rows[row].filter(Boolean);
    const to = {
      ArrowUp: () => next(row, column, -1, 0),
      ArrowDown: () => next(row, column, 1, 0),
      ArrowLeft: () => next(row, column, 0, -1),
      ArrowRight: () => next(row, column, 0, 1),
      Home: () => filled[0],
      End: () => filled.at(-1),
      PageUp: () => rows.map((cells) => cells[column]).find(Boolean),
      PageDown: () => rows.map((cells) => cells[column]).findLast(Boolean),
    }[event.key];
    if (!to) return;
    event.preventDefault();
    const link = to();
    if (link) {
      go(link);
      return;
    }
    const part = { ArrowUp: "up", ArrowDown: "down", ArrowLeft: "newer", ArrowRight: "older" }[event.key];
    if (part) leave(part, { column, test: event.target.closest("tr").dataset.testId });
  });
  const from = arrival();
  if (from) {
    const same = table.querySelector(`tr[data-test-id="${CSS.escape(from.test)}"]`);
    const at = { up: rows.length - 1, down: 0 }[from.part] ?? Math.max(0, [...table.tBodies[0].rows].indexOf(same));
    const cells = rows[at] ?? [];
    const link = { newer: cells.findLast(Boolean), older: cells.slice(1).find(Boolean) }[from.part] ?? cells[from.column] ?? cells[0];
    // Once the page is loaded: whatever gets the focus before that loses it again.
    if (link) whenLoaded(() => go(link));
  }
  table.addEventListener("focusin", (event) => {
    const link = event.target.closest("tbody a");
    if (link) links.forEach((other) => other.setAttribute("tabindex", other === link ? "0" : "-1"));
  });
}

document.querySelectorAll("[data-matrix]").forEach(walk);

// A dropped file is as good as a chosen one; the form is sent the same way.
const drop = document.getElementById("drop");
if (drop) {
  const field = drop.querySelector("input[type=file]");
  const over = (event) => {
    if (![...event.dataTransfer.types].includes("Files")) return;
    event.preventDefault();
    drop.classList.add("over");
  };
  document.addEventListener("dragover", over);
  document.addEventListener("dragleave", (event) => event.relatedTarget === null && drop.classList.remove("over"));
  document.addEventListener("drop", (event) => {
    drop.classList.remove("over");
    if (event.dataTransfer.files.length === 0) return;
    event.preventDefault();
    field.files = event.dataTransfer.files;
    field.dispatchEvent(new Event("change", { bubbles: true }));
    field.form.querySelector("[name=suite]").focus();
  });
}
