/* Something taken away for good, once somebody has said so twice. */
import { html, useState } from "../vendor/htm-preact.mjs";
import { post } from "./api.js";
import { go } from "./router.js";
import { announce, Dialog, Fault } from "./ui.js";

/** A button that deletes `place` of the API; `what` says what goes with it, `back` where one is then. */
export function Delete({ name, place, what, back }) {
  const [asking, ask] = useState(false);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  async function act() {
    setBusy(true);
    setError(null);
    const here = location.hash;
    try {
      await post(place, undefined, { method: "DELETE" });
      announce(`${name} was deleted.`);
      if (location.hash === here) go(back); // else somebody has gone on already
    } catch (fault) {
      setError(fault);
      setBusy(false);
    }
  }
  const close = () => {
    setError(null);
    ask(false);
  };
  return html`<button type="button" class="danger" onClick=${() => ask(true)}>Delete</button>
    ${asking && html`<${Dialog} title="Delete ${name}?" close=${close}>
      <p>${what} This cannot be taken back.</p><${Fault} error=${error} />
      <div class="actions"><button type="button" onClick=${close}>Keep it</button><button type="button" class="danger" disabled=${busy} onClick=${act}>Delete for good</button></div>
    <//>`}`;
}
