// Messages that pass by themselves, read aloud by screen readers.

const STAYS_MS = 6000;

export function toast(text, tone = "") {
  const message = document.createElement("p");
  message.className = tone;
  message.textContent = text;
  document.getElementById("toasts").append(message);
  setTimeout(() => message.remove(), STAYS_MS);
}
