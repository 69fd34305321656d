/* The page: the sidebar, and the part that the address names. A part is loaded when it is opened. */
import { html, render, useEffect, useRef, useState } from "./vendor/htm-preact.mjs";
import { get, useConnection } from "./parts/api.js";
import { useRoute } from "./parts/router.js";
import { PAGES, Sidebar } from "./Sidebar.js";
import { TokenEntry } from "./token.js";
import { Announcer, Empty, Fault } from "./parts/ui.js";

const PARTS = {
  runs: () => import("./DevDashboard.js"),
  run: () => import("./run.js"),
  compare: () => import("./compare.js"),
  train: () => import("./FinetunePanel.js"),
  jobs: () => import("./jobs.js"),
  adapters: () => import("./adapters.js"),
  data: () => import("./data.js"),
  dataset: () => import("./dataset.js"),
  evaluations: () => import("./evaluations.js"),
  improve: () => import("./improvement.js"),
  playground: () => import("./playground.js"),
  machine: () => import("./machine.js"),
};

function partOf(parts) {
  const [first = "runs", second] = parts;
  return second ? ({ runs: "run", data: "dataset" }[first] ?? first) : first;
}

function Part({ route }) {
  const [loaded, setLoaded] = useState({});
  const name = partOf(route.parts);
  useEffect(() => {
    PARTS[name]?.().then(
      (module) => setLoaded({ name, Page: module.default }),
      () => setLoaded({ name, error: new Error("This part of the page could not be loaded. Load the page again.") }),
    );
  }, [name]);
  if (!PARTS[name]) return html`<${Empty}><h1>There is no such page</h1><p><a href="#/runs">To the runs</a></p><//>`;
  if (loaded.name !== name) return html`<p class="quiet">Loading …</p>`;
  if (loaded.error) return html`<${Fault} error=${loaded.error} />`;
  return html`<${loaded.Page} parts=${route.parts} query=${route.query} />`;
}

function Page() {
  const route = useRoute();
  const { connection } = useConnection();
  const main = useRef(null);
  const first = useRef(true);
  const place = route.parts.slice(0, 2).join("/");
  useEffect(() => {
    // Who asks for a token says so at the first request, whatever page is shown.
    get("/api/runs?limit=1").catch(() => {});
  }, []);
  useEffect(() => {
    const words = PAGES.find(([name]) => name === route.parts[0])?.[1] ?? "Runs";
    document.title = [route.parts[1], words, "Livery"].filter(Boolean).join(" · ");
    if (!first.current) main.current?.focus();
    first.current = false;
  }, [place]);
  if (connection === "token") return html`<${TokenEntry} />`;
  return html`<a class="skip" href="#main" onClick=${(event) => { event.preventDefault(); main.current.focus(); }}>Skip to the content</a>
    <div class="frame">
      <${Sidebar} at=${route.parts[0] ?? "runs"} connection=${connection} />
      <main id="main" tabindex="-1" ref=${main}>
        ${connection === "offline" && html`<div class="banner" role="alert">The server does not answer. Training goes on without it; the page connects again by itself.</div>`}
        <${Part} route=${route} key=${place} />
      </main>
    </div>
    <${Announcer} />`;
}

const root = document.getElementById("page");
root.textContent = "";
render(html`<${Page} />`, root);
