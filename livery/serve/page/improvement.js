/* From what went wrong to a better adapter: weak answers, review, retrain, promote, roll back. */
import { html, useState } from "./vendor/htm-preact.mjs";
import { post, put, useLoaded } from "./parts/api.js";
import { number, percent, shown, when } from "./parts/format.js";
import { go, to } from "./parts/router.js";
import { Retrain } from "./parts/retrain.js";
import { Action, Badge, Card, Empty, Figures, Loaded, Pager, Table, Title } from "./parts/ui.js";

const SIZE = 20;

export default function Improvement({ parts }) {
  return parts[1] ? html`<${One} name=${parts[1]} />` : html`<${All} />`;
}

function All() {
  const found = useLoaded("/api/adapters", 10000);
  const logging = useLoaded("/api/improve/log");
  const turn = async () => {
    await put("/api/improve/log", { on: !logging.data.on });
    await logging.reload();
  };
  return html`<${Title} under="Look through weak answers, train on what you corrected, and keep only what is shown to be better.">Improve<//>
    <${Loaded} of=${logging}>${({ on }) => html`<${Card} title="The log" actions=${html`<${Action} act=${turn}>${on ? "Stop logging" : "Log answers"}<//>`}>
      <p>${on ? "Answers are logged, redacted, on this machine." : "Nothing is logged. Weak answers are found in the log only."}</p><//>`}<//>
    <${Loaded} of=${found}>${({ adapters }) => html`<${Table} label="Adapters" rows=${adapters} empty="There is no adapter to improve yet." head=${["Adapter", "Skill", "Accuracy", "Changed"]}
      row=${(one) => html`<tr key=${one.name}><th scope="row"><a href=${to("improve", one.name)}>${one.name}</a></th><td>${one.skill ?? "–"}</td><td class="figure">${percent(one.accuracy)}</td><td>${when(one.changed)}</td></tr>`} />`}<//>`;
}

function One({ name }) {
  const place = `/api/improve/${encodeURIComponent(name)}`;
  const [every, showEvery] = useState(false);
  const about = useLoaded(place, 5000);
  const weak = useLoaded(`${place}/weak${every ? "?every=true" : ""}`);
  const [retraining, retrain] = useState(false);
  const back = async () => {
    await post(`${place}/roll-back`);
    await about.reload();
  };
  return html`<${Title} under="A retrained adapter takes this one's place only if the paired evaluation says that it is better."
      actions=${html`<button type="button" class="main" onClick=${() => retrain(true)}>Retrain</button>
        <${Action} kind="danger" act=${back} done="The adapter before is in use again." disabled=${!about.data?.kept.length}>Roll back<//>`}>Improve ${name}<//>
    ${retraining && html`<${Retrain} name=${name} place=${place} close=${() => retrain(false)} />`}
    <${Loaded} of=${about}>${(said) => html`
      <${Figures} of=${[["Skill", said.skill], ["Logged", said.logging ? "yes" : "no"], ["Kept to go back to", number(said.kept.length)], ["Next retraining", said.schedule ? when(said.schedule.due) : "by hand", said.schedule?.said]]} />
      ${said.promotion && html`<${Card} title="The last comparison"><${Verdict} of=${said.promotion} /><//>`}
      ${said.jobs.length > 0 && html`<${Table} label="Retrainings" size=${10} rows=${said.jobs} head=${["Adapter", "State", "Step", "Cause"]}
        row=${(job) => html`<tr key=${job.id}><th scope="row"><a href=${to("jobs", job.id)}>${job.name}</a></th><td><${Badge}>${job.state}<//></td><td>${job.step ?? "–"}</td><td class="said">${shown(job.cause)}</td></tr>`} />`}
      <${Plans} place=${place} schedule=${said.schedule} reload=${about.reload} name=${name} />`}<//>
    <div class="toolbar"><h2 class="grow">Answers to look at</h2><label>Show <select value=${every ? "all" : "weak"} onChange=${({ target }) => showEvery(target.value === "all")}><option value="weak">weak and marked</option><option value="all">all</option></select></label></div>
    <${Loaded} of=${weak}>${({ interactions, notes }) => html`
      ${notes.map((note) => html`<p class="quiet">${note}</p>`)}
      ${interactions.length === 0 ? html`<${Empty}>There is nothing to decide on.<//>` : html`<${Answers} of=${interactions} place=${place} reload=${weak.reload} />`}`}<//>`;
}

function Verdict({ of }) {
  const told = Object.entries(of).filter(([, value]) => value === null || typeof value !== "object");
  return html`<dl class="pairs">${told.map(([key, value]) => html`<dt>${key}</dt><dd class="said">${shown(value)}</dd>`)}</dl>`;
}

function Plans({ place, schedule, reload, name }) {
  const [hours, setHours] = useState(schedule?.hours ?? 24);
  const [marked, setMarked] = useState(schedule?.approve_marked ?? false);
  const [other, setOther] = useState("");
  const adapters = useLoaded("/api/adapters");
  const plan = async () => {
    await put(`${place}/schedule`, { hours: Number(hours), approve_marked: marked });
    await reload();
  };
  const stop = async () => {
    await post(`${place}/schedule`, undefined, { method: "DELETE" });
    await reload();
  };
  const promote = async () => go(to("jobs", (await post(`${place}/promote`, { new: other })).id));
  const others = (adapters.data?.adapters ?? []).filter((one) => one.name !== name);
  return html`<${Card} title="Retrain by schedule, or promote another adapter"><div class="toolbar">
      <label>Every so many hours <input type="number" min="0.1" step="any" value=${hours} onInput=${({ target }) => setHours(target.value)} /></label>
      <label class="choice"><input type="checkbox" checked=${marked} onChange=${({ target }) => setMarked(target.checked)} /> Marks decide first</label>
      <${Action} act=${plan} done="Planned.">${schedule ? "Change" : "Plan"}<//>${schedule && html`<${Action} act=${stop} done="No longer planned.">No longer<//>`}
      <label class="grow">Other adapter <select value=${other} onChange=${({ target }) => setOther(target.value)}><option value="">choose one</option>${others.map((one) => html`<option value=${one.name}>${one.name}</option>`)}</select></label>
      <${Action} act=${promote} disabled=${!other}>Compare and promote<//>
    </div><//>`;
}

function Answers({ of, place, reload }) {
  const [page, turn] = useState(0);
  const last = Math.max(0, Math.ceil(of.length / SIZE) - 1);
  const at = Math.min(page, last);
  return html`<ol class="rows">${of.slice(at * SIZE, (at + 1) * SIZE).map((one) => html`<${Answer} key=${one.id} one=${one} place=${place} reload=${reload} />`)}</ol>
    <${Pager} label="Answers" at=${at} last=${last} total=${of.length} go=${turn} />`;
}

function Answer({ one, place, reload }) {
  const [right, setRight] = useState(one.mark?.corrected ?? "");
  const decide = (choice) => async () => {
    await post(`${place}/review`, { id: one.id, choice, answer: choice === "correct" ? right : "" });
    await reload();
  };
  const id = `right-${one.id}`;
  return html`<li class="card">
    <dl class="turns">${one.messages.map((turn) => html`<dt>${shown(turn.role)}</dt><dd class="said">${shown(turn.content)}</dd>`)}
      <dt>Answer</dt><dd class="said">${one.answer}</dd>
      ${one.weak.length > 0 && html`<dt>Why weak</dt><dd class="said">${one.weak.join("; ")}</dd>`}
      ${one.mark && html`<dt>Marked</dt><dd>${one.mark.verdict}</dd>`}</dl>
    <div class="field"><label for=${id}>The right answer</label><textarea id=${id} rows="2" value=${right} onInput=${({ target }) => setRight(target.value)}></textarea></div>
    <div class="actions">
      <${Action} act=${decide("approve")} done="Approved.">Approve as it is<//>
      <${Action} act=${decide("correct")} done="Corrected." disabled=${!right.trim()}>Correct<//>
      <${Action} act=${decide("drop")} done="Dropped.">Drop<//>
    </div></li>`;
}
