/* What this machine can do, as livery doctor finds it. */
import { html } from "./vendor/htm-preact.mjs";
import { useLoaded } from "./parts/api.js";
import { bytes, shown } from "./parts/format.js";
import { Badge, Card, Figures, Loaded, Table, Title } from "./parts/ui.js";

export default function MachinePage() {
  const found = useLoaded("/api/machine");
  return html`<${Title} under="Looked up once; it takes some seconds the first time.">Machine<//>
    <${Loaded} of=${found}>${({ facts, backends, engines, devices, bases, skills }) => html`
      <${Figures} of=${[["Chip", facts.machine.chip], ["Cores", facts.machine.cores], ["Memory", bytes(facts.machine.memory), `${bytes(facts.machine.memory_available)} free`],
        ["Disk free", bytes(facts.machine.disk_free)], ["Devices", devices.join(", ")], ["Trains with", backends.join(", ") || "nothing"], ["Answers with", engines.join(", ") || "nothing"]]} />
      ${facts.problems?.length > 0 && html`<${Card} title="Problems" tone="failed"><ul>${facts.problems.map((one) => html`<li>${shown(one)}</li>`)}</ul><//>`}
      <h2>Bases</h2>
      <${Table} label="Bases" rows=${bases.bases ?? []} head=${["Name", "Licence", "Memory to train", "Here"]}
        row=${(one) => html`<tr key=${one.name}><th scope="row">${one.name}</th><td>${one.licence}</td><td class="figure">${bytes(one.memory)}</td><td><${Badge}>${one.here ? "yes" : "no"}<//></td></tr>`} />
      <${Card} title="Skills"><p>${skills.join(", ")}</p><//>
      <${Card} title="Packages"><dl class="pairs">${Object.entries(facts.packages ?? {}).map(([name, version]) => html`<dt>${name}</dt><dd>${shown(version)}</dd>`)}</dl><//>
    `}<//>`;
}
