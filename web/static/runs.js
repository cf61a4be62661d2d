// The run list: choosing two runs to compare, and keeping the list fresh.

const REFRESH_EVERY_MS = 3000;
const form = document.getElementById("runs");

function boxes() {
  return [...form.querySelectorAll("input[name=run]")];
}

function check() {
  const chosen = boxes().filter((box) => box.checked);
  const button = document.getElementById("compare-button");
  if (!button) return;
  button.disabled = chosen.length !== 2;
  for (const box of boxes()) box.disabled = chosen.length === 2 && !box.checked;
  document.getElementById("compare-hint").textContent = ["Select two runs to compare them.", "Select one more run.", "Two runs selected."][chosen.length];
}

async function refresh() {
  if (document.hidden) return;
  let fresh;
  try {
    const answer = await fetch(location.href, { headers: { accept: "text/html" } });
    if (!answer.ok) return;
    fresh = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("run-list");
  } catch {
    return; // The next refresh tries again.
  }
  const old = document.getElementById("run-list");
  if (!fresh || fresh.innerHTML === form.dataset.was) return;
  form.dataset.was = fresh.innerHTML;
  const chosen = new Set(boxes().filter((box) => box.checked).map((box) => box.value));
  const focused = document.activeElement?.id;
  old.replaceWith(document.adoptNode(fresh));
  for (const box of boxes()) box.checked = chosen.has(box.value);
  if (focused && document.activeElement === document.body) document.getElementById(focused)?.focus();
  check();
  fresh.dispatchEvent(new CustomEvent("kennel:replaced", { bubbles: true }));
}

form.addEventListener("change", check);
check();
setInterval(refresh, REFRESH_EVERY_MS);
