// Shows moments in the viewer's time zone. Servers write <time datetime="…Z">; nothing else holds a moment.

const full = new Intl.DateTimeFormat(undefined, { dateStyle: "full", timeStyle: "long" });

function two(number) {
  return String(number).padStart(2, "0");
}

// The one way a moment is written: 2026-11-23 15:04:05 in the viewer's zone.
export function absolute(date) {
  const day = `${date.getFullYear()}-${two(date.getMonth() + 1)}-${two(date.getDate())}`;
  return `${day} ${two(date.getHours())}:${two(date.getMinutes())}:${two(date.getSeconds())}`;
}

export function relative(date, now = new Date()) {
  const seconds = Math.round((now - date) / 1000);
  if (seconds < 5) return "just now";
  if (seconds < 60) return `${seconds} s ago`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ago`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ago`;
  const days = Math.floor(seconds / 86_400);
  return days === 1 ? "1 day ago" : `${days} days ago`;
}

// Names the zone in which moments are shown: Europe/Berlin (UTC+01:00).
export function nameZone(element) {
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  const minutes = -new Date().getTimezoneOffset();
  const offset = `UTC${minutes < 0 ? "−" : "+"}${two(Math.floor(Math.abs(minutes) / 60))}:${two(Math.abs(minutes) % 60)}`;
  element.textContent = `Times are in ${zone}${minutes === 0 ? "" : ` (${offset})`}`;
}

export function showTimes(root) {
  for (const element of root.querySelectorAll("time[datetime]")) {
    const date = new Date(element.dateTime);
    if (Number.isNaN(date.getTime())) continue;
    // What lies ahead is not "just now": it is written in full.
    const text = element.dataset.relative === undefined || date > Date.now() + 5000 ? absolute(date) : relative(date);
    if (element.textContent !== text) element.textContent = text;
    element.title = full.format(date);
  }
}
