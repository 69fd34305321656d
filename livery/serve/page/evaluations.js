/* Evaluations: how base and tuned answered the same cases, and every case that went wrong. */
import { html, useMemo, useState } from "./vendor/htm-preact.mjs";
import { useLoaded } from "./parts/api.js";
import { Arms } from "./parts/arms.js";
import { number, percent, shown, when } from "./parts/format.js";
import { to } from "./parts/router.js";
import { Badge, Card, Empty, Figures, Loaded, Pager, Table, Title } from "./parts/ui.js";

const MOST = 1000; // that are shown

export default function Evaluations({ parts }) {
  return parts[2] ? html`<${One} adapter=${parts[1]} file=${parts[2]} />` : html`<${All} />`;
}

function All() {
  const found = useLoaded(`/api/evaluations?limit=${MOST}`, 10000);
  return html`<${Title} under="Base and adapter on the same cases.">Evaluations<//>
    <${Loaded} of=${found}>${({ evaluations }) => html`${evaluations.length >= MOST && html`<p class="quiet" role="status">The newest ${number(MOST)} are shown; each adapter's page has all of its own.</p>`}
      <${Table} label="Evaluations" rows=${evaluations} empty="No evaluations yet." head=${["Adapter", "Cases", "Right", "Base", "Target", "Engine", "When"]}
      row=${(one) => html`<tr key=${one.adapter + one.file}><th scope="row"><a href=${to("evaluations", one.adapter, one.file)}>${one.adapter} · ${one.set ?? one.file}</a></th>
        <td class="figure">${number(one.cases)}</td><td class="figure">${percent(one.accuracy)}</td><td class="figure">${percent(base(one)?.accuracy)}</td>
        <td>${one.target === null ? "–" : html`${percent(one.target)} <${Badge}>${one.passed ? "passed" : "missed"}<//>`}</td><td>${one.engine ?? "–"}</td><td>${when(one.written)}</td></tr>`} />`}<//>`;
}

const base = (one) => Object.values(one.arms).find((arm) => arm.tuned === false);

function One({ adapter, file }) {
  const found = useLoaded(`/api/evaluations/${encodeURIComponent(adapter)}/${encodeURIComponent(file)}`);
  return html`<${Loaded} of=${found}>${(record) => html`
    <${Title} under="${file} · ${record.skill?.name ?? ""} · ${record.facts?.engine ?? ""}" actions=${html`<a class="button" href=${to("adapters", adapter)}>Adapter</a>`}>${adapter}<//>
    <${Figures} of=${[["Right", percent(record.accuracy), record.headline], ["Cases", number(record.set?.cases)], ["Target", percent(record.target)], ["Leaks", number(record.leaks?.same)]]} />
    <${Card} title="Base against tuned"><${Arms} arms=${record.arms} /><//>
    ${record.comparisons?.map((one) => html`<${Card} key=${one.before + one.after} title="${one.before} → ${one.after}">
      <p>${number(one.gained?.length)} gained, ${number(one.lost?.length)} lost; p = ${number(one.p_value)}.</p><//>`)}
    <${Cases} cases=${record.cases ?? []} arm=${record.headline} />
  `}<//>`;
}

function Cases({ cases, arm }) {
  const [which, choose] = useState("wrong");
  const [page, turn] = useState(0);
  const rows = useMemo(() => cases.filter((one) => which === "all" || Boolean(one.answers?.[arm]?.correct) === (which === "right")), [cases, which, arm]);
  const shownRows = rows.slice(page * 20, page * 20 + 20);
  return html`<section aria-label="Cases"><div class="toolbar"><h2 class="grow">Cases</h2>
      <label>Show <select value=${which} onChange=${({ target }) => { choose(target.value); turn(0); }}><option value="wrong">wrong</option><option value="right">right</option><option value="all">all</option></select></label></div>
    ${rows.length === 0 ? html`<${Empty}>None.<//>` : html`<ol class="rows">${shownRows.map((one) => html`<li class="card" key=${one.id}>
      <h2 class="said">${shown(one.text)}</h2><dl class="turns"><dt>Expected</dt><dd class="said">${shown(one.expected_text ?? one.expected)}</dd>
      ${Object.entries(one.answers ?? {}).map(([name, answer]) => html`<dt>${name} ${answer.correct ? "✓" : "✗"}</dt><dd class="said">${shown(answer.answer)}${answer.error && html`<small class="error">${answer.error}</small>`}</dd>`)}</dl></li>`)}</ol>`}
    <${Pager} label="Cases" at=${page} last=${Math.max(0, Math.ceil(rows.length / 20) - 1)} total=${rows.length} go=${turn} /></section>`;
}
