/* The data browser: datasets, their rows with what a reviewer thinks of them, upload and export. */
import { html, useEffect, useState } from "./vendor/htm-preact.mjs";
import { post, put, useLoaded } from "./parts/api.js";
import { bytes, number, shown, when } from "./parts/format.js";
import { go, to } from "./parts/router.js";
import { Action, announce, Badge, Card, Empty, Fault, Field, Figures, Loaded, Pager, Table, Title } from "./parts/ui.js";

const SIZE = 25;
const KINDS = ".jsonl,.json,.csv,.tsv,.parquet,.zip";

export default function DataBrowser({ parts }) {
  return parts[1] ? html`<${Dataset} name=${parts[1]} />` : html`<${Datasets} />`;
}

function Datasets() {
  const found = useLoaded("/api/datasets");
  return html`<${Title} under="What adapters learn from. The files stay as they are; what reviewers say is kept beside them.">Data<//>
    <${Loaded} of=${found}>${({ datasets }) => html`<${Table} label="Datasets" rows=${datasets} empty="No datasets yet: upload a file below." head=${["Name", "Skill", "Parts", "Reviewed", "Changed"]}
      row=${(one) => html`<tr key=${one.name}><th scope="row"><a href=${to("data", one.name)}>${one.name}</a></th><td>${one.skill ?? "–"}</td>
        <td>${one.problem ? html`<span class="error">${one.problem}</span>` : Object.entries(one.splits).map(([split, { rows }]) => `${split}${rows === null ? "" : ` ${number(rows)}`}`).join(", ")}</td>
        <td>${Object.entries(one.review).map(([status, count]) => `${number(count)} ${status}`).join(", ") || "–"}</td><td>${when(one.changed)}</td></tr>`} />`}<//>
    <${Upload} />`;
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

function Dataset({ name }) {
  const place = `/api/datasets/${encodeURIComponent(name)}`;
  const found = useLoaded(place);
  return html`<${Loaded} of=${found}>${(one) => html`
    <${Title} under=${one.skill}>${name}<//>
    ${one.problem && html`<div class="fault" role="alert"><p>${one.problem}</p></div>`}
    <${Figures} of=${Object.entries(one.splits).map(([split, { rows, bytes: size }]) => [split, rows === null ? bytes(size) : `${number(rows)} rows`, rows === null ? "" : bytes(size)])} />
    ${Object.keys(one.splits).length > 0 && html`<${Rows} place=${place} splits=${Object.keys(one.splits)} changed=${found.reload} />`}
    <${Copies} place=${place} />
  `}<//>`;
}

function Rows({ place, splits, changed }) {
  const [asked, setAsked] = useState({ split: splits[0], q: "", status: "", page: 0 });
  const [typed, type] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setAsked((old) => (old.q === typed ? old : { ...old, q: typed, page: 0 })), 250);
    return () => clearTimeout(timer);
  }, [typed]);
  const query = new URLSearchParams({ split: asked.split, offset: asked.page * SIZE, limit: SIZE });
  if (asked.q) query.set("q", asked.q);
  if (asked.status) query.set("status", asked.status);
  const found = useLoaded(`${place}/rows?${query}`);
  const chosen = (key) => ({ target }) => setAsked((old) => ({ ...old, [key]: target.value, page: 0 }));
  const review = (row, status) => async () => {
    await put(`${place}/rows/${row.n}?split=${asked.split}`, { status, id: row.id });
    await Promise.all([found.reload(), changed()]);
  };
  const all = (status) => async () => {
    await post(`${place}/review`, { split: asked.split, status, ids: found.data.rows.filter((row) => row.status === "new").map((row) => row.id) });
    await Promise.all([found.reload(), changed()]);
  };
  return html`<section aria-label="Rows">
    <div class="toolbar">
      <label>Part <select value=${asked.split} onChange=${chosen("split")}>${splits.map((one) => html`<option>${one}</option>`)}</select></label>
      <label>Status <select value=${asked.status} onChange=${chosen("status")}>${[["", "all"], ["new", "new"], ["approved", "approved"], ["rejected", "rejected"]].map(([key, words]) => html`<option value=${key}>${words}</option>`)}</select></label>
      <label class="grow">Find <input type="search" value=${typed} onInput=${({ target }) => type(target.value)} placeholder="text in a value" /></label>
      <a class="button" download href="${place}/export?format=jsonl&split=${asked.split}">JSONL</a>
      <a class="button" download href="${place}/export?format=parquet&split=${asked.split}">Parquet</a>
    </div>
    <${Fault} error=${found.error} />
    ${found.data && html`
      <div class="toolbar"><p class="quiet grow" role="status">${number(found.data.total)} rows</p>
        <${Action} act=${all("approved")} done="Approved." disabled=${!found.data.rows.some((row) => row.status === "new")}>Approve the new ones shown<//></div>
      ${found.data.rows.length === 0 ? html`<${Empty}>No row matches.<//>` : html`<ol class="rows">${found.data.rows.map((row) => html`<li class="card" key=${row.id + row.n}>
        <div class="card-head"><h2>Row ${number(row.n)} <${Badge}>${row.status}<//></h2><div class="actions">
          ${row.status !== "approved" && html`<${Action} act=${review(row, "approved")} label="Approve row ${row.n}" done="Row ${row.n} approved.">Approve<//>`}
          ${row.status !== "rejected" && html`<${Action} act=${review(row, "rejected")} label="Reject row ${row.n}" done="Row ${row.n} rejected.">Reject<//>`}
          ${row.status !== "new" && html`<${Action} act=${review(row, "new")} label="Take back what was said of row ${row.n}" done="Taken back.">Undo<//>`}
        </div></div><${Preview} row=${row.row} /></li>`)}</ol>`}
      <${Pager} label="Rows" at=${asked.page} last=${Math.max(0, Math.ceil(found.data.total / SIZE) - 1)} total=${found.data.total} go=${(page) => setAsked((old) => ({ ...old, page }))} />`}
  </section>`;
}

/** A conversation turn by turn, anything else key by key. */
function Preview({ row }) {
  if (Array.isArray(row.messages)) {
    return html`<dl class="turns">${row.messages.map((turn) => html`<dt>${shown(turn?.role)}</dt><dd class="said">${shown(turn?.content ?? turn?.tool_calls)}</dd>`)}</dl>`;
  }
  return html`<dl class="turns">${Object.entries(row).map(([key, value]) => html`<dt>${key}</dt><dd class="said">${shown(value)}</dd>`)}</dl>`;
}

function Copies({ place }) {
  const [name, setName] = useState("");
  const act = async () => {
    const made = await post(`${place}/copy`, { name, leave_out: ["rejected"] });
    go(to("data", made.name));
  };
  return html`<${Card} title="Train on what was not rejected"><p class="quiet">Makes a dataset of the rows that are new or approved.</p>
    <div class="toolbar"><label class="grow">Name of the new dataset <input value=${name} onInput=${({ target }) => setName(target.value.trim())} /></label><${Action} act=${act} disabled=${!name}>Make it<//></div><//>`;
}
