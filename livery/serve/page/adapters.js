/* Adapters: the forms that are there of each, and each to take away. */
import { html } from "./vendor/htm-preact.mjs";
import { useLoaded } from "./parts/api.js";
import { Arms } from "./parts/arms.js";
import { Delete } from "./parts/delete.js";
import { Exports } from "./parts/exports.js";
import { bytes, number, percent, when } from "./parts/format.js";
import { to } from "./parts/router.js";
import { Card, Figures, Loaded, Table, Title } from "./parts/ui.js";

export default function Adapters({ parts }) {
  return parts[1] ? html`<${Adapter} name=${parts[1]} />` : html`<${All} />`;
}

function All() {
  const found = useLoaded("/api/adapters", 10000);
  return html`<${Title} under="One folder for every runtime.">Adapters<//>
    <${Loaded} of=${found}>${({ adapters }) => html`<${Table} label="Adapters" rows=${adapters} empty="No adapters yet." head=${["Name", "Skill", "Forms", "Rank", "Accuracy", "Changed"]}
      row=${(one) => html`<tr key=${one.name}><th scope="row"><a href=${to("adapters", one.name)}>${one.name}</a></th><td>${one.skill ?? "–"}</td><td>${Object.keys(one.forms).join(", ")}</td>
      <td class="figure">${number(one.rank)}</td><td class="figure">${percent(one.accuracy)}</td><td>${when(one.changed)}</td></tr>`} />`}<//>`;
}

function Adapter({ name }) {
  const found = useLoaded(`/api/adapters/${encodeURIComponent(name)}`);
  return html`<${Loaded} of=${found}>${(one) => html`
    <${Title} under=${one.base} actions=${html`${one.run && html`<a class="button" href=${to("runs", name)}>Run</a>`}<a class="button" href=${`#/playground?adapter=${encodeURIComponent(name)}`}>Try it</a>
      <${Delete} name=${name} place=${`/api/adapters/${encodeURIComponent(name)}`} back="#/adapters" what="Its run, every form of it, and what its promotions keep go with it." />`}>${name}<//>
    <${Figures} of=${[["Skill", one.skill], ["Rank", number(one.rank)], ["Alpha", number(one.alpha)], ["Accuracy", percent(one.accuracy)], ["Changed", when(one.changed)]]} />
    <h2>Export</h2><${Exports} name=${name} />
    ${one.evaluations.map((each) => html`<${Card} key=${each.file} title=${html`<a href=${to("evaluations", name, each.file)}>${each.set ?? each.file}</a>`}><${Arms} arms=${each.arms} /><//>`)}
    <h2>Files</h2>
    <${Table} label="Files" rows=${Object.entries(one.files)} head=${["File", "Size", "SHA-256"]}
      row=${([file, { bytes: size, sha256 }]) => html`<tr key=${file}><th scope="row">${file}</th><td class="figure">${bytes(size)}</td><td><code class="hash">${sha256}</code></td></tr>`} />
  `}<//>`;
}
