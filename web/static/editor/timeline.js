// The fault timeline: bars on the time axis of the load, moved and resized with mouse, finger or keyboard.
import { corners, ticks } from "./curve.js";
import { idOf } from "./fields.js";
import { duration, seconds } from "./units.js";
import { h, s } from "./view.js";

const STEPS = [0.1, 0.5, 1, 5, 10, 60];
// How long a fault without a duration looks.
const MARKER = 0.02;

export function timeline(ctx, faults) {
  const load = ctx.source.get(["load"]) ?? {};
  const shape = corners(load);
  const ends = faults.map((fault) => (seconds(fault?.start) ?? 0) + (seconds(fault?.duration) ?? 0));
  const length = Math.max(shape?.length ?? 60, ...ends, 1);
  ctx.ui.step ??= length <= 10 ? 0.5 : length <= 600 ? 1 : 10;
  const axis = { length, load: shape?.length ?? length, warm: Math.min(seconds(load.warm_up ?? "0s") ?? 0, length), shape };
  return h("div", { class: "timeline", key: "timeline", id: "timeline" },
    h("div", { class: "timeline-tools" },
      h("p", { class: "muted small", id: "timeline-help" },
        "Drag a bar to move it, its ends to resize it. By keyboard: arrow keys move the focused bar, Shift and arrows resize it, Page keys move ten steps."),
      h("label", { class: "step-size" }, "Step ",
        h("select", { id: "timeline-step", value: String(ctx.ui.step), on: { change: (event) => { ctx.ui.step = Number(event.target.value); ctx.draw(); } } },
          [...new Set([...STEPS, ctx.ui.step])].sort((a, b) => a - b).map((step) => h("option", { key: step, value: String(step) }, duration(step)))))),
    h("div", { class: "tracks" },
      background(axis),
      h("ol", { class: "lanes" }, faults.map((fault, at) => lane(ctx, fault, at, axis))),
      h("div", { class: "ticks", "aria-hidden": "true" },
        ticks(length).map((second) => h("span", { key: second, style: { left: percent(second / length) } }, duration(second))))));
}

function percent(share) {
  return `${(share * 100).toFixed(3)}%`;
}

// The load behind the bars, faintly, with its warm-up.
function background({ length, load, warm, shape }) {
  const top = shape ? Math.max(...shape.points.map(([, amount]) => amount)) || 1 : 1;
  const points = (shape?.points ?? []).map(([second, amount]) => `${((second / length) * 1000).toFixed(1)},${(100 - (amount / top) * 90).toFixed(1)}`);
  return s("svg", { class: "behind", viewBox: "0 0 1000 100", preserveAspectRatio: "none", "aria-hidden": "true" },
    warm > 0 ? s("rect", { class: "warm-up", x: 0, y: 0, width: (warm / length) * 1000, height: 100 }) : null,
    load < length ? s("rect", { class: "over", x: (load / length) * 1000, y: 0, width: 1000, height: 100 }) : null,
    points.length > 0 ? s("polygon", { class: "area", points: `0,100 ${points.join(" ")} ${(load / length) * 1000},100` }) : null);
}

function lane(ctx, fault, at, axis) {
  const start = seconds(fault?.start) ?? 0;
  const lasts = ctx.kindOf(fault?.kind)?.lasts ?? fault?.duration !== undefined;
  const span = lasts ? (seconds(fault?.duration) ?? 0) : 0;
  const name = String(fault?.name ?? `fault ${at + 1}`);
  const text = lasts ? `starts at ${duration(start)}, lasts ${duration(span)}, ends at ${duration(start + span)}` : `at ${duration(start)}`;
  const wrong = [...ctx.problems.keys()].some((key) => key === `faults/${at}` || key.startsWith(`faults/${at}/`));
  return h("li", { key: at },
    h("div", {
      class: `fault-bar kind-${/^[a-z-]+$/.test(fault?.kind ?? "") ? fault.kind : "unknown"} ${lasts ? "" : "moment"} ${wrong ? "wrong" : ""}`,
      id: `bar-${at}`,
      role: "slider",
      tabindex: "0",
      "aria-label": `${name}, ${fault?.kind ?? "no kind"}`,
      "aria-valuemin": "0",
      "aria-valuemax": String(axis.length),
      "aria-valuenow": String(start),
      "aria-valuetext": text,
      "aria-describedby": "timeline-help",
      "aria-keyshortcuts": "ArrowLeft ArrowRight Shift+ArrowLeft Shift+ArrowRight",
      title: `${name}: ${text}`,
      style: { left: percent(start / axis.length), width: lasts ? percent(Math.max(span / axis.length, 0.004)) : percent(MARKER) },
      on: {
        pointerdown: (event) => drag(ctx, event, at, axis),
        keydown: (event) => key(ctx, event, at, axis),
        dblclick: () => document.getElementById(idOf(["faults", at, "name"]))?.focus(),
      },
    },
    lasts ? h("span", { class: "grip start", "data-grip": "start" }) : null,
    h("span", { class: "bar-name" }, lasts ? name : "◆"),
    lasts ? h("span", { class: "grip end", "data-grip": "end" }) : null),
    lasts ? null : h("span", { class: "beside", "aria-hidden": "true", style: { left: percent(start / axis.length + MARKER) } }, name));
}

function snap(value, step) {
  return Math.round(Math.round(value / step) * step * 1000) / 1000;
}

// Writes a fault's times; both fields at once, so that one undo takes both back.
function place(ctx, at, start, span, tag) {
  const fault = ctx.source.get(["faults", at]) ?? {};
  ctx.edit(() => {
    if (seconds(fault.start) !== start) ctx.source.set(["faults", at, "start"], duration(start));
    if (span !== null && seconds(fault.duration) !== span) ctx.source.set(["faults", at, "duration"], duration(span));
  }, tag);
}

function times(ctx, at) {
  const fault = ctx.source.get(["faults", at]) ?? {};
  const lasts = ctx.kindOf(fault.kind)?.lasts ?? fault.duration !== undefined;
  return { name: String(fault.name ?? ""), start: seconds(fault.start) ?? 0, span: lasts ? (seconds(fault.duration) ?? ctx.ui.step) : null };
}

function drag(ctx, event, at, axis) {
  if (event.button !== 0) return;
  const bar = event.currentTarget;
  const grip = event.target.dataset?.grip ?? "move";
  const { start, span } = times(ctx, at);
  const perPixel = axis.length / bar.closest(".tracks").clientWidth;
  const from = event.clientX;
  // Several sizes at a time would make the axis jump under the pointer.
  const tag = `drag ${at} ${performance.now()}`;
  let moved = false;
  bar.focus();
  bar.setPointerCapture(event.pointerId);
  event.preventDefault();
  const move = (event) => {
    const by = (event.clientX - from) * perPixel;
    if (!moved && Math.abs(event.clientX - from) < 3) return;
    moved = true;
    const { step } = ctx.ui;
    const end = start + (span ?? 0);
    if (grip === "start") {
      const begin = Math.min(Math.max(0, snap(start + by, step)), end - Math.min(step, span));
      place(ctx, at, begin, Math.round((end - begin) * 1000) / 1000, tag);
    } else if (grip === "end") {
      place(ctx, at, start, Math.max(Math.min(step, span), snap(span + by, step)), tag);
    } else {
      const latest = Math.max(0, axis.load - (span ?? 0));
      place(ctx, at, Math.min(Math.max(0, snap(start + by, step)), latest), span, tag);
    }
  };
  const done = () => {
    bar.removeEventListener("pointermove", move);
    bar.removeEventListener("pointerup", done);
    bar.removeEventListener("pointercancel", done);
    ctx.settle();
    if (moved) tell(ctx, at);
  };
  bar.addEventListener("pointermove", move);
  bar.addEventListener("pointerup", done);
  bar.addEventListener("pointercancel", done);
}

function key(ctx, event, at, axis) {
  const steps = { ArrowLeft: -1, ArrowDown: -1, ArrowRight: 1, ArrowUp: 1, PageDown: -10, PageUp: 10 }[event.key];
  const { start, span } = times(ctx, at);
  const tag = `keys ${at}`;
  if (event.key === "Enter") {
    event.preventDefault();
    document.getElementById(idOf(["faults", at, "start"]))?.focus();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Home") place(ctx, at, 0, span, tag);
  else if (event.key === "End") place(ctx, at, Math.max(0, axis.load - (span ?? 0)), span, tag);
  else if (steps === undefined) return;
  else if (event.shiftKey) {
    if (span === null) {
      event.preventDefault();
      ctx.say("This fault has no duration: it is over when the process runs again");
      return;
    }
    place(ctx, at, start, Math.max(ctx.ui.step, snap(span + steps * ctx.ui.step, ctx.ui.step)), tag);
  } else {
    const latest = Math.max(0, axis.load - (span ?? 0));
    place(ctx, at, Math.min(latest, Math.max(0, snap(start + steps * ctx.ui.step, ctx.ui.step))), span, tag);
  }
  event.preventDefault();
  tell(ctx, at);
}

function tell(ctx, at) {
  const { name, start, span } = times(ctx, at);
  ctx.say(span === null ? `${name} at ${duration(start)}` : `${name} from ${duration(start)} to ${duration(start + span)}, ${duration(span)} long`);
}
