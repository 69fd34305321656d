/* One setting of training as a field, held to the bounds that the server gives. */
import { html } from "../vendor/htm-preact.mjs";
import { shown } from "./format.js";
import { Field } from "./ui.js";

export const BASIC = ["max_steps", "learning_rate", "batch_size", "lora.rank", "lora.alpha", "max_length", "early_stop_patience", "steps_per_eval"];
export const GROUPS = { base: "Base", data: "Data", adapter: "Adapter", optimizer: "Optimizer", evaluation: "Evaluation and early stopping", run: "Run" };

/** The options that mean something on this machine, and in a job, which trains on no pairs. */
export function usable(options, machine) {
  const { mlx, torch } = machine.facts;
  const cuda = Boolean(torch.cuda);
  const needs = { compile: mlx.usable, check_base: mlx.usable && torch.usable, attention: torch.usable, device: torch.usable };
  return options.filter((one) => needs[one.name] !== false && one.name !== "model" && one.group !== "pairs").map((one) => {
    if (one.name === "device") return { ...one, type: "choice", choices: ["auto", "cpu", ...(cuda ? ["cuda", ...torch.gpus.map((_, at) => `cuda:${at}`)] : []), ...(torch.mps ? ["mps"] : [])] };
    const without = (unwanted) => ({ ...one, choices: one.choices.filter((word) => !unwanted.test(word)) });
    if (one.name === "optimizer" && !(cuda && torch.bitsandbytes)) return without(/8bit|fused/);
    if (one.name === "attention" && !cuda) return without(/flex/);
    return one;
  });
}

/** The text of a field as the value to send. Throws an Error that says what is wrong. */
export function read(option, text) {
  if (option.type === "boolean") return text;
  const said = String(text).trim();
  if (said === "") throw new Error("Give a value, or take the default.");
  if (option.type === "integer" || option.type === "number") {
    const value = Number(said);
    if (!Number.isFinite(value)) throw new Error("This is no number.");
    if (option.type === "integer" && !Number.isInteger(value)) throw new Error("This must be a whole number.");
    const low = option.min ?? -Infinity;
    const high = option.max ?? Infinity;
    if (option.above ? value <= low : value < low) throw new Error(`It must be ${option.above ? "above" : "at least"} ${low}.`);
    if (option.below ? value >= high : value > high) throw new Error(`It must be ${option.below ? "below" : "at most"} ${high}.`);
    return value;
  }
  if (option.type === "list") {
    const words = said.split(",").map((word) => word.trim()).filter(Boolean);
    const unknown = option.choices && words.find((word) => !option.choices.includes(word));
    if (unknown) throw new Error(`There is no ${unknown}: choose of ${option.choices.join(", ")}.`);
    return words;
  }
  if (option.type === "mapping") {
    let value = null;
    try {
      value = JSON.parse(said);
    } catch {
      // Told below.
    }
    if (value === null || typeof value !== "object" || Array.isArray(value)) throw new Error('Write it as JSON: {"name": "value"}.');
    return value;
  }
  return said;
}

/** {values, errors} of all fields by their texts: the values that differ from the defaults. */
export function readAll(options, texts) {
  const [values, errors] = [{}, {}];
  for (const option of options) {
    const text = texts[option.name];
    if (text === undefined || text === "") continue;
    try {
      const value = read(option, text);
      if (JSON.stringify(value) !== JSON.stringify(option.default)) values[option.name] = value;
    } catch (error) {
      errors[option.name] = error.message;
    }
  }
  return { values, errors };
}

export function SettingField({ option, text, error, change }) {
  const id = `setting-${option.name.replace(".", "-")}`;
  const about = error ? `${id}-help ${id}-error` : `${id}-help`;
  const more = { id, "aria-describedby": about, "aria-invalid": Boolean(error) };
  const set = ({ target }) => change(target.type === "checkbox" ? target.checked : target.value);
  const help = `${option.help}${option.default === null || option.default === "" ? "" : ` Default: ${shown(option.default)}.`}`;
  let input;
  if (option.type === "boolean") {
    input = html`<input ...${more} type="checkbox" checked=${text ?? option.default} onChange=${set} />`;
  } else if (option.type === "choice") {
    input = html`<select ...${more} value=${text ?? option.default} onChange=${set}>${option.choices.map((word) => html`<option value=${word}>${word}</option>`)}</select>`;
  } else {
    const numeric = option.type === "integer" || option.type === "number";
    const now = option.default === null || (Array.isArray(option.default) && !option.default.length) || option.type === "mapping" ? "" : shown(option.default);
    input = html`<input ...${more} type="text" inputmode=${numeric ? "decimal" : "text"} autocomplete="off" spellcheck=${false} placeholder=${now} value=${text ?? ""} onInput=${set} />`;
  }
  return html`<${Field} label=${option.name} id=${id} help=${help} error=${error}>${input}<//>`;
}
