/* Where the server asks for its token: it is exchanged for a cookie that scripts cannot read. */
import { html, useState } from "./vendor/htm-preact.mjs";
import { openSession } from "./parts/api.js";
import { Fault } from "./parts/ui.js";

export function TokenEntry() {
  const [error, setError] = useState(null);
  async function send(event) {
    event.preventDefault();
    try {
      await openSession(new FormData(event.target).get("token"));
    } catch (fault) {
      setError(fault);
    }
  }
  return html`<main class="token" id="main">
    <h1>This server asks for its token</h1>
    <p class="quiet">It is in the file that <code>livery serve --token-file</code> was given. It is sent to this server alone and not kept by the page.</p>
    <form onSubmit=${send}>
      <label for="token">Token</label>
      <input id="token" name="token" type="password" autocomplete="current-password" required autofocus />
      <button class="main">Open</button>
    </form>
    <${Fault} error=${error} />
  </main>`;
}
