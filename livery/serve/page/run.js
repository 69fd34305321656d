/* One run: live figures and charts, samples, checkpoints, evaluations, configuration, log, export. */
import { html, useEffect, useMemo, useRef, useState } from "./vendor/htm-preact.mjs";
import { get, post, useConnection, useLoaded } from "./parts/api.js";
import { Chart, line } from "./parts/chart.js";
import { Arms } from "./parts/arms.js";
import { Delete } from "./parts/delete.js";
import { follow } from "./parts/events.js";
import { Exports } from "./parts/exports.js";
import { bytes, duration, loss, number, percent, shown, when } from "./parts/format.js";
import { to } from "./parts/router.js";
import { Action, announce, Badge, Card, Empty, Fault, Figures, Loaded, Log, Progress, Table, Tabs, Title } from "./parts/ui.js";

const POINTS = 2000; // of a line; a screen has no more columns
const KEPT = 200_000; // characters of the log that are shown
const TABS = [["", "Live"], ["samples", "Samples"], ["checkpoints", "Checkpoints"], ["evaluations", "Evaluations"], ["config", "Configuration"], ["log", "Log"], ["export", "Export"]];

export default function RunPage({ parts }) {
  const [, name, tab = ""] = parts;
  const base = `/api/runs/${encodeURIComponent(name)}`;
  const live = useLive(base);
  const { run } = live;
  return html`<${Title} under=${run && [run.skill, run.model, run.backend].filter(Boolean).join(" · ")} actions=${run && html`<${Controls} run=${run} /><${Delete} name=${name} place=${base} back="#/runs" what="Its checkpoints, its metrics and its adapter go with it." />`}>
      ${name} ${run && html`<${Badge}>${run.state}<//>`}
    <//>
    <${Fault} error=${live.error} />
    ${!run && live.early && html`<${Empty}>There is no such run yet. It is shown here once its training has begun.<//>`}
    ${run && html`
      <${Progress} value=${run.step} most=${run.steps} label="Optimizer steps" />
      ${run.state === "done" && run.step < run.steps && html`<p class="quiet">Stopped early, after step ${number(run.step)} of ${number(run.steps)}.</p>`}
      ${run.state === "done" && run.kept_step !== null && run.kept_step !== run.step && html`<p class="quiet">The adapter has the weights of step ${number(run.kept_step)}.</p>`}
      ${!live.connected && html`<p class="quiet" role="status">Connecting to the live values …</p>`}
      <${Figures} of=${[
        ["Step", number(run.step), run.steps && `of ${number(run.steps)}`],
        ["Loss", loss(run.loss)],
        ["Eval loss", loss(run.eval_loss), run.best && `best ${loss(run.best.eval_loss)} at ${number(run.best.step)}`],
        ["Learning rate", number(last(live.metrics, "learning_rate"))],
        ["Tokens/s", number(run.tokens_per_second, 3)],
        ["Memory", bytes(run.peak_memory)],
        ["Time left", run.state === "running" ? duration(run.seconds_left) : "–"],
      ]} />
      <${Tabs} label="Parts of ${name}" at=${tab} tabs=${TABS.map(([one, words]) => [one, words, one ? to("runs", name, one) : to("runs", name)])} />
      ${tab === "" && html`<${Curves} metrics=${live.metrics} />`}
      ${tab === "samples" && html`<${Samples} samples=${live.samples} />`}
      ${tab === "checkpoints" && html`<${Checkpoints} base=${base} step=${run.step} />`}
      ${tab === "evaluations" && html`<${Evaluations} base=${base} />`}
      ${tab === "config" && html`<${Configuration} base=${base} />`}
      ${tab === "log" && live.log.length >= KEPT && html`<p class="quiet">The end of the log: its last ${number(KEPT)} characters. <a href="${base}/log" target="_blank" rel="noreferrer">The whole log</a></p>`}
      ${tab === "log" && html`<${Log} text=${live.log} label="Log of ${name}" />`}
      ${tab === "export" && html`<${Exports} name=${name} />`}
    `}`;
}

const last = (rows, key) => {
  for (let at = rows.length - 1; at >= 0; at--) if (rows[at][key] !== undefined) return rows[at][key];
  return undefined;
};

/** A run's values from the server, then as they happen. What came in one frame is shown at once. */
function useLive(base) {
  const [shownNow, show] = useState({ run: null, metrics: [], samples: [], log: "", error: null, connected: false });
  const now = useRef(null);
  const { returned } = useConnection();
  const [again, load] = useState(0);
  useEffect(() => {
    let end = null;
    let ended = false;
    let frame = 0;
    let timer = 0;
    const all = { run: null, metrics: [], samples: [], log: "", error: null, connected: false };
    now.current = all;
    // A hidden page has no frames: what it missed is shown when it is seen.
    const later = () => {
      frame ||= requestAnimationFrame(() => {
        frame = 0;
        show({ ...all });
      });
    };
    async function start() {
      try {
        const [run, metrics] = await Promise.all([get(base), get(`${base}/metrics?points=${POINTS}`)]);
        if (ended) return;
        Object.assign(all, { run, metrics: metrics.metrics });
        later();
        end = follow(`${base}/events`, metrics.position, {
          connected: (connected) => {
            all.connected = connected;
            later();
          },
          metric: (row) => {
            all.metrics = [...(all.metrics.length > 2 * POINTS ? thinned(all.metrics) : all.metrics), row];
            if ("eval_loss" in row) announce(`Evaluation at step ${row.step}: loss ${loss(row.eval_loss)}`);
            later();
          },
          sample: (row) => void ((all.samples = [...all.samples, row].slice(-400)), later()),
          log: (row) => void ((all.log = (all.log + row.text).slice(-KEPT)), later()),
          state: (row) => {
            if (all.run && row.state !== all.run.state) announce(`The run is ${row.state}.`);
            all.run = { ...all.run, ...row };
            later();
          },
          restarted: () => load((count) => count + 1),
        });
      } catch (error) {
        if (ended) return;
        // A job's run is there once its training has begun.
        const early = error.status === 404;
        show({ ...all, early, error: early ? null : error });
        if (early) timer = setTimeout(start, 3000);
      }
    }
    start();
    return () => {
      ended = true;
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      end?.();
    };
  }, [base, again, now.current?.run ? 0 : returned]);
  return shownNow;
}

/** Every second line, and all evaluations. */
const thinned = (rows) => rows.filter((row, at) => at % 2 === 0 || "eval_loss" in row);

function Curves({ metrics }) {
  const [losses, rate, speed, norm, memory] = useMemo(() => [
    [line(metrics, "loss", "loss"), line(metrics, "eval_loss", "eval loss", { dots: true })],
    [line(metrics, "learning_rate", "learning rate", { colour: 2 })],
    [line(metrics, "tokens_per_second", "tokens/s", { colour: 3 })],
    [line(metrics, "grad_norm", "gradient norm", { colour: 4 })],
    [line(metrics, "peak_memory_mb", "MB", { colour: 5 })],
  ], [metrics]);
  if (metrics.length === 0) return html`<${Empty}>The first values come after the first reported step.<//>`;
  return html`<div class="charts">
    <div class="wide"><${Chart} title="Loss" lines=${losses} height=${300} /></div>
    <${Chart} title="Learning rate" lines=${rate} height=${180} />
    <${Chart} title="Tokens a second" lines=${speed} height=${180} />
    <${Chart} title="Gradient norm" lines=${norm} height=${180} />
    <${Chart} title="Most memory so far" lines=${memory} height=${180} />
    <details class="wide"><summary>The newest values as a table</summary>
      <${Table} label="Newest values" size=${20} rows=${[...metrics].reverse()} head=${["Step", "Loss", "Eval loss", "Learning rate", "Tokens/s", "Memory"]}
        row=${(row) => html`<tr><td>${number(row.step)}</td><td>${loss(row.loss)}</td><td>${loss(row.eval_loss)}</td><td>${number(row.learning_rate)}</td><td>${number(row.tokens_per_second)}</td><td>${bytes(1e6 * row.peak_memory_mb)}</td></tr>`} />
    </details>
  </div>`;
}

function Samples({ samples }) {
  const prompts = useMemo(() => {
    const found = new Map();
    for (const one of samples) found.set(one.prompt, [...(found.get(one.prompt) ?? []), one]);
    return [...found];
  }, [samples]);
  if (prompts.length === 0) return html`<${Empty}>The same few prompts are answered at each evaluation. None was yet.<//>`;
  return prompts.map(([prompt, rows]) => {
    const newest = rows[rows.length - 1];
    return html`<article class="card sample" key=${prompt}>
      <h2 class="said">${prompt}</h2>
      <dl><dt>Expected</dt><dd class="said">${newest.expected}</dd>
      <dt>Step ${number(newest.step)}</dt><dd class="said">${newest.answer}</dd></dl>
      ${rows.length > 1 && html`<details><summary>${rows.length - 1} earlier</summary><dl>${rows.slice(0, -1).reverse().slice(0, 50).map((row) => html`<dt>Step ${number(row.step)}</dt><dd class="said">${row.answer}</dd>`)}</dl></details>`}
    </article>`;
  });
}

function Checkpoints({ base, step }) {
  const found = useLoaded(`${base}/checkpoints`, 0, Math.floor(step / 50));
  return html`<${Loaded} of=${found}>${({ checkpoints }) => html`<${Table} label="Checkpoints" rows=${checkpoints} empty="No checkpoint was saved yet."
    head=${["Step", "Size", "Saved", "Best"]}
    row=${(one) => html`<tr key=${one.step}><th scope="row" class="figure">${number(one.step)}</th><td class="figure">${bytes(one.bytes)}</td><td>${when(one.saved)}</td><td>${one.best ? html`<span class="badge good">best</span>` : "–"}</td></tr>`} />`}<//>`;
}

function Evaluations({ base }) {
  const whole = useLoaded(base);
  return html`<${Loaded} of=${whole}>${({ evaluations }) => html`
    ${evaluations.length === 0 && html`<${Empty}>Not evaluated yet. A job with the step “eval” does it, and so does <code>livery eval</code>.<//>`}
    ${evaluations.map((one) => html`<${Card} key=${one.file} title=${html`<a href=${to("evaluations", one.adapter, one.file)}>${one.set ?? one.file}</a>`} actions=${html`<strong>${percent(one.accuracy)}</strong>`}>
      <${Arms} arms=${one.arms} /><//>`)}
    ${evaluations.length > 0 && html`<p><a href="${base}/report" target="_blank" rel="noreferrer">The evaluation's report</a>, where one was written</p>`}`}<//>`;
}

function Configuration({ base }) {
  const whole = useLoaded(base);
  return html`<${Loaded} of=${whole}>${({ config }) => {
    const rows = Object.entries(config.settings ?? config).sort(([a], [b]) => a.localeCompare(b));
    return html`<${Table} label="Configuration" size=${200} rows=${rows} head=${["Setting", "Value"]}
      row=${([key, value]) => html`<tr key=${key}><th scope="row"><code>${key}</code></th><td class="said">${shown(value)}</td></tr>`} />
      <details><summary>The whole file</summary><pre class="log" tabindex="0">${JSON.stringify(config, null, 2)}</pre></details>`;
  }}<//>`;
}

export function Controls({ run }) {
  if (!run.job) return html`<span class="quiet">Started outside this server</span>`;
  const act = (doing) => () => post(`/api/jobs/${encodeURIComponent(run.job)}/${doing}`);
  return html`
    ${(run.state === "running" || run.state === "queued") && html`<${Action} act=${act("pause")} done="It stops at its next checkpoint.">Pause<//>`}
    ${run.state === "paused" && html`<${Action} kind="main" act=${act("resume")} done="It goes on.">Resume<//>`}
    ${(run.state === "failed" || run.state === "cancelled") && html`<${Action} kind="main" act=${act("retry")} done="It starts again.">Try again<//>`}
    ${["running", "queued", "paused"].includes(run.state) && html`<${Action} kind="danger" act=${act("cancel")} done="It was cancelled.">Cancel<//>`}
    <a class="button" href=${to("jobs", run.job)}>Job</a>`;
}
