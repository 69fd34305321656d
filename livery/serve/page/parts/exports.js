/* An adapter in each form: taken away where it is there, made by a job where not. */
import { html, useState } from "../vendor/htm-preact.mjs";
import { post, useLoaded } from "./api.js";
import { bytes } from "./format.js";
import { go, to } from "./router.js";
import { Action, Empty } from "./ui.js";

const FORMS = [
  ["peft", "PEFT", "transformers, vLLM"], ["mlx", "MLX", "mlx-lm on a Mac"], ["gguf", "GGUF", "llama.cpp"],
  ["zip", "Zip", "every runtime in one file"],
];

export function Exports({ name }) {
  const place = `/api/adapters/${encodeURIComponent(name)}`;
  const adapter = useLoaded(place);
  const [base, setBase] = useState("");
  if (adapter.error?.status === 404) return html`<${Empty}>There is no adapter yet: it is written when the run has ended.<//>`;
  if (!adapter.data) return html`<p class="quiet">Loading …</p>`;
  const { forms } = adapter.data;
  const make = (form) => async () => go(to("jobs", (await post(`${place}/forms`, { to: form })).job));
  return html`<ul class="forms">
    ${FORMS.map(([form, words, where]) => html`<li class="card" key=${form}>
      <div><h2>${words}</h2><p class="quiet">${where}${form in forms ? ` · ${bytes(forms[form])}` : ""}</p></div>
      ${form in forms
        ? html`<a class="button main" href="${place}/export?form=${form}" download aria-label="Save ${words}">Save</a>`
        : html`<${Action} act=${make(form)} label="Make ${words}">Make<//>`}
    </li>`)}
    <li class="card ollama"><div><h2>Ollama</h2><p class="quiet">A Modelfile with the GGUF adapter</p></div>
      <label for="ollama-base">Base's name in Ollama</label>
      <input id="ollama-base" value=${base} onInput=${({ target }) => setBase(target.value.trim())} placeholder="llama3.2:1b" />
      ${base && "gguf" in forms
        ? html`<a class="button main" href="${place}/export?form=ollama&from=${encodeURIComponent(base)}" download aria-label="Save Ollama">Save</a>`
        : html`<p class="help">${"gguf" in forms ? "Say which base it is for." : "Make the GGUF first."}</p>`}
    </li>
  </ul>`;
}
