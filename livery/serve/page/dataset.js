/* One dataset: its sections and rows, with what a reviewer thinks of them, and its exports. */
import { html, useEffect, useState } from "./vendor/htm-preact.mjs";
import { post, put, useLoaded } from "./parts/api.js";
import { Delete } from "./parts/delete.js";
import { bytes, number, shown } from "./parts/format.js";
import { go, to } from "./parts/router.js";
import { Action, Badge, Card, Empty, Fault, Figures, Loaded, Pager, Switch, Table, Title } from "./parts/ui.js";

const SIZE = 25;

export default function Dataset({ parts, query }) {
  const name = parts[1];
  const place = `/api/datasets/${encodeURIComponent(name)}`;
  const found = useLoaded(place);
  return html`<${Loaded} of=${found}>${(one) => html`
    <${Title} under=${one.skill} actions=${html`<${Delete} name=${name} place=${place} back="#/data" what="Its rows, and what reviewers said of them, go with it." />`}>${name}<//>
    ${one.problem && html`<div class="fault" role="alert"><p>${one.problem}</p></div>`}
    <${Figures} of=${Object.entries(one.splits).map(([split, { rows, bytes: size }]) => [split, rows === null ? bytes(size) : `${number(rows)} rows`, rows === null ? "" : bytes(size)])} />
    ${Object.keys(one.splits).length > 0 && html`<${Rows} key=${name} name=${name} place=${place} splits=${Object.keys(one.splits)} section=${query.get("section")} exported=${one.exported} changed=${found.reload} />`}
    <${Copies} place=${place} />
  `}<//>`;
}

function Rows({ name, place, splits, section, exported, changed }) {
  const [asked, setAsked] = useState({ split: splits[0], q: "", status: "", page: 0 });
  const [typed, type] = useState("");
  useEffect(() => {
    const timer = setTimeout(() => setAsked((old) => (old.q === typed ? old : { ...old, q: typed, page: 0 })), 250);
    return () => clearTimeout(timer);
  }, [typed]);
  useEffect(() => setAsked((old) => ({ ...old, page: 0 })), [section]);
  const query = new URLSearchParams({ split: asked.split, offset: asked.page * SIZE, limit: SIZE });
  if (asked.q) query.set("q", asked.q);
  if (asked.status) query.set("status", asked.status);
  if (section !== null) query.set("section", section);
  const found = useLoaded(`${place}/rows?${query}`);
  const kinds = useLoaded(`/api/finetune/modules/${encodeURIComponent(name)}/sections?split=${asked.split}`);
  const reload = () => Promise.all([found.reload(), kinds.reload(), changed()]);
  const chosen = (key) => ({ target }) => setAsked((old) => ({ ...old, [key]: target.value, page: 0 }));
  const review = (row, status) => async () => {
    await put(`${place}/rows/${row.n}?split=${asked.split}`, { status, id: row.id });
    await reload();
  };
  const all = (status) => async () => {
    await post(`${place}/review`, { split: asked.split, status, ids: found.data.rows.filter((row) => row.status === "new").map((row) => row.id) });
    await reload();
  };
  return html`<${Sections} name=${name} split=${asked.split} kinds=${kinds} at=${section} exported=${exported} reload=${reload} />
  <section aria-label="Rows">
    ${section !== null && html`<div class="toolbar"><p class="grow">Only the section <strong>${section || "without a name"}</strong></p><a class="button" href=${to("data", name)}>All sections</a></div>`}
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

/** Kinds of rows, as their metadata name them: to look through, approve, and switch on and off. */
function Sections({ name, split, kinds, at, exported, reload }) {
  const sections = kinds.data?.sections ?? [];
  if (sections.length < 2 && !sections[0]?.name) return html`<${Fault} error=${kinds.error} />`;
  const review = (section, status) => async () => {
    await post("/api/finetune/sections/generated/approve", { module: name, split, section, status });
    await reload();
  };
  const turn = (section) => async (enabled) => {
    await put(`/api/finetune/modules/${encodeURIComponent(name)}/enabled`, { enabled, section });
    await reload();
  };
  const words = (one) => one.name || "without a name";
  return html`<h2>Sections</h2><${Fault} error=${kinds.error} />
    <${Table} label="Sections" size=${20} rows=${sections} head=${["Section", "On", "Rows", "Reviewed", "Do"]}
      row=${(one) => html`<tr key=${one.name} class=${one.name === at ? "ours" : ""}><th scope="row"><a href="${to("data", name)}?${new URLSearchParams({ section: one.name })}" aria-label="Show section ${words(one)}">${words(one)}</a></th>
        <td>${exported ? "–" : html`<${Switch} on=${one.enabled} turn=${turn(one.name)} label="Train on section ${words(one)}" />`}</td><td class="figure">${number(one.rows)}</td>
        <td>${Object.entries(one.review).map(([status, count]) => `${number(count)} ${status}`).join(", ")}</td>
        <td><div class="actions"><${Action} act=${review(one.name, "approved")} label="Approve section ${words(one)}" done="Section approved." disabled=${one.review.approved === one.rows}>Approve<//>
          <${Action} act=${review(one.name, "rejected")} label="Reject section ${words(one)}" done="Section rejected." disabled=${one.review.rejected === one.rows}>Reject<//></div></td></tr>`} />`;
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
