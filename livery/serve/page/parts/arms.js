/* Base against tuned: a bar an arm, with its interval in words. */
import { html } from "../vendor/htm-preact.mjs";
import { number, percent } from "./format.js";

export function Arms({ arms }) {
  const rows = Object.entries(arms);
  return html`<div class="arms" role="region" tabindex="0" aria-label="Base against tuned"><table>
    <thead><tr><th scope="col">Who answered</th><th scope="col">Right</th><th scope="col">Share</th><th scope="col">95 % interval</th></tr></thead>
    <tbody>${rows.map(([name, arm]) => html`<tr key=${name}>
      <th scope="row">${name}</th>
      <td class="figure">${number(arm.correct)} of ${number(arm.total)}</td>
      <td><meter class=${arm.tuned ? "tuned" : "base"} min="0" max="1" value=${arm.accuracy ?? 0} aria-label="Share of ${name}"></meter> ${percent(arm.accuracy)}</td>
      <td class="figure">${arm.interval ? `${percent(arm.interval[0])} to ${percent(arm.interval[1])}` : "–"}</td>
    </tr>`)}</tbody></table></div>`;
}
