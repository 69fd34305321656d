/* Lines over optimizer steps, drawn by uPlot, with the values in words for who cannot see them. */
import { html, useEffect, useRef } from "../vendor/htm-preact.mjs";
import { number } from "./format.js";

let plotting = null;

/** uPlot, loaded when the first chart is drawn: its small build is a script that sets a global. */
function plot() {
  plotting ??= new Promise((found, failed) => {
    const script = document.createElement("script");
    script.src = "vendor/uplot.js";
    script.onload = () => found(window.uPlot);
    script.onerror = failed;
    document.head.append(script);
  });
  return plotting;
}

/** What a custom property is as a colour: the canvas does not know var() or light-dark(). */
function colour(node, name) {
  const before = node.style.color;
  node.style.color = `var(--${name})`;
  const found = getComputedStyle(node).color;
  node.style.color = before;
  return found;
}

function options(node, width, height, series, logarithmic) {
  const [ink, line] = [colour(node, "quiet"), colour(node, "line")];
  const axis = { stroke: ink, grid: { stroke: line, width: 1 }, ticks: { stroke: line, width: 1 }, font: "12px system-ui" };
  return {
    width, height,
    legend: { live: true },
    cursor: { drag: { x: true, y: false }, points: { size: 7 } },
    scales: { x: { time: false }, y: logarithmic ? { distr: 3 } : {} },
    axes: [
      { ...axis, space: 70, values: (_, ticks) => ticks.map((tick) => (Number.isInteger(tick) ? tick.toLocaleString("en") : "")) },
      { ...axis, size: 62, values: (_, ticks) => ticks.map((tick) => (tick === null ? "" : number(tick))) },
    ],
    series: [
      { label: "step", value: (_, value) => number(value) },
      ...series.map((one, at) => ({
        label: one.label,
        stroke: colour(node, `series-${((one.colour ?? at) % 6) + 1}`),
        width: one.dots ? 2.2 : 1.6,
        dash: one.dashed ? [6, 4] : undefined,
        points: { show: Boolean(one.dots), size: 6 },
        spanGaps: true,
        value: (_, value) => number(value),
      })),
    ],
  };
}

/** One x for several lines, each [[steps], [values]]. */
export function joined(lines) {
  const steps = [...new Set(lines.flatMap(([x]) => x))].sort((a, b) => a - b);
  const place = new Map(steps.map((step, at) => [step, at]));
  return [steps, ...lines.map(([x, y]) => {
    const row = new Array(steps.length).fill(null);
    x.forEach((step, at) => (row[place.get(step)] = y[at]));
    return row;
  })];
}

/** One of a chart's lines: the values of `key` in those rows of metrics that have it. */
export function line(metrics, key, label, more) {
  const rows = metrics.filter((row) => typeof row[key] === "number");
  return { label, steps: rows.map((row) => row.step), values: rows.map((row) => row[key]), ...more };
}

/** [{label, steps, values, dots, dashed}] drawn; new values are drawn once a frame at most. */
export function Chart({ title, lines, height = 260, logarithmic = false }) {
  const box = useRef(null);
  const drawn = useRef(null);
  const newest = useRef(null);
  newest.current = lines;
  const kind = JSON.stringify(lines.map((line) => [line.label, line.colour, line.dashed]));
  const data = () => joined(newest.current.map((line) => [line.steps, line.values]));
  useEffect(() => {
    let ended = false;
    const draw = () => plot().then((Plot) => {
      if (ended) return;
      drawn.current?.destroy();
      const made = options(box.current, box.current.clientWidth, height, newest.current, logarithmic);
      drawn.current = new Plot(made, data(), box.current);
    });
    const resized = new ResizeObserver(() => drawn.current?.setSize({ width: box.current.clientWidth, height }));
    resized.observe(box.current);
    const system = matchMedia("(prefers-color-scheme: dark)");
    system.addEventListener("change", draw);
    addEventListener("livery-theme", draw);
    draw();
    return () => {
      ended = true;
      resized.disconnect();
      system.removeEventListener("change", draw);
      removeEventListener("livery-theme", draw);
      drawn.current?.destroy();
      drawn.current = null;
    };
  }, [kind, height, logarithmic]);
  useEffect(() => {
    const frame = requestAnimationFrame(() => drawn.current?.setData(data()));
    return () => cancelAnimationFrame(frame);
  }, [lines]);
  return html`<figure class="chart">
    <figcaption>${title}</figcaption>
    <div ref=${box} class="plot" role="img" aria-label=${inWords(title, lines)}></div>
  </figure>`;
}

function inWords(title, lines) {
  const told = lines.filter((line) => line.values.length).map((line) => {
    const [first, last] = [line.values[0], line.values[line.values.length - 1]];
    return `${line.label} from ${number(first)} to ${number(last)} at step ${number(line.steps[line.steps.length - 1])}`;
  });
  return `${title}: ${told.join("; ") || "no values yet"}.`;
}
