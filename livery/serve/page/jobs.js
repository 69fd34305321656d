/* The queue: what waits, runs and failed, and why; one job with its log. */
import { html, useEffect, useState } from "./vendor/htm-preact.mjs";
import { post, text, useLoaded } from "./parts/api.js";
import { duration, number, shown, when } from "./parts/format.js";
import { to } from "./parts/router.js";
import { Action, Badge, Card, Fault, Figures, Loaded, Log, Table, Title } from "./parts/ui.js";

const MOST = 500; // jobs that are shown
const STATES = ["all", "queued", "running", "paused", "failed", "cancelled", "done"];

export default function Jobs({ parts }) {
  return parts[1] ? html`<${Job} id=${parts[1]} />` : html`<${Queue} />`;
}

function Queue() {
  const [state, choose] = useState("all");
  const jobs = useLoaded(`/api/jobs?limit=${MOST}${state === "all" ? "" : `&state=${state}`}`, 2000);
  return html`<${Title} under="One training a device; the others wait in order. They outlive this page and the server.">Jobs<//>
    <div class="toolbar"><label>State <select value=${state} onChange=${({ target }) => choose(target.value)}>${STATES.map((one) => html`<option>${one}</option>`)}</select></label></div>
    <${NoWorker} />
    <${Loaded} of=${jobs}>${({ jobs }) => html`${jobs.length >= MOST && html`<p class="quiet" role="status">The newest ${number(MOST)} of them are shown. Older ones: choose a state, or <code>livery jobs list</code>.</p>`}
      <${Table} label="Jobs" rows=${jobs} empty="No jobs." head=${["Adapter", "State", "Step", "Cause", "Queued", "Took", "Do"]}
      row=${(job) => html`<tr key=${job.id}>
        <th scope="row"><a href=${to("jobs", job.id)}>${job.name}</a></th>
        <td><${Badge}>${job.state}<//></td>
        <td>${job.step ?? "–"}${job.attempt > 1 ? ` (attempt ${job.attempt})` : ""}</td>
        <td class="said">${job.cause ? job.cause.detail || job.cause.kind : "–"}</td>
        <td>${when(job.created)}</td>
        <td class="figure">${took(job)}</td>
        <td><${Doing} job=${job} /></td>
      </tr>`} />`}<//>`;
}

/** Jobs that wait for a worker that nobody has started, or that cannot be. */
function NoWorker() {
  const { data } = useLoaded("/api/jobs?state=queued&limit=1", 3000);
  if (!data || data.workers > 0 || data.jobs.length === 0) return null;
  return html`<div class="fault" role="alert"><p><strong>No worker lives, so no job begins.</strong> ${
    data.worker_problem ? `This server starts one again: ${data.worker_problem}` : "Start one in the server's folder: livery jobs worker"
  }</p></div>`;
}

const took = (job) => (job.started ? duration((job.ended ?? Date.now() / 1000) - job.started) : "–");

function Doing({ job, then }) {
  const act = (doing) => async () => {
    await post(`/api/jobs/${encodeURIComponent(job.id)}/${doing}`);
    then?.();
  };
  const label = (words) => `${words} ${job.name}`;
  return html`<div class="actions">
    ${["queued", "running"].includes(job.state) && html`<${Action} act=${act("pause")} label=${label("Pause")} done="It stops at its next checkpoint.">Pause<//>`}
    ${job.state === "paused" && html`<${Action} act=${act("resume")} label=${label("Resume")} done="It goes on.">Resume<//>`}
    ${["failed", "cancelled"].includes(job.state) && html`<${Action} act=${act("retry")} label=${label("Try again")} done="It starts again.">Try again<//>`}
    ${["queued", "running", "paused"].includes(job.state) && html`<${Action} kind="danger" act=${act("cancel")} label=${label("Cancel")} done="It was cancelled.">Cancel<//>`}
  </div>`;
}

function Job({ id }) {
  const place = `/api/jobs/${encodeURIComponent(id)}`;
  const found = useLoaded(place, 2000);
  const [log, setLog] = useState("");
  const [error, setError] = useState(null);
  useEffect(() => {
    // Its end is what tells; the whole of it is a link away.
    text(`${place}/log`, { headers: { Range: "bytes=-65536" } }).then((told) => setLog(told), (fault) => fault.status !== 416 && setError(fault));
  }, [found.data]);
  return html`<${NoWorker} /><${Loaded} of=${found}>${(job) => html`
    <${Title} under="Job ${id}" actions=${html`<${Doing} job=${job} then=${found.reload} />`}>${job.name} <${Badge}>${job.state}<//><//>
    ${job.cause && html`<${Card} title="Why it failed" tone="failed"><p><strong>${job.cause.kind}</strong>${job.cause.detail && html`: ${job.cause.detail}`}</p>
      ${job.cause.last_lines?.length > 0 && html`<pre class="log" tabindex="0" aria-label="Last lines">${job.cause.last_lines.join("\n")}</pre>`}<//>`}
    <${Figures} of=${[["Step", job.step], ["Attempt", `${number(job.attempt)} of ${number(job.attempts)}`], ["Queued", when(job.created)], ["Took", took(job)]]} />
    ${job.request.steps?.includes("train") && html`<p><a href=${to("runs", job.name)}>Its run</a></p>`}
    <${Card} title="What was asked"><dl class="pairs">${Object.entries(job.request).map(([key, value]) => html`<dt><code>${key}</code></dt><dd class="said">${shown(value)}</dd>`)}</dl><//>
    <${Card} title="Log" actions=${html`<a href="${place}/log" target="_blank" rel="noreferrer">Whole log</a>`}><${Fault} error=${error} /><${Log} text=${log} label="Log of job ${id}" /><//>
  `}<//>`;
}
