/* From what went wrong to a better adapter: weak answers, review, retrain, promote, roll back. */
import { html, useState } from "./vendor/htm-preact.mjs";
import { post, useLoaded } from "./parts/api.js";
import { percent, shown, when } from "./parts/format.js";
import { go, to } from "./parts/router.js";
import { Action, Empty, Loaded, Pager, Table, Title } from "./parts/ui.js";

export default function Improvement({ parts }) {
  return parts[1] ? html`<${One} name=${parts[1]} />` : html`<${All} />`;
}

function All() {
  const found = useLoaded("/api/adapters", 10000);
  return html`<${Title} under="Look through weak answers, train on what you corrected, and keep only what is shown to be better.">Improve<//>
    <${Loaded} of=${found}>${({ adapters }) => html`<${Table} label="Adapters" rows=${adapters} empty="There is no adapter to improve yet." head=${["Adapter", "Skill", "Accuracy", "Changed"]}
      row=${(one) => html`<tr key=${one.name}><th scope="row"><a href=${to("improve", one.name)}>${one.name}</a></th><td>${one.skill ?? "–"}</td><td class="figure">${percent(one.accuracy)}</td><td>${when(one.changed)}</td></tr>`} />`}<//>`;
}

function One({ name }) {
  const place = `/api/improve/${encodeURIComponent(name)}`;
  const found = useLoaded(`${place}/weak`);
  const job = (path) => async () => {
    const made = await post(`${place}/${path}`);
    if (made?.job) go(to("jobs", made.job.id ?? made.job));
  };
  return html`<${Title} under="Weak answers of this adapter, newest first." actions=${html`
      <${Action} kind="main" act=${job("retrain")}>Retrain<//><${Action} act=${job("promote")}>Promote<//><${Action} kind="danger" act=${job("roll-back")} done="The one before is in use again.">Roll back<//>`}>Improve ${name}<//>
    <${Loaded} of=${found}>${({ weak }) => weak.length === 0 ? html`<${Empty}>No weak answers.<//>` : html`<${Weak} weak=${weak} place=${place} reload=${found.reload} />`}<//>`;
}

function Weak({ weak, place, reload }) {
  const [page, turn] = useState(0);
  const size = 20;
  return html`<ol class="rows">${weak.slice(page * size, page * size + size).map((one) => html`<${Interaction} key=${one.id} one=${one} place=${place} reload=${reload} />`)}</ol>
    <${Pager} label="Weak answers" at=${page} last=${Math.max(0, Math.ceil(weak.length / size) - 1)} total=${weak.length} go=${turn} />`;
}

function Interaction({ one, place, reload }) {
  const [corrected, correct] = useState(one.corrected ?? "");
  const mark = (kind) => async () => {
    await post(`${place}/marks`, { id: one.id, mark: kind, ...(corrected.trim() ? { corrected } : {}) });
    await reload();
  };
  return html`<li class="card"><dl class="turns"><dt>Asked</dt><dd class="said">${shown(one.asked)}</dd><dt>Answered</dt><dd class="said">${shown(one.answer)}</dd><dt>Why weak</dt><dd class="said">${shown(one.why)}</dd></dl>
    <div class="field"><label for="corrected-${one.id}">Better answer</label><textarea id="corrected-${one.id}" rows="2" value=${corrected} onInput=${({ target }) => correct(target.value)}></textarea></div>
    <div class="actions"><${Action} act=${mark("good")} done="Kept.">It was good<//><${Action} act=${mark("bad")} done="Marked.">${corrected.trim() ? "Correct it" : "It was bad"}<//></div></li>`;
}
