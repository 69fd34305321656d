/* Base and tuned answer the same prompt side by side, as they write. */
import { html, useRef, useState } from "./vendor/htm-preact.mjs";
import { stream, useLoaded } from "./parts/api.js";
import { number } from "./parts/format.js";
import { announce, Empty, Fault, Loaded, Title } from "./parts/ui.js";

export default function PlaygroundPage({ query }) {
  const models = useLoaded("/v1/models");
  return html`<${Title} under="The first answer takes longer: its base is loaded for it.">Playground<//>
    <${Loaded} of=${models}>${({ data }) => {
      const tuned = data.filter((one) => one.id !== "base");
      return tuned.length === 0 ? html`<${Empty}>There is no adapter to ask yet.<//>` : html`<${Playground} models=${tuned} first=${query.get("adapter")} />`;
    }}<//>`;
}

function Playground({ models, first }) {
  const [model, choose] = useState(models.some((one) => one.id === first) ? first : models[0].id);
  const [answers, setAnswers] = useState({});
  const [asking, setAsking] = useState(false);
  const stopping = useRef(null);
  async function ask(event) {
    event.preventDefault();
    const form = new FormData(event.target);
    const messages = [{ role: "user", content: form.get("prompt") }];
    if (form.get("system").trim()) messages.unshift({ role: "system", content: form.get("system") });
    const body = { messages, stream: true, max_tokens: Number(form.get("tokens")) || 256, temperature: Number(form.get("temperature")) || 0 };
    const stop = (stopping.current = new AbortController());
    setAnswers({});
    setAsking(true);
    // The engine answers both in turns, a token each, unless it is llama.cpp: one after the other.
    await Promise.all([`${model}:base`, model].map((name, at) => answer(at ? "tuned" : "base", { ...body, model: name }, stop.signal)));
    setAsking(false);
    announce("Both have answered.");
  }
  async function answer(side, body, signal) {
    const began = performance.now();
    let said = "";
    let pieces = 0;
    const show = (more) => setAnswers((old) => ({ ...old, [side]: { said, pieces, seconds: (performance.now() - began) / 1000, ...more } }));
    try {
      for await (const event of stream("/v1/chat/completions", body, signal)) {
        if (event.error) throw new Error(event.error.message);
        const piece = event.choices?.[0]?.delta?.content;
        if (piece) {
          said += piece;
          pieces += 1;
          show({});
        }
      }
      show({ done: true });
    } catch (error) {
      show(error.name === "AbortError" ? { stopped: true } : { error });
    }
  }
  return html`<form class="panel" onSubmit=${ask}>
      <div class="fields">
        <div class="field"><label for="model">Adapter</label><select id="model" value=${model} onChange=${({ target }) => choose(target.value)}>${models.map((one) => html`<option value=${one.id}>${one.id}${one.livery?.skill ? ` (${one.livery.skill})` : ""}</option>`)}</select></div>
        <div class="field"><label for="tokens">Longest answer, in tokens</label><input id="tokens" name="tokens" type="number" min="1" max="4096" value="128" /></div>
        <div class="field"><label for="temperature">Temperature</label><input id="temperature" name="temperature" type="number" min="0" max="2" step="0.1" value="0" /></div>
      </div>
      <div class="field"><label for="system">System prompt</label><textarea id="system" name="system" rows="2" placeholder="none"></textarea></div>
      <div class="field"><label for="prompt">Prompt</label><textarea id="prompt" name="prompt" rows="3" required></textarea></div>
      <div class="submit"><button class="main" disabled=${asking}>Ask both</button>${asking && html`<button type="button" onClick=${() => stopping.current?.abort()}>Stop</button>`}</div>
    </form>
    <div class="sides">
      ${[["base", "Base"], ["tuned", "Tuned"]].map(([side, words]) => html`<section class="card answer" key=${side} aria-label="${words} answer" aria-busy=${asking && !answers[side]?.done}>
        <div class="card-head"><h2>${words}</h2><span class="quiet">${answers[side] ? `${number(answers[side].pieces)} pieces in ${answers[side].seconds.toFixed(1)} s` : ""}</span></div>
        <p class="said">${answers[side]?.said}</p><${Fault} error=${answers[side]?.error} />
        ${answers[side]?.stopped && html`<p class="quiet">Stopped.</p>`}
      </section>`)}
    </div>`;
}
