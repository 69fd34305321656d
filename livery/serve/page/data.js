/* The data browser: datasets, which of them are on, and how more are made: put together, generated,
   uploaded. */
import { html, useState } from "./vendor/htm-preact.mjs";
import { post, put, useLoaded } from "./parts/api.js";
import { number, when } from "./parts/format.js";
import { go, to } from "./parts/router.js";
import { Action, announce, Card, Fault, Field, Loaded, Switch, Table, Title } from "./parts/ui.js";

const KINDS = ".jsonl,.json,.csv,.tsv,.parquet,.zip";

export default function DataBrowser() {
  const found = useLoaded("/api/datasets");
  const turn = (one) => async (enabled) => {
    await put(`/api/finetune/modules/${encodeURIComponent(one.name)}/enabled`, { enabled });
    await found.reload();
  };
  return html`<${Title} under="What adapters learn from. The files stay as they are; what reviewers say is kept beside them.">Data<//>
    <${Loaded} of=${found}>${({ datasets }) => html`<${Table} label="Datasets" rows=${datasets} empty="No datasets yet: upload a file below." head=${["Name", "On", "Skill", "Parts", "Reviewed", "Changed"]}
      row=${(one) => html`<tr key=${one.name}><th scope="row"><a href=${to("data", one.name)}>${one.name}</a></th><td>${one.exported ? html`<span class="quiet">put together</span>` : html`<${Switch} on=${one.enabled} turn=${turn(one)} label="Train on ${one.name}" />`}</td><td>${one.skill ?? "–"}</td>
        <td>${one.problem ? html`<span class="error">${one.problem}</span>` : Object.entries(one.splits).map(([split, { rows }]) => `${split}${rows === null ? "" : ` ${number(rows)}`}`).join(", ")}</td>
        <td>${Object.entries(one.review).map(([status, count]) => `${number(count)} ${status}`).join(", ") || "–"}</td><td>${when(one.changed)}</td></tr>`} />
      ${datasets.some((one) => !one.exported) && html`<${Together} datasets=${datasets} />`}`}<//>
    <${Generate} />
    <${Upload} />`;
}

/** One dataset of all that are on, to train on. */
function Together({ datasets }) {
  const on = datasets.filter((one) => one.enabled && !one.exported).length;
  const act = async () => {
    const { dataset, rows } = await post("/api/finetune/export");
    announce(`${dataset} has ${number(rows.train)} rows to train on.`);
    go(to("data", dataset));
  };
  return html`<${Card} title="Put together what is on" actions=${html`<${Action} act=${act} disabled=${!on}>Put together<//>`}>
    <p class="quiet">Makes one dataset, <code>aios_combined</code>, of the datasets and sections that are on, ${number(on)} of ${number(datasets.filter((one) => !one.exported).length)} datasets now. Rejected rows stay out.</p><//>`;
}

/** A new dataset of a skill's own generator. */
function Generate() {
  const skills = useLoaded("/v1/skills");
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  async function send(event) {
    event.preventDefault();
    const form = new FormData(event.target);
    setBusy(true);
    setError(null);
    try {
      const asked = { skill: form.get("skill"), count: Number(form.get("count")), seed: Number(form.get("seed")) };
      const { module } = await post("/api/finetune/generate", form.get("name") ? { ...asked, module: form.get("name") } : asked);
      announce(`${module.name} was made.`);
      go(to("data", module.name));
    } catch (fault) {
      setError(fault);
      setBusy(false);
    }
  }
  return html`<${Card} title="Generate"><form class="fields" onSubmit=${send}>
      <${Field} id="made-skill" label="Skill"><select id="made-skill" name="skill">${(skills.data?.skills ?? []).map((one) => html`<option value=${one.name}>${one.name}</option>`)}</select><//>
      <${Field} id="made-count" label="Rows to train on" help="At most 100,000."><input id="made-count" name="count" type="number" min="1" max="100000" value="200" required aria-describedby="made-count-help" /><//>
      <${Field} id="made-seed" label="Seed" help="The same seed makes the same rows."><input id="made-seed" name="seed" type="number" min="0" max="2147483648" value="7" required aria-describedby="made-seed-help" /><//>
      <${Field} id="made-name" label="Name of what is made" help="Without one, the skill and the seed."><input id="made-name" name="name" autocomplete="off" pattern="[A-Za-z0-9_][A-Za-z0-9._\\-]*" aria-describedby="made-name-help" /><//>
      <div class="submit"><button class="main" disabled=${busy || !skills.data}>${busy ? "Making …" : "Generate"}</button></div>
    </form><${Fault} error=${error ?? skills.error} /><//>`;
}

function Upload() {
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  async function send(event) {
    event.preventDefault();
    const form = new FormData(event.target);
    const file = form.get("file");
    const query = new URLSearchParams({ name: form.get("name") || file.name.replace(/\.[^.]*$/, ""), filename: file.name, split: form.get("split") });
    setBusy(true);
    setError(null);
    try {
      const { dataset, check } = await post(`/api/datasets?${query}`, file, { headers: { "Content-Type": "application/octet-stream" } });
      announce(`${dataset.name} was added.${check.ok ? "" : ` The check found ${check.problems.length} problems.`}`);
      go(to("data", dataset.name));
    } catch (fault) {
      setError(fault);
    }
    setBusy(false);
  }
  return html`<${Card} title="Upload"><form class="fields" onSubmit=${send}>
      <${Field} id="upload-file" label="File" help="JSONL, JSON, CSV, TSV, Parquet, or a zip of such."><input id="upload-file" name="file" type="file" accept=${KINDS} required aria-describedby="upload-file-help" /><//>
      <${Field} id="upload-name" label="Name" help="Without one, the file's."><input id="upload-name" name="name" autocomplete="off" pattern="[A-Za-z0-9_][A-Za-z0-9._\\-]*" aria-describedby="upload-name-help" /><//>
      <${Field} id="upload-split" label="Used for"><select id="upload-split" name="split"><option value="train">training</option><option value="valid">validation</option><option value="test">test</option></select><//>
      <div class="submit"><button class="main" disabled=${busy}>${busy ? "Checking …" : "Upload and check"}</button></div>
    </form><${Fault} error=${error} /><//>`;
}

