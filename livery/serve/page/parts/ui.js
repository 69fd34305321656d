/* Small parts that several pages are made of. Everything that is shown is text: nothing here, or
   anywhere on the page, turns a string into markup. */
import { html, useEffect, useRef, useState } from "../vendor/htm-preact.mjs";
import { NONE } from "./format.js";

let announcer = null;

/** Say something to a screen reader, once it has finished speaking. */
export function announce(text) {
  if (!announcer) return;
  announcer.textContent = "";
  requestAnimationFrame(() => (announcer.textContent = text));
}

export function Announcer() {
  return html`<div class="unseen" role="status" aria-live="polite" ref=${(node) => (announcer = node)}></div>`;
}

/** A page's title, which takes the focus when the page is opened, so that reading begins there. */
export function Title({ children, under, actions }) {
  return html`<header class="title">
    <div><h1 tabindex="-1">${children}</h1>${under && html`<p class="quiet">${under}</p>`}</div>
    ${actions && html`<div class="actions">${actions}</div>`}
  </header>`;
}

const TONES = {
  running: "accent", done: "good", passed: "good", approved: "good", better: "good", paused: "warn",
  stopped: "warn", queued: "plain", new: "plain", failed: "bad", rejected: "bad", missed: "bad",
};

export function Badge({ children }) {
  return html`<span class="badge ${TONES[children] ?? "plain"}">${children}</span>`;
}

export function Fault({ error }) {
  if (!error) return null;
  const problems = error.said?.problems ?? [];
  return html`<div class="fault" role="alert">
    <p>${error.key && html`<strong>${error.key}: </strong>`}${error.message}</p>
    ${problems.length > 0 &&
    html`<ul>${problems.slice(0, 10).map((one) => html`<li>${one.where}: ${one.message}</li>`)}</ul>`}
  </div>`;
}

/** Something that is being loaded, cannot be, or is there: then `children` gets it. */
export function Loaded({ of, children }) {
  return html`<${Fault} error=${of.error} />${of.data ? children(of.data) : !of.error && html`<p class="quiet">Loading …</p>`}`;
}

export function Empty({ children }) {
  return html`<div class="empty">${children}</div>`;
}

export function Card({ title, children, actions, tone = "" }) {
  return html`<section class="card ${tone}">
    ${title && html`<div class="card-head"><h2>${title}</h2>${actions}</div>`}${children}
  </section>`;
}

export function Figures({ of }) {
  return html`<dl class="figures">
    ${of.map(([name, value, under]) => html`<div><dt>${name}</dt><dd>${value ?? NONE}${under && html`<small>${under}</small>`}</dd></div>`)}
  </dl>`;
}

export function Progress({ value, most, label }) {
  const known = Number.isFinite(value) && most > 0;
  return html`<progress aria-label=${label} max=${known ? most : 1} value=${known ? Math.min(value, most) : 0}></progress>`;
}

/** A button that does something on the server: it waits for the answer, and a fault is told. */
export function Action({ children, act, kind = "", done, disabled, label }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(null);
  async function click() {
    setBusy(true);
    setError(null);
    try {
      await act();
      if (done) announce(done);
    } catch (fault) {
      setError(fault);
    }
    setBusy(false);
  }
  return html`<span class="action">
    <button type="button" class=${kind} disabled=${disabled || busy} aria-busy=${busy} aria-label=${label} onClick=${click}>${children}</button>
    <${Fault} error=${error} />
  </span>`;
}

/** A switch that changes something on the server at once; where that refuses, it goes back. It keeps
    the focus meanwhile. */
export function Switch({ on, turn, label }) {
  const [wanted, want] = useState(null);
  const [error, setError] = useState(null);
  async function change({ target }) {
    if (wanted !== null) return;
    const asked = target.checked;
    want(asked);
    setError(null);
    try {
      await turn(asked);
      announce(`${label}: ${asked ? "on" : "off"}.`);
    } catch (fault) {
      setError(fault);
    }
    want(null);
  }
  return html`<span class="action"><input type="checkbox" role="switch" aria-label=${label} aria-busy=${wanted !== null} checked=${wanted ?? on} onChange=${change} /><${Fault} error=${error} /></span>`;
}

/** Rows by pages of `size`: hundreds of them cost what one page costs. */
export function Table({ label, head, rows, row, size = 50, empty = "There is nothing here yet." }) {
  const [page, setPage] = useState(0);
  const last = Math.max(0, Math.ceil(rows.length / size) - 1);
  const at = Math.min(page, last);
  if (rows.length === 0) return html`<${Empty}>${empty}<//>`;
  return html`<div class="scroll" role="region" aria-label=${label} tabindex="0"><table>
      <thead><tr>${head.map((one) => html`<th scope="col">${one}</th>`)}</tr></thead>
      <tbody>${rows.slice(at * size, (at + 1) * size).map(row)}</tbody>
    </table></div>
    <${Pager} label=${label} at=${at} last=${last} total=${rows.length} go=${setPage} />`;
}

export function Pager({ label, at, last, total, go }) {
  if (last === 0) return null;
  return html`<nav class="pager" aria-label="Pages of ${label}">
    <button type="button" disabled=${at === 0} onClick=${() => go(at - 1)}>Previous</button>
    <span>Page ${at + 1} of ${last + 1} · ${total.toLocaleString("en")} in all</span>
    <button type="button" disabled=${at === last} onClick=${() => go(at + 1)}>Next</button>
  </nav>`;
}

export function Field({ label, help, error, children, id }) {
  return html`<div class="field ${error ? "wrong" : ""}">
    <label for=${id}>${label}</label>${children}
    ${help && html`<p class="help" id="${id}-help">${help}</p>`}
    ${error && html`<p class="error" id="${id}-error">${error}</p>`}
  </div>`;
}

/** A dialog that the browser holds the focus in; Escape closes it. */
export function Dialog({ title, children, close }) {
  const dialog = useRef(null);
  useEffect(() => {
    const node = dialog.current;
    node.showModal();
    return () => node.close();
  }, []);
  return html`<dialog ref=${dialog} aria-labelledby="dialog-title" onCancel=${(event) => { event.preventDefault(); close(); }}>
    <h2 id="dialog-title" tabindex="-1" autofocus>${title}</h2>${children}
  </dialog>`;
}

export function Tabs({ label, tabs, at }) {
  return html`<nav class="tabs" aria-label=${label}>
    ${tabs.map(([name, words, href]) => html`<a href=${href} aria-current=${name === at ? "page" : undefined}>${words}</a>`)}
  </nav>`;
}

/** The text of something that grows: it stays at its end unless somebody scrolled up. */
export function Log({ text, label }) {
  const box = useRef(null);
  const end = useRef(true);
  useEffect(() => {
    if (end.current && box.current) box.current.scrollTop = box.current.scrollHeight;
  }, [text]);
  const scrolled = ({ target }) => (end.current = target.scrollHeight - target.scrollTop - target.clientHeight < 40);
  return html`<pre class="log" role="region" tabindex="0" aria-label=${label} ref=${box} onScroll=${scrolled}>${text || "Nothing yet."}</pre>`;
}
