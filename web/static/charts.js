// Charts over the seconds of runs: several plots on one time axis with one cursor and one zoom.
import { bandsPlugin, drawStrip } from "./bands.js";
import { colour } from "./colours.js";
import { NONE, clock } from "./numbers.js";

const { uPlot } = window;

const FONT = "12px system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif";
const AXIS_GAP = 6;
const NARROWEST_AXIS = 58;
const ruler = document.createElement("canvas").getContext("2d");

// Width of an axis label, in CSS pixels.
function widthOf(label) {
  ruler.font = FONT;
  return Math.ceil(ruler.measureText(label).width);
}

// One plot: a figure of the page with `.plot` and `.legend` in it.
class Chart {
  constructor(figure, group, { lines, show, axis = show, log = false, floor = 1 }) {
    Object.assign(this, { figure, group, lines, show, axis, log, floor });
    this.plot = figure.querySelector(".plot");
    this.legend = figure.querySelector(".legend");
    this.columns = lines.map(() => []);
    this.u = null;
    this.needed = NARROWEST_AXIS;
    this.used = null;
  }

  // Room for the longest label of the y axis; the same in every chart of the group, so that their seconds line up.
  axisSize(u, labels, index, cycle) {
    if (cycle > 1) return this.used;
    this.needed = Math.max(NARROWEST_AXIS, ...(labels ?? []).map((label) => widthOf(label) + AXIS_GAP + 4));
    this.used = this.group.axisSize();
    return this.used;
  }

  build() {
    this.u?.destroy();
    this.plot.replaceChildren();
    const grid = { stroke: colour("--chart-grid"), width: 1 };
    const text = colour("--chart-text");
    const font = FONT;
    const options = {
      width: Math.max(this.plot.clientWidth, 100),
      height: this.plot.clientHeight,
      // The last second's label stands half beyond the plot.
      padding: [8, () => Math.max(12, Math.ceil(widthOf(clock(this.group.range()[1])) / 2) + 4), 0, 0],
      legend: { show: false },
      cursor: {
        sync: { key: this.group.key, setSeries: false },
        drag: { x: true, y: false, setScale: false },
        points: { size: 6 },
        bind: { dblclick: () => () => this.group.zoomTo(null) },
      },
      scales: {
        x: { time: false, range: () => this.group.range() },
        y: this.log
          ? { distr: 3, range: (u, min, max) => [10 ** Math.floor(Math.log10(min || 0.1)), 10 ** Math.ceil(Math.log10(Math.max(max || 1, (min || 0.1) * 1.01)))] }
          : { range: (u, min, max) => [0, Math.max((max || 0) * 1.18, this.floor)] },
      },
      axes: [
        { stroke: text, grid, ticks: grid, font, size: 30, space: 60, incrs: [1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200], values: (u, splits) => splits.map(clock) },
        { stroke: text, grid, ticks: { show: false }, font, size: (...of) => this.axisSize(...of), gap: AXIS_GAP, values: (u, splits) => splits.map((value) => (value == null ? "" : this.axis(value))) },
      ],
      series: [{}, ...this.lines.map((line) => this.series(line))],
      plugins: [bandsPlugin(() => this.group.bands())],
      hooks: {
        setCursor: [(u) => this.showValues(u.cursor.idx)],
        setSelect: [(u) => this.select(u)],
        draw: [() => this.group.drawn(this)],
      },
    };
    this.u = new uPlot(options, this.data(), this.plot);
    this.showLegend();
  }

  series(line) {
    return {
      label: line.label,
      stroke: colour(line.colour),
      fill: line.fill && colour(line.fill),
      width: line.width ?? 1.75,
      dash: line.dash,
      spanGaps: false,
      points: { show: this.group.seconds.length < 2 },
    };
  }

  data() {
    const positive = (value) => (value > 0 ? value : null);
    return [this.group.seconds, ...this.columns.map((column) => (this.log ? column.map(positive) : column))];
  }

  update(columns) {
    this.columns = columns;
    if (!this.u || this.group.seconds.length < 3) this.build();
    else this.u.setData(this.data());
    this.showValues(this.u.cursor.idx);
  }

  setLog(log) {
    this.log = log;
    this.build();
  }

  resize() {
    if (this.u) this.u.setSize({ width: Math.max(this.plot.clientWidth, 100), height: this.plot.clientHeight });
  }

  select(u) {
    const { left, width } = u.select;
    if (width < 4) return;
    const ends = [u.posToVal(left, "x"), u.posToVal(left + width, "x")];
    u.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
    if (ends[1] - ends[0] >= 1) this.group.zoomTo(ends);
  }

  showLegend() {
    this.values = [];
    this.legend.replaceChildren(
      ...this.lines.map((line) => {
        const item = document.createElement("li");
        const value = document.createElement("b");
        this.values.push(value);
        item.append(swatch(line), line.label, " ", value);
        return item;
      }),
    );
    this.showValues(this.u.cursor.idx);
  }

  // The values under the cursor, or the last ones measured.
  showValues(at) {
    this.columns.forEach((column, index) => {
      const value = at == null ? column.findLast((value) => value != null) : column[at];
      this.values[index].textContent = value == null ? NONE : this.show(value);
    });
  }
}

const SVG = "http://www.w3.org/2000/svg";

function swatch(line) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", "0 0 20 8");
  svg.setAttribute("aria-hidden", "true");
  const stroke = document.createElementNS(SVG, "line");
  for (const [name, value] of [["x1", 0], ["x2", 20], ["y1", 4], ["y2", 4], ["stroke-width", line.width ?? 1.75]]) stroke.setAttribute(name, value);
  if (line.dash) stroke.setAttribute("stroke-dasharray", line.dash.join(" "));
  stroke.style.stroke = `var(${line.colour})`;
  svg.append(stroke);
  return svg;
}

// Charts that share seconds, cursor, zoom and bands.
export class ChartGroup {
  // `bands` gives the bands to draw; `phases` the phases for the strip element, where there is one.
  constructor({ bands, strip, phases = () => [] }) {
    this.key = "kennel";
    this.bands = bands;
    this.strip = strip;
    this.phases = phases;
    this.charts = [];
    this.seconds = [];
    this.length = 1;
    this.zoom = null;
    uPlot.sync(this.key);
    document.addEventListener("kennel:theme", () => this.charts.forEach((chart) => chart.u && chart.build()));
    new ResizeObserver(() => this.charts.forEach((chart) => chart.resize())).observe(document.querySelector("main"));
  }

  add(id, options) {
    const chart = new Chart(document.getElementById(id), this, options);
    this.charts.push(chart);
    return chart;
  }

  range() {
    return this.zoom ?? [0, Math.max(this.length, 1)];
  }

  axisSize() {
    return Math.max(...this.charts.map((chart) => chart.needed));
  }

  zoomTo(ends) {
    this.zoom = ends;
    this.charts.forEach((chart) => chart.u?.setData(chart.data()));
    document.dispatchEvent(new CustomEvent("kennel:zoom", { detail: ends }));
  }

  // Takes the seconds 0 … count−1 and, for each chart, its columns of values; draws all anew.
  update(count, length, columns) {
    this.seconds = Array.from({ length: count }, (_, second) => second);
    this.length = length;
    this.charts.forEach((chart, index) => chart.update(columns[index]));
  }

  redraw() {
    this.charts.forEach((chart) => chart.u?.redraw(false));
  }

  drawn(chart) {
    const size = this.axisSize();
    for (const other of this.charts) if (other !== chart && other.u && other.used !== size) other.u.redraw(false, true);
    if (this.strip && chart === this.charts.at(-1) && chart.u) drawStrip(this.strip, chart.u, this.phases());
  }
}

// The seconds of one request name as columns: index = second, null where nothing was measured.
export function columnsOf(points, count) {
  const columns = { rate: [], errors: [], dropped: [], share: [], p50: [], p90: [], p99: [] };
  for (const column of Object.values(columns)) column.length = count;
  for (const column of Object.values(columns)) column.fill(null);
  for (const point of points) {
    const at = point.second;
    columns.rate[at] = point.rate;
    columns.errors[at] = point.errors;
    columns.dropped[at] = point.dropped;
    columns.share[at] = point.rate > 0 ? point.errors / point.rate : null;
    columns.p50[at] = point.p50;
    columns.p90[at] = point.p90;
    columns.p99[at] = point.p99;
  }
  return columns;
}

// How many seconds the points reach over.
export function reach(points) {
  return points.reduce((most, point) => Math.max(most, point.second + 1), 0);
}
