/* Base and tuned answer the same prompt side by side, as they write; asked as the skill asks, and
   marked good or bad where answers are logged. */
import { html, useRef, useState } from "./vendor/htm-preact.mjs";
import { post, put, stream, useLoaded } from "./parts/api.js";
import { number } from "./parts/format.js";
import { to } from "./parts/router.js";
import { Action, announce, Empty, Fault, Field, Loaded, Title } from "./parts/ui.js";

export default function PlaygroundPage({ query }) {
  const models = useLoaded("/v1/models");
  const skills = useLoaded("/v1/skills");
  return html`<${Title} under="The first answer takes longer: its base is loaded for it.">Playground<//>
    <${Fault} error=${skills.error} />
    <${Loaded} of=${models}>${({ data }) => {
      const tuned = data.filter((one) => one.id !== "base");
      if (tuned.length === 0) return html`<${Empty}>There is no adapter to ask yet.<//>`;
      return skills.data && html`<${Playground} models=${tuned} skills=${skills.data.skills} first=${query.get("adapter")} />`;
    }}<//>`;
}

const systemOf = (skill) => skill?.example.find((turn) => turn.role === "system")?.content ?? skill?.system_prompt ?? "";
const saidIn = (skill) => skill?.example.find((turn) => turn.role === "user")?.content ?? "";

function Playground({ models, skills, first }) {
  const known = (name) => skills.find((one) => one.name === name);
  const ownOf = (id) => known(models.find((one) => one.id === id)?.livery?.skill);
  const start = models.some((one) => one.id === first) ? first : models[0].id;
  const asSkill = (skill) => ({ skill: skill?.name ?? "", system: systemOf(skill), held: Boolean(skill?.response_format) });
  const [asked, setAsked] = useState({ model: start, prompt: "", ...asSkill(ownOf(start)) });
  const [answers, setAnswers] = useState({});
  const [asking, setAsking] = useState(false);
  const [refused, setRefused] = useState(null);
  const stopping = useRef(null);
  const { model } = asked;
  const skill = known(asked.skill);
  const change = (more) => setAsked((old) => ({ ...old, ...more }));
  async function ask(event) {
    event.preventDefault();
    const form = new FormData(event.target);
    const stop = (stopping.current = new AbortController());
    setAnswers({});
    setRefused(null);
    setAsking(true);
    try {
      const body = { messages: await messages(), stream: true, max_tokens: Number(form.get("tokens")) || 256, temperature: Number(form.get("temperature")) || 0 };
      if (skill && asked.held) body.response_format = skill.response_format;
      // The engine answers both in turns, a token each, unless it is llama.cpp: one after the other.
      // Nobody uses the base's answer: it stays out of the log.
      await Promise.all([answer("base", { ...body, model: `${model}:base`, store: false }, stop.signal), answer("tuned", { ...body, model }, stop.signal)]);
      announce("Both have answered.");
    } catch (error) {
      setRefused(error);
    }
    setAsking(false);
  }
  /** What the user says, put as the skill puts it, under the system prompt as it stands here. */
  async function messages() {
    const said = skill
      ? (await post(`/v1/skills/${encodeURIComponent(skill.name)}/messages`, { text: asked.prompt })).messages.filter((turn) => turn.role !== "system")
      : [{ role: "user", content: asked.prompt }];
    return asked.system.trim() ? [{ role: "system", content: asked.system }, ...said] : said;
  }
  async function answer(side, body, signal) {
    const began = performance.now();
    const now = { said: "", pieces: 0, model, id: null };
    const show = (more) => setAnswers((old) => ({ ...old, [side]: { ...now, seconds: (performance.now() - began) / 1000, ...more } }));
    try {
      for await (const event of stream("/v1/chat/completions", body, signal)) {
        if (event.error) throw new Error(event.error.message);
        now.id = event.livery?.interaction ?? now.id;
        const piece = event.choices?.[0]?.delta?.content;
        if (piece) {
          now.said += piece;
          now.pieces += 1;
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
        <${Field} id="model" label="Adapter"><select id="model" value=${model} onChange=${({ target }) => change({ model: target.value, ...asSkill(ownOf(target.value)) })}>${models.map((one) => html`<option value=${one.id}>${one.id}${one.livery?.skill ? ` (${one.livery.skill})` : ""}</option>`)}</select><//>
        <${Field} id="skill" label="Asked as" help=${skill ? skill.summary : "The prompt goes as it is written."}><select id="skill" aria-describedby="skill-help" value=${asked.skill} onChange=${({ target }) => change(asSkill(known(target.value)))}>
          <option value="">free text</option>${skills.map((one) => html`<option value=${one.name}>${one.name}</option>`)}</select><//>
        <${Field} id="tokens" label="Longest answer, in tokens"><input id="tokens" name="tokens" type="number" min="1" max="4096" value="128" /><//>
        <${Field} id="temperature" label="Temperature"><input id="temperature" name="temperature" type="number" min="0" max="2" step="0.1" value="0" /><//>
      </div>
      ${skill && (skill.response_format
        ? html`<label class="choice"><input type="checkbox" checked=${asked.held} onChange=${({ target }) => change({ held: target.checked })} /> Only answers that the skill's grammar admits</label>`
        : html`<p class="quiet">Answers of ${skill.name} have no grammar.</p>`)}
      <${Field} id="system" label="System prompt"><textarea id="system" rows=${asked.system ? 4 : 2} placeholder="none" value=${asked.system} onInput=${({ target }) => change({ system: target.value })}></textarea><//>
      <${Field} id="prompt" label="Prompt"><textarea id="prompt" rows="3" required value=${asked.prompt} onInput=${({ target }) => change({ prompt: target.value })}></textarea><//>
      <${Fault} error=${refused} />
      <div class="submit"><button class="main" disabled=${asking}>Ask both</button>
        ${saidIn(skill) && html`<button type="button" onClick=${() => change({ prompt: saidIn(skill), system: systemOf(skill) })}>Put in an example</button>`}
        ${asking && html`<button type="button" onClick=${() => stopping.current?.abort()}>Stop</button>`}</div>
    </form>
    <div class="sides">
      ${[["base", "Base"], ["tuned", "Tuned"]].map(([side, words]) => html`<section class="card answer" key=${side} aria-label="${words} answer" aria-busy=${asking && !answers[side]?.done}>
        <div class="card-head"><h2>${words}</h2><span class="quiet">${answers[side] ? `${number(answers[side].pieces)} pieces in ${answers[side].seconds.toFixed(1)} s` : ""}</span></div>
        <p class="said">${answers[side]?.said}</p><${Fault} error=${answers[side]?.error} />
        ${answers[side]?.stopped && html`<p class="quiet">Stopped.</p>`}
        ${side === "tuned" && answers.tuned?.done && html`<${Marks} key=${answers.tuned.id} of=${answers.tuned} />`}
      </section>`)}
    </div>`;
}

/** What somebody says of an answer, from which the adapter learns later. */
function Marks({ of }) {
  const [right, setRight] = useState("");
  const [marked, setMarked] = useState("");
  const [logging, log] = useState(false);
  const start = async () => {
    await put("/api/improve/log", { on: true });
    log(true);
  };
  if (logging) return html`<p class="quiet">Answers are logged from now on: ask again to mark one.</p>`;
  if (!of.id) return html`<div class="toolbar"><p class="quiet grow">This answer is not in the log, so it cannot be marked.</p><${Action} act=${start}>Log answers<//></div>`;
  const mark = (verdict) => async () => {
    await post(`/api/improve/${encodeURIComponent(of.model)}/marks`, { id: of.id, verdict, corrected: verdict === "bad" ? right.trim() : "" });
    setMarked(verdict);
  };
  return html`<${Field} id="right" label="If it is wrong, the right answer"><textarea id="right" rows="2" value=${right} onInput=${({ target }) => setRight(target.value)}></textarea><//>
    <div class="actions"><${Action} act=${mark("good")} done="Marked good.">Good<//><${Action} act=${mark("bad")} done="Marked bad.">Bad<//>
      ${marked && html`<p class="quiet">Marked ${marked}. <a href=${to("improve", of.model)}>Improve ${of.model}</a></p>`}</div>`;
}
