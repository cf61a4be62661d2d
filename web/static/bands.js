// Draws faults as bands behind the lines of a chart, and phases as a strip beneath the charts.
import { colour } from "./colours.js";

const FONT = "11px system-ui, sans-serif";

// A fault's band in seconds: where it really was, as far as that is known, else where it is planned.
export function bandOf(fault, now, prefix = "", fill = "--band", edge = "--band-edge") {
  const planned = fault.injected_at_s == null;
  const from = fault.injected_at_s ?? fault.planned_start_s;
  const plannedEnd = from + (fault.planned_duration_s ?? 0);
  const over = ["reverted", "failed", "stuck"].includes(fault.state);
  const to = fault.reverted_at_s ?? (planned || over ? plannedEnd : Math.max(now, from));
  const state = fault.state === "failed" || fault.state === "stuck" ? ` (${fault.state})` : "";
  return { from, to: Math.max(to, from), planned, label: `${prefix}${fault.name}${state}`, fill, edge };
}

// A uPlot plugin; `bands` gives the bands at the time of drawing.
export function bandsPlugin(bands) {
  return {
    hooks: {
      drawClear: [(u) => drawBands(u, bands())],
      draw: [(u) => drawLabels(u, bands())],
    },
  };
}

function visible(u, band) {
  const { min, max } = u.scales.x;
  return min != null && band.to >= min && band.from <= max;
}

function edges(u, band) {
  const left = Math.max(u.valToPos(band.from, "x", true), u.bbox.left);
  const right = Math.min(u.valToPos(band.to, "x", true), u.bbox.left + u.bbox.width);
  return [left, Math.max(right, left)];
}

function drawBands(u, bands) {
  const { ctx, bbox } = u;
  const dpr = devicePixelRatio;
  ctx.save();
  ctx.lineWidth = dpr;
  for (const band of bands.filter((band) => visible(u, band))) {
    const [left, right] = edges(u, band);
    ctx.strokeStyle = colour(band.edge);
    ctx.setLineDash(band.planned ? [4 * dpr, 4 * dpr] : []);
    if (!band.planned) {
      ctx.fillStyle = colour(band.fill);
      ctx.fillRect(left, bbox.top, right - left, bbox.height);
    }
    ctx.beginPath();
    for (const x of left === right ? [left] : [left, right]) {
      ctx.moveTo(x, bbox.top);
      ctx.lineTo(x, bbox.top + bbox.height);
    }
    ctx.stroke();
  }
  ctx.restore();
}

// Labels stand at the top of their bands; where two would overlap, the later one goes a line down.
function drawLabels(u, bands) {
  const { ctx, bbox } = u;
  const dpr = devicePixelRatio;
  const lanes = [];
  ctx.save();
  ctx.font = FONT.replace("11px", `${11 * dpr}px`);
  ctx.textBaseline = "top";
  ctx.textAlign = "left";
  ctx.setLineDash([]);
  const ordered = bands.filter((band) => visible(u, band)).sort((a, b) => a.from - b.from);
  for (const band of ordered) {
    const [left] = edges(u, band);
    const room = bbox.left + bbox.width;
    let text = band.label;
    const limit = Math.min(220 * dpr, bbox.width * 0.6);
    while (text.length > 4 && ctx.measureText(text).width > limit) text = `${text.slice(0, -2).trimEnd()}…`;
    const width = ctx.measureText(text).width;
    const x = Math.min(left + 4 * dpr, room - width - 4 * dpr);
    let lane = lanes.findIndex((end) => end + 8 * dpr <= x);
    if (lane === -1) lane = lanes.length;
    lanes[lane] = x + width;
    const y = bbox.top + (3 + lane * 15) * dpr;
    ctx.fillStyle = colour("--surface");
    ctx.globalAlpha = 0.75;
    ctx.fillRect(x - 2 * dpr, y - dpr, width + 4 * dpr, 14 * dpr);
    ctx.globalAlpha = 1;
    ctx.fillStyle = colour(band.edge);
    ctx.fillText(text, x, y);
  }
  ctx.restore();
}

// Lays the phases out under the plot of `u`, on the same scale.
export function drawStrip(strip, u, phases) {
  const { min, max } = u.scales.x;
  if (min == null || max <= min) return;
  const dpr = devicePixelRatio;
  const [left, width] = [u.bbox.left / dpr, u.bbox.width / dpr];
  strip.replaceChildren(
    ...phases
      .map((phase) => ({ ...phase, from: Math.max(phase.from_s, min), to: Math.min(phase.to_s, max) }))
      .filter((phase) => phase.to > phase.from)
      .map((phase) => {
        const part = document.createElement("i");
        const size = ((phase.to - phase.from) / (max - min)) * width;
        part.className = phase.phase;
        part.title = phase.phase;
        part.textContent = size > 52 ? phase.phase : "";
        part.style.left = `${left + ((phase.from - min) / (max - min)) * width}px`;
        part.style.width = `${size}px`;
        return part;
      }),
  );
}
