// The form of a calendar: each row shows only what its kind of window needs.

function suit(row) {
  const kind = row.querySelector("[data-window-kind]").value;
  for (const part of row.querySelectorAll("[data-for]")) part.hidden = !part.dataset.for.split(" ").includes(kind);
}

for (const row of document.querySelectorAll(".window-row")) {
  suit(row);
  row.querySelector("[data-window-kind]").addEventListener("change", () => suit(row));
}
