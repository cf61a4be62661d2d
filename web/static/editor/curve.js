// The load profile as a curve: what it comes to second by second, drawn while it is typed.
import { s } from "./view.js";
import { duration, perSecond, seconds, short } from "./units.js";

export const WIDTH = 640;
const HEIGHT = 150;
const LEFT = 44;
const RIGHT = 8;
const TOP = 10;
const BOTTOM = 22;

// The corners of the load over time, `[second, amount]`, with its length; null as long as it cannot be drawn.
export function corners(load) {
  if (load?.model === "closed") {
    const length = seconds(load.duration);
    const users = Number(load.users);
    if (length === null || length <= 0 || !(users > 0)) return null;
    const ramp = Math.min(seconds(load.ramp_up ?? "0s") ?? 0, length);
    return { length, unit: "users", points: [[0, ramp > 0 ? 0 : users], [ramp, users], [length, users]] };
  }
  const stages = Array.isArray(load?.stages) ? load.stages : [];
  const points = [];
  let at = 0;
  for (const stage of stages) {
    const length = seconds(stage?.duration);
    const to = perSecond(stage?.rate);
    const from = stage?.from === undefined || stage.from === null ? to : perSecond(stage.from);
    if (length === null || to === null || from === null) return null;
    points.push([at, from], [at + length, to]);
    at += length;
  }
  return at > 0 ? { length: at, unit: "/s", points } : null;
}

// Moments for an axis, few enough to read.
export function ticks(length, most = 8) {
  const steps = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400];
  const step = steps.find((step) => length / step <= most) ?? length / most;
  return Array.from({ length: Math.floor(length / step + 1e-9) + 1 }, (_, at) => at * step);
}

export function curve(load) {
  const shape = corners(load);
  if (!shape) return null;
  const top = Math.max(...shape.points.map(([, amount]) => amount)) || 1;
  const x = (second) => LEFT + (second / shape.length) * (WIDTH - LEFT - RIGHT);
  const y = (amount) => HEIGHT - BOTTOM - (amount / top) * (HEIGHT - TOP - BOTTOM);
  const line = shape.points.map(([second, amount]) => `${x(second).toFixed(1)},${y(amount).toFixed(1)}`).join(" ");
  const warm = Math.min(seconds(load.warm_up ?? "0s") ?? 0, shape.length);
  const poisson = load.arrivals === "poisson";
  const label =
    `Load over ${duration(shape.length)}: up to ${short(top)} ${shape.unit === "/s" ? "arrivals a second" : "users"}` +
    (shape.unit === "/s" ? `, ${poisson ? "at random as independent users come" : "evenly spaced"}` : "") +
    (warm > 0 ? `, the first ${duration(warm)} warm up` : "");
  return s(
    "svg",
    { class: "curve", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, role: "img", "aria-label": label, id: "load-curve", "data-points": line },
    [0.5, 1].map((part) => [
      s("line", { key: `g${part}`, class: "grid", x1: LEFT, x2: WIDTH - RIGHT, y1: y(top * part), y2: y(top * part) }),
      s("text", { key: `t${part}`, x: LEFT - 6, y: y(top * part) + 4, "text-anchor": "end" }, short(top * part) + (shape.unit === "/s" ? "/s" : "")),
    ]),
    warm > 0 ? s("rect", { class: "warm-up", x: LEFT, y: TOP, width: x(warm) - LEFT, height: HEIGHT - TOP - BOTTOM }) : null,
    warm > 0 ? s("text", { x: LEFT + 4, y: TOP + 12, class: "word" }, "warm-up") : null,
    s("polygon", { class: "area", points: `${LEFT},${y(0)} ${line} ${x(shape.length)},${y(0)}` }),
    s("polyline", { class: `line ${poisson ? "poisson" : ""}`, points: line }),
    s("line", { class: "axis", x1: LEFT, x2: WIDTH - RIGHT, y1: y(0), y2: y(0) }),
    ticks(shape.length).map((second) =>
      s("text", { key: `x${second}`, x: x(second), y: HEIGHT - 6, "text-anchor": second === 0 ? "start" : x(second) > WIDTH - 30 ? "end" : "middle" }, duration(second)),
    ),
  );
}
