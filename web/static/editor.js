// The experiment editor: line numbers, validating in place, and jumping from a problem to its line.
import { csrf } from "./csrf.js";

const form = document.getElementById("new-run");
const text = document.getElementById("experiment");
const gutter = document.getElementById("gutter");
let saved = text.value;

function problemLines() {
  return new Set([...document.querySelectorAll("#result [data-line]")].map((link) => Number(link.dataset.line)));
}

function showNumbers() {
  const wrong = problemLines();
  const lines = text.value.split("\n").length;
  gutter.replaceChildren(
    ...Array.from({ length: lines }, (_, index) => {
      const line = document.createElement("div");
      line.textContent = String(index + 1);
      if (wrong.has(index + 1)) line.className = "wrong";
      return line;
    }),
  );
  gutter.scrollTop = text.scrollTop;
}

function selectLine(number) {
  const lines = text.value.split("\n");
  const at = Math.min(Math.max(number, 1), lines.length) - 1;
  const start = lines.slice(0, at).reduce((sum, line) => sum + line.length + 1, 0);
  const height = parseFloat(getComputedStyle(text).lineHeight);
  text.focus();
  text.setSelectionRange(start, start + lines[at].length);
  text.scrollTop = Math.max(0, at * height - text.clientHeight / 2);
}

document.addEventListener("click", (event) => {
  const link = event.target.closest("#result [data-line]");
  if (!link) return;
  event.preventDefault();
  selectLine(Number(link.dataset.line));
  text.closest(".editor").scrollIntoView({ block: "nearest" });
});

// Validating answers with this page; only its result is taken over, so that text, cursor and scrolling stay.
form.addEventListener("submit", async (event) => {
  if (event.submitter?.value !== "validate") {
    saved = text.value;
    return;
  }
  event.preventDefault();
  const body = new URLSearchParams(new FormData(form, event.submitter));
  const result = document.getElementById("result");
  try {
    const answer = await fetch(form.getAttribute("action"), { method: "POST", headers: csrf(), body });
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    result.replaceWith(document.adoptNode(page.getElementById("result")));
  } catch {
    result.textContent = "Could not reach Kennel. Is it still running?";
  }
  showNumbers();
});

for (const link of document.querySelectorAll(".library a")) {
  link.addEventListener("click", (event) => {
    if (text.value !== saved && text.value.trim() !== "" && !confirm("Replace what you have written?")) event.preventDefault();
  });
}

text.addEventListener("input", showNumbers);
text.addEventListener("scroll", () => (gutter.scrollTop = text.scrollTop));
gutter.hidden = false;
showNumbers();
