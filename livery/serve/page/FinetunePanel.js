/* Train an adapter: what this machine has to choose from, and everything that will be done, shown
   before it is. A training is a job: it is paused, cancelled and resumed where jobs and runs are. */
import { html, useMemo, useState } from "./vendor/htm-preact.mjs";
import { post, useLoaded } from "./parts/api.js";
import { shown } from "./parts/format.js";
import { go, to } from "./parts/router.js";
import { BASIC, GROUPS, readAll, SettingField, usable } from "./parts/settings.js";
import { Card, Dialog, Fault, Field, Table, Title } from "./parts/ui.js";

const STEPS = [["data", "Make the data"], ["train", "Train"], ["eval", "Evaluate"], ["convert", "Convert to every form"], ["pack", "Pack for every runtime"]];

export default function FinetunePanel() {
  const machine = useLoaded("/api/machine");
  const options = useLoaded("/api/options");
  const datasets = useLoaded("/api/datasets");
  const error = machine.error ?? options.error ?? datasets.error;
  return html`<${Title} under="Only what this machine can do is offered.">Train an adapter<//>
    <${Fault} error=${error} />
    ${machine.data && options.data && datasets.data
      ? html`<${Form} machine=${machine.data} options=${usable(options.data.options, machine.data)} datasets=${datasets.data.datasets} />`
      : !error && html`<p class="quiet">Looking at this machine …</p>`}`;
}

function Form({ machine, options, datasets }) {
  const [asked, setAsked] = useState({ source: "skill", skill: machine.skills[0] ?? "", data: datasets[0]?.name ?? "", teaches: null, name: "", model: "", backend: "auto", engine: "", target: "", data_seed: "", attempts: "", overwrite: false, steps: STEPS.map(([step]) => step) });
  const [texts, setTexts] = useState({});
  const [review, setReview] = useState(false);
  const [refused, setRefused] = useState(null);
  const set = (key) => (value) => setAsked((old) => ({ ...old, [key]: value }));
  const found = useMemo(() => readAll(options, texts), [options, texts]);
  const { values } = found;
  const errors = { ...found.errors };
  if (asked.target !== "" && !(Number(asked.target) >= 0 && Number(asked.target) <= 1)) errors.target = "It must be a share from 0 to 1.";
  if (!isWhole(asked.data_seed, 0)) errors.data_seed = "It must be a whole number, at least 0.";
  if (!isWhole(asked.attempts, 1)) errors.attempts = "It must be a whole number, at least 1.";
  const count = Object.keys(errors).length;
  // What a dataset teaches is what its manifest says, unless somebody says otherwise.
  const own = datasets.find((one) => one.name === asked.data)?.skill;
  const teaches = asked.teaches ?? (machine.skills.includes(own) ? own : "");
  const able = STEPS.filter(([step]) => asked.source === "skill" || (step !== "data" && (step !== "eval" || teaches)));
  const request = requestOf({ ...asked, teaches }, values, able);
  const bases = [["", `The server's own (${shown(options.base ?? machine.bases.embedded)})`], ...machine.bases.bases.filter((one) => one.here).map((one) => [one.name, one.name])];
  async function start() {
    try {
      const job = await post("/api/jobs", request, { headers: { "Idempotency-Key": review } });
      go(to("jobs", job.id));
    } catch (error) {
      setReview(false);
      setRefused(error);
    }
  }
  function submit(event) {
    event.preventDefault();
    setRefused(null);
    if (count === 0) setReview(crypto.randomUUID?.() ?? String(Math.random()));
    else document.querySelector("[aria-invalid=true]")?.focus();
  }
  const field = (option) => html`<${SettingField} key=${option.name} option=${option} text=${texts[option.name]} error=${errors[option.name]}
    change=${(text) => setTexts((old) => ({ ...old, [option.name]: text }))} />`;
  const basic = BASIC.map((name) => options.find((one) => one.name === name)).filter(Boolean);
  return html`<form class="panel" onSubmit=${submit} novalidate>
    <${Card} title="What is trained">
      <fieldset class="choices"><legend>Learn from</legend>
        ${[["skill", "a skill, whose rows are made"], ["data", "a dataset of this server"]].map(([key, words]) => html`<label><input type="radio" name="source" checked=${asked.source === key} onChange=${() => set("source")(key)} /> ${words}</label>`)}
      </fieldset>
      <div class="fields">
        ${asked.source === "skill"
          ? html`<${Pick} id="skill" label="Skill" value=${asked.skill} from=${machine.skills.map((one) => [one, one])} change=${set("skill")} />`
          : html`<${Pick} id="data" label="Dataset" value=${asked.data} from=${datasets.map((one) => [one.name, one.name])} change=${set("data")} help=${datasets.length ? "" : "There is none yet: upload one under Data."} />
            <${Pick} id="teaches" label="Skill that it teaches" value=${teaches} from=${[["", "none of these"], ...machine.skills.map((one) => [one, one])]} change=${set("teaches")} help="The adapter is evaluated on this skill's cases." />`}
        <${Field} id="name" label="Name of the adapter" help="Without one, the skill's or the dataset's."><input id="name" aria-describedby="name-help" value=${asked.name} autocomplete="off" spellcheck=${false} onInput=${({ target }) => set("name")(target.value.trim())} /><//>
        <${Pick} id="model" label="Base" value=${asked.model} from=${bases} change=${set("model")} help="Those that are on this machine." />
        <${Pick} id="backend" label="Backend" value=${asked.backend} from=${["auto", ...machine.backends].map((one) => [one, one])} change=${set("backend")} />
        <${Pick} id="engine" label="Evaluated with" value=${asked.engine} from=${[["", "the backend's own engine"], ...machine.engines.map((one) => [one, one])]} change=${set("engine")} />
        ${asked.source === "skill" && html`<${Whole} id="data_seed" label="Seed of the data" help="The same seed makes the same rows. Default: 7." asked=${asked} errors=${errors} set=${set} placeholder="7" />`}
        <${Whole} id="attempts" label="Attempts" help="How often a step is started before a killed process fails the job. Default: 5." asked=${asked} errors=${errors} set=${set} placeholder="5" />
        <${Field} id="target" label="Target" help="Share that must be right, else the job fails." error=${errors.target}><input id="target" aria-describedby="target-help" aria-invalid=${Boolean(errors.target)} inputmode="decimal" value=${asked.target} placeholder="none" onInput=${({ target }) => set("target")(target.value.trim())} /><//>
      </div>
      <fieldset class="choices"><legend>Steps</legend>${able.map(([step, words]) => html`<label><input type="checkbox" checked=${asked.steps.includes(step)}
        onChange=${() => set("steps")(asked.steps.includes(step) ? asked.steps.filter((one) => one !== step) : [...asked.steps, step])} /> ${words}</label>`)}</fieldset>
      <label class="choice"><input type="checkbox" checked=${asked.overwrite} onChange=${({ target }) => set("overwrite")(target.checked)} /> Replace an adapter of this name; the older one is kept aside</label>
    <//>
    <${Card} title="Settings"><div class="fields">${basic.map(field)}</div><//>
    <details class="card"><summary>All other settings</summary>
      ${Object.entries(GROUPS).map(([group, words]) => {
        const inside = options.filter((one) => one.group === group && !BASIC.includes(one.name));
        return inside.length > 0 && html`<fieldset key=${group}><legend>${words}</legend><div class="fields">${inside.map(field)}</div></fieldset>`;
      })}
    </details>
    <${Fault} error=${refused} />
    <div class="submit"><button class="main">Review and start</button>
      <span class="quiet" role="status">${count > 0 ? `${count} ${count === 1 ? "value is" : "values are"} not usable yet.` : `${Object.keys(values).length} settings differ from the defaults.`}</span></div>
    ${review && html`<${Review} request=${request} options=${options} close=${() => setReview(false)} start=${start} />`}
  </form>`;
}

const isWhole = (text, least) => text === "" || (/^\d{1,9}$/.test(text) && Number(text) >= least);

function Whole({ id, label, help, asked, errors, set, placeholder }) {
  return html`<${Field} id=${id} label=${label} help=${help} error=${errors[id]}><input id=${id} aria-describedby="${id}-help" aria-invalid=${Boolean(errors[id])} inputmode="numeric" autocomplete="off" value=${asked[id]} placeholder=${placeholder} onInput=${({ target }) => set(id)(target.value.trim())} /><//>`;
}

function Pick({ id, label, value, from, change, help }) {
  return html`<${Field} id=${id} label=${label} help=${help}><select id=${id} value=${value} onChange=${({ target }) => change(target.value)}>${from.map(([key, words]) => html`<option value=${key}>${words}</option>`)}</select><//>`;
}

function requestOf(asked, values, able) {
  const order = able.map(([step]) => step).filter((step) => asked.steps.includes(step));
  return {
    [asked.source]: asked[asked.source],
    ...(asked.source === "data" && asked.teaches ? { skill: asked.teaches } : {}),
    name: asked.name,
    steps: order,
    settings: asked.model ? { model: asked.model, ...values } : values,
    backend: asked.backend,
    engine: asked.engine || null,
    target: asked.target === "" ? null : Number(asked.target),
    overwrite: asked.overwrite,
    ...(asked.data_seed !== "" && asked.source === "skill" ? { data_seed: Number(asked.data_seed) } : {}),
    ...(asked.attempts !== "" ? { attempts: Number(asked.attempts) } : {}),
  };
}

/** The whole of what will be done: the request, and every setting with where its value is from. */
function Review({ request, options, close, start }) {
  const [busy, setBusy] = useState(false);
  const { settings, ...rest } = request;
  const rows = options.map((one) => [one.name, one.name in settings ? settings[one.name] : one.default, one.name in settings]);
  if (settings.model) rows.unshift(["model", settings.model, true]);
  rows.sort((a, b) => b[2] - a[2]);
  const begin = async () => {
    setBusy(true);
    await start();
  };
  return html`<${Dialog} title="The full configuration" close=${close}>
    <dl class="pairs">${Object.entries(rest).map(([key, value]) => html`<dt>${key}</dt><dd class="said">${shown(value)}</dd>`)}</dl>
    <${Table} label="Settings" size=${200} rows=${rows} head=${["Setting", "Value", "From"]}
      row=${([name, value, ours]) => html`<tr key=${name} class=${ours ? "ours" : ""}><th scope="row"><code>${name}</code></th><td class="said">${shown(value)}</td><td>${ours ? "you" : "default"}</td></tr>`} />
    <div class="actions"><button type="button" onClick=${close}>Back</button><button type="button" class="main" disabled=${busy} onClick=${begin}>Start</button></div>
  <//>`;
}
