// The charts of one run's page, finished or live.
import { ChartGroup, columnsOf, reach } from "./charts.js";
import { bandOf } from "./bands.js";
import { count, ms, share } from "./numbers.js";
import { follow } from "./live.js";

const page = document.getElementById("run");
const api = `/api/v1/runs/${page.dataset.runId}`;

// What is known of the run: seconds by request name, then by second; faults by name; phases.
// Nothing is drawn before the past is known: half a picture would mislead.
const run = { series: new Map(), faults: [], phases: [], planned: Number(page.dataset.planned), measured: 0, known: false };

const group = new ChartGroup({
  bands: () => run.faults.map((fault) => bandOf(fault, run.measured)),
  strip: document.getElementById("strip"),
  phases: () => run.phases,
});
const perSecond = (value) => `${count(value)} /s`;
const rates = group.add("chart-rate", {
  show: perSecond,
  axis: (value) => count(value),
  lines: [
    { label: "requests", colour: "--chart-rate", fill: "--chart-rate-fill" },
    { label: "errors", colour: "--chart-errors", dash: [6, 3], fill: "--chart-errors-fill" },
    { label: "dropped arrivals", colour: "--chart-dropped", dash: [2, 3] },
  ],
});
group.add("chart-errors", {
  show: share,
  axis: (value) => `${Number((value * 100).toFixed(2))} %`,
  floor: 0.01,
  lines: [{ label: "error rate", colour: "--chart-errors", fill: "--chart-errors-fill" }],
});
const times = group.add("chart-times", {
  show: ms,
  axis: (value) => `${count(value) === "0" && value > 0 ? Number(value.toPrecision(1)) : count(value)} ms`,
  lines: [
    { label: "p50", colour: "--chart-p50" },
    { label: "p90", colour: "--chart-p90", dash: [7, 3] },
    { label: "p99", colour: "--chart-p99", width: 2.25 },
  ],
});
rates.figure.dataset.ready = "true";

const chosen = document.getElementById("request");

function draw() {
  if (!run.known) return;
  const points = [...(run.series.get(chosen.value) ?? new Map()).values()];
  const all = [...(run.series.get("all") ?? new Map()).values()];
  run.measured = Math.max(reach(all), reach(points));
  const seconds = run.measured;
  const columns = columnsOf(points, seconds);
  group.update(seconds, Math.max(run.planned, seconds), [
    [columns.rate, columns.errors, columns.dropped],
    [columns.share],
    [columns.p50, columns.p90, columns.p99],
  ]);
  document.body.dataset.points = String(points.length);
}

export function addSeconds(seconds) {
  for (const [name, second] of Object.entries(seconds)) {
    if (!run.series.has(name)) addName(name);
    run.series.get(name).set(second.second, second);
  }
  draw();
}

function addName(name) {
  run.series.set(name, new Map());
  if (![...chosen.options].some((option) => option.value === name)) chosen.add(new Option(name, name));
}

async function json(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

// Fetches everything anew: at first, after a break in the live stream, and when the run has been judged.
export async function load() {
  const newer = [];
  run.newer = newer;
  const [detail, { series }] = await Promise.all([json(api), json(`${api}/series`)]);
  run.faults = detail.faults;
  newer.forEach(keepFault); // Told while the answer was under way.
  run.phases = detail.phases;
  run.planned = detail.planned_s;
  run.known = true;
  for (const [name, points] of Object.entries(series)) {
    if (!run.series.has(name)) addName(name);
    const known = run.series.get(name);
    for (const point of points) known.set(point.second, point);
  }
  run.newer = null;
  draw();
}

export function setFault(fault) {
  run.newer?.push(fault);
  keepFault(fault);
  if (run.known) group.redraw();
}

function keepFault(fault) {
  const at = run.faults.findIndex((known) => known.name === fault.name);
  if (at === -1) run.faults.push(fault);
  else run.faults[at] = fault;
}

// Lengthens the last phase, or begins the next, as the live stream tells.
export function setPhase(state, second) {
  const known = ["warm-up", "steady", "fault", "recovery"];
  if (!run.known || !known.includes(state)) return;
  const last = run.phases.at(-1);
  if (last?.phase === state) last.to_s = Math.max(last.to_s, second);
  else run.phases.push({ phase: state, from_s: last ? Math.max(last.to_s, second - 1) : 0, to_s: second });
}

export function measured() {
  return run.measured;
}

function filterRequests() {
  for (const body of document.querySelectorAll("#requests tbody[data-request]")) {
    body.hidden = chosen.value !== "all" && body.dataset.request !== chosen.value;
  }
}

chosen.addEventListener("change", () => {
  draw();
  filterRequests();
});
document.addEventListener("kennel:replaced", filterRequests);
document.getElementById("log").addEventListener("change", (event) => times.setLog(event.target.checked));

const reset = document.getElementById("zoom-out");
document.addEventListener("kennel:zoom", (event) => (reset.hidden = event.detail === null));
reset.addEventListener("click", () => group.zoomTo(null));


load().catch((problem) => {
  run.known = true;
  for (const waiting of document.querySelectorAll(".plot .waiting")) waiting.textContent = `Could not load the measurements: ${problem.message}`;
});
if (page.dataset.follow === "true") follow({ api, addSeconds, setFault, setPhase, measured, load });
