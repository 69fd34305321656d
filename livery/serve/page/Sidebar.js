/* Where one is and can go, the state of the connection, and light or dark. */
import { html, useState } from "./vendor/htm-preact.mjs";
import { reconnect } from "./parts/api.js";
import { setTheme, theme, THEMES } from "./parts/theme.js";

export const PAGES = [
  ["runs", "Runs"], ["train", "Train"], ["jobs", "Jobs"], ["adapters", "Adapters"], ["data", "Data"],
  ["evaluations", "Evaluations"], ["improve", "Improve"], ["playground", "Playground"], ["machine", "Machine"],
];
const WORDS = { online: "Connected", offline: "Not connected", token: "Token needed" };

export function Sidebar({ at, connection }) {
  const [chosen, choose] = useState(theme());
  const change = ({ target }) => {
    setTheme(target.value);
    choose(target.value);
  };
  return html`<aside class="sidebar">
    <a class="brand" href="#/runs"><img src="icon.svg" alt="" width="28" height="28" />Livery</a>
    <nav aria-label="Pages">
      <ul>${PAGES.map(([name, words]) => html`<li><a href="#/${name}" aria-current=${name === at ? "page" : undefined}>${words}</a></li>`)}</ul>
    </nav>
    <div class="foot">
      <p class="connection ${connection}" role="status"><span class="dot" aria-hidden="true"></span>${WORDS[connection]}</p>
      ${connection === "offline" && html`<button type="button" onClick=${reconnect}>Try now</button>`}
      <label class="theme">Appearance
        <select value=${chosen} onChange=${change}>${THEMES.map((name) => html`<option value=${name}>${name}</option>`)}</select>
      </label>
      <a href="docs">API</a>
    </div>
  </aside>`;
}
