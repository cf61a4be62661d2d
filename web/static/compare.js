// The overlaid charts of two runs.
import { ChartGroup, columnsOf, reach } from "./charts.js";
import { bandOf } from "./bands.js";
import { count, ms, share } from "./numbers.js";

const page = document.getElementById("comparison");
const chosen = document.getElementById("request");
const form = document.getElementById("filter");
let runs = [];

const group = new ChartGroup({
  bands: () => runs.flatMap((run, index) => run.faults.map((fault) => bandOf(fault, run.seconds, index ? "B: " : "A: ", index ? "--band-b" : "--band-a", index ? "--chart-b" : "--chart-a"))),
});
const lines = [
  { label: "A", colour: "--chart-a", width: 2 },
  { label: "B", colour: "--chart-b", width: 2, dash: [7, 4] },
];
const milliseconds = (value) => `${count(value)} ms`;
group.add("chart-rate", { show: (value) => `${count(value)} /s`, axis: count, lines });
group.add("chart-errors", { show: share, axis: (value) => `${Number((value * 100).toFixed(2))} %`, floor: 0.01, lines });
const p50 = group.add("chart-p50", { show: ms, axis: milliseconds, lines });
const p99 = group.add("chart-p99", { show: ms, axis: milliseconds, lines });

async function json(path) {
  const answer = await fetch(path, { headers: { accept: "application/json" } });
  if (!answer.ok) throw new Error(`${path} answered ${answer.status}`);
  return answer.json();
}

async function load(id) {
  const [detail, { series }] = await Promise.all([json(`/api/v1/runs/${id}`), json(`/api/v1/runs/${id}/series`)]);
  return { series, faults: detail.faults, planned: detail.planned_s, seconds: reach(series.all ?? []) };
}

function draw() {
  const name = chosen.value || "all";
  const seconds = Math.max(...runs.map((run) => run.seconds));
  const [a, b] = runs.map((run) => columnsOf(run.series[name] ?? [], seconds));
  const pair = (column) => [a[column], b[column]];
  group.update(seconds, seconds, [pair("rate"), pair("share"), pair("p50"), pair("p99")]);
  document.body.dataset.points = String(seconds);
}

document.getElementById("log").addEventListener("change", (event) => {
  for (const chart of [p50, p99]) chart.setLog(event.target.checked);
});
const reset = document.getElementById("zoom-out");
document.addEventListener("kennel:zoom", (event) => (reset.hidden = event.detail === null));
reset.addEventListener("click", () => group.zoomTo(null));
chosen.addEventListener("change", () => form.requestSubmit());

Promise.all([load(page.dataset.a), load(page.dataset.b)])
  .then((loaded) => {
    runs = loaded;
    draw();
  })
  .catch((problem) => {
    for (const waiting of document.querySelectorAll(".plot .waiting")) waiting.textContent = `Could not load the measurements: ${problem.message}`;
  });
