/* All runs: what is training now, and a table to search, open and compare. */
import { html, useMemo, useState } from "./vendor/htm-preact.mjs";
import { useLoaded } from "./parts/api.js";
import { bytes, duration, loss, number, when } from "./parts/format.js";
import { go, to } from "./parts/router.js";
import { Badge, Card, Empty, Figures, Loaded, Progress, Table, Title } from "./parts/ui.js";

export default function DevDashboard() {
  const runs = useLoaded("/api/runs?limit=1000", 3000);
  return html`<${Title} under="What trains, what was trained, and how well." actions=${html`<a class="button main" href="#/train">Train an adapter</a>`}>Runs<//>
    <${Loaded} of=${runs}>${({ runs, before }) => html`<${Runs} runs=${runs} cut=${before !== null} />`}<//>`;
}

function Runs({ runs, cut }) {
  const [asked, ask] = useState("");
  const [chosen, choose] = useState([]);
  const found = useMemo(() => {
    const words = asked.toLowerCase();
    return runs.filter((run) => [run.name, run.state, run.skill, run.model, run.backend].some((text) => text?.toLowerCase().includes(words)));
  }, [runs, asked]);
  if (runs.length === 0) {
    return html`<${Empty}><h2>No runs yet</h2><p>Train an adapter here, or with <code>livery train</code> into this server's <code>adapters</code> folder.</p><p><a class="button main" href="#/train">Train the first one</a></p><//>`;
  }
  const toggle = (name) => choose((old) => (old.includes(name) ? old.filter((one) => one !== name) : [...old, name]));
  const compare = () => go(`#/compare?${new URLSearchParams(chosen.map((name) => ["run", name]))}`);
  return html`
    ${runs.filter((run) => run.state === "running").slice(0, 4).map((run) => html`<${Now} run=${run} key=${run.name} />`)}
    <div class="toolbar">
      <label class="grow">Find <input type="search" value=${asked} onInput=${({ target }) => ask(target.value)} placeholder="name, state, skill, model" /></label>
      <button type="button" disabled=${chosen.length < 2 || chosen.length > 6} onClick=${compare}>Compare ${chosen.length > 0 ? `(${chosen.length})` : ""}</button>
    </div>
    ${cut && html`<p class="quiet" role="status">The newest ${number(runs.length)} runs are shown. There are older ones: the API has them.</p>`}
    <${Table} label="Runs" rows=${found} empty="No run matches." head=${["Compare", "Name", "State", "Step", "Loss", "Eval loss", "Best", "Skill", "Started"]}
      row=${(run) => html`<tr key=${run.name}>
        <td><input type="checkbox" aria-label="Compare ${run.name}" checked=${chosen.includes(run.name)} onChange=${() => toggle(run.name)} /></td>
        <th scope="row"><a href=${to("runs", run.name)}>${run.name}</a></th>
        <td><${Badge}>${run.state}<//></td>
        <td class="figure">${number(run.step)}${run.steps ? ` / ${number(run.steps)}` : ""}</td>
        <td class="figure">${loss(run.loss)}</td>
        <td class="figure">${loss(run.eval_loss)}</td>
        <td class="figure">${run.best ? loss(run.best.eval_loss) : "–"}</td>
        <td>${run.skill ?? "–"}</td>
        <td>${when(run.started)}</td>
      </tr>`} />`;
}

function Now({ run }) {
  return html`<${Card} title=${html`<a href=${to("runs", run.name)}>${run.name}</a>`} actions=${html`<${Badge}>${run.state}<//>`} tone="now">
    <${Progress} value=${run.step} most=${run.steps} label="Progress of ${run.name}" />
    <${Figures} of=${[
      ["Step", `${number(run.step)} of ${number(run.steps)}`],
      ["Loss", loss(run.loss)],
      ["Eval loss", loss(run.eval_loss)],
      ["Tokens/s", number(run.tokens_per_second, 3)],
      ["Memory", bytes(run.peak_memory)],
      ["Time left", duration(run.seconds_left)],
    ]} />
  <//>`;
}
