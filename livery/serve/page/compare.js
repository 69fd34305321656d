/* Several runs in the same charts. */
import { html, useEffect, useMemo, useState } from "./vendor/htm-preact.mjs";
import { get, useLoaded } from "./parts/api.js";
import { Chart, line } from "./parts/chart.js";
import { bytes, loss, number } from "./parts/format.js";
import { to } from "./parts/router.js";
import { Badge, Empty, Fault, Table, Title } from "./parts/ui.js";

export default function Compare({ query }) {
  const names = query.getAll("run").slice(0, 6);
  const [metrics, setMetrics] = useState({});
  const [error, setError] = useState(null);
  const runs = useLoaded("/api/runs?limit=1000", 5000);
  const chosen = names.map((name) => runs.data?.runs.find((run) => run.name === name)).filter(Boolean);
  const older = runs.data ? names.filter((name) => !chosen.some((run) => run.name === name)) : [];
  const steps = chosen.map((run) => `${run.name} ${run.step}`).join();
  useEffect(() => {
    let ended = false;
    Promise.all(names.map((name) => get(`/api/runs/${encodeURIComponent(name)}/metrics?points=600`)))
      .then((all) => ended || setMetrics(Object.fromEntries(names.map((name, at) => [name, all[at].metrics]))))
      .catch((fault) => ended || setError(fault));
    return () => (ended = true);
  }, [names.join("/"), steps]);
  const [losses, evaluated] = useMemo(() => ["loss", "eval_loss"].map((key) =>
    names.map((name, at) => line(metrics[name] ?? [], key, name, { colour: at, dots: key === "eval_loss" }))), [metrics]);
  if (names.length === 0) return html`<${Empty}>Choose two to six runs to compare. <a href="#/runs">To the runs</a><//>`;
  return html`<${Title} under="The same steps side by side.">Compare runs<//>
    <${Fault} error=${error} />
    <div class="charts">
      <div class="wide"><${Chart} title="Loss" lines=${losses} height=${300} /></div>
      <div class="wide"><${Chart} title="Eval loss" lines=${evaluated} height=${260} /></div>
    </div>
    ${older.length > 0 && html`<p class="quiet" role="status">Not in the table, which has the newest ${number(runs.data.runs.length)} runs: ${older.join(", ")}.</p>`}
    <${Table} label="Compared runs" rows=${chosen} head=${["Name", "State", "Step", "Loss", "Eval loss", "Best", "Tokens/s", "Memory"]}
      row=${(run) => html`<tr key=${run.name}><th scope="row"><a href=${to("runs", run.name)}>${run.name}</a></th><td><${Badge}>${run.state}<//></td>
        <td class="figure">${number(run.step)}</td><td class="figure">${loss(run.loss)}</td><td class="figure">${loss(run.eval_loss)}</td>
        <td class="figure">${loss(run.best?.eval_loss)}</td><td class="figure">${number(run.tokens_per_second, 3)}</td><td class="figure">${bytes(run.peak_memory)}</td></tr>`} />`;
}
