/* Train an adapter again on what was approved since: with which data and settings, and whether it may
   take the adapter's place. */
import { html, useMemo, useState } from "../vendor/htm-preact.mjs";
import { post, useLoaded } from "./api.js";
import { go, to } from "./router.js";
import { BASIC, readAll, SettingField } from "./settings.js";
import { Dialog, Fault, Field } from "./ui.js";

export function Retrain({ name, place, close }) {
  const datasets = useLoaded("/api/datasets");
  const options = useLoaded("/api/options");
  const [asked, setAsked] = useState({ data: "", approve_marked: false, promote: true, own: false });
  const [texts, setTexts] = useState({});
  const [error, setError] = useState(null);
  const [busy, setBusy] = useState(false);
  const basic = useMemo(() => (options.data?.options ?? []).filter((one) => BASIC.includes(one.name)), [options.data]);
  const { values, errors } = useMemo(() => readAll(basic, texts), [basic, texts]);
  const set = (key) => ({ target }) => setAsked((old) => ({ ...old, [key]: target.type === "checkbox" ? target.checked : target.value }));
  async function start(event) {
    event.preventDefault();
    if (asked.own && Object.keys(errors).length > 0) return event.target.querySelector("[aria-invalid=true]")?.focus();
    setBusy(true);
    setError(null);
    const { data, approve_marked, promote } = asked;
    try {
      const job = await post(`${place}/retrain`, { approve_marked, promote, ...(data ? { data } : {}), ...(asked.own ? { settings: values } : {}) });
      go(to("jobs", job.id));
    } catch (fault) {
      setError(fault);
      setBusy(false);
    }
  }
  return html`<${Dialog} title="Retrain ${name}" close=${close}><form class="panel" onSubmit=${start} novalidate>
    <p class="quiet">What was approved since is added to the data, and a new adapter is trained beside this one.</p>
    <${Field} id="retrain-data" label="Data"><select id="retrain-data" value=${asked.data} onChange=${set("data")}><option value="">what it was trained on</option>
      ${(datasets.data?.datasets ?? []).map((one) => html`<option value=${one.name}>${one.name}</option>`)}</select><//>
    <label class="choice"><input type="checkbox" checked=${asked.approve_marked} onChange=${set("approve_marked")} /> Users' marks decide first</label>
    <label class="choice"><input type="checkbox" checked=${asked.promote} onChange=${set("promote")} /> It takes this adapter's place if it is shown to be better</label>
    <label class="choice"><input type="checkbox" checked=${asked.own} onChange=${set("own")} /> Other settings than it was trained with</label>
    ${asked.own && html`<div class="fields">${basic.map((option) => html`<${SettingField} key=${option.name} option=${option} text=${texts[option.name]} error=${errors[option.name]}
      change=${(text) => setTexts((old) => ({ ...old, [option.name]: text }))} />`)}</div>`}
    <${Fault} error=${error ?? datasets.error ?? options.error} />
    <div class="actions"><button type="button" onClick=${close}>Back</button><button class="main" disabled=${busy}>Start</button></div>
  </form><//>`;
}
