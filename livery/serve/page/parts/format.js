/* Numbers, sizes and times as people read them. A value that is not there is a dash. */
export const NONE = "–";
const there = (value) => typeof value === "number" && Number.isFinite(value);

export function number(value, digits = 4) {
  if (!there(value)) return NONE;
  if (Number.isInteger(value)) return value.toLocaleString("en");
  const size = Math.abs(value);
  if (size !== 0 && (size < 1e-3 || size >= 1e7)) return value.toExponential(2);
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
}

/** A loss: four digits, those at its end too, so that it does not jump while it changes. */
export function loss(value) {
  return there(value) ? value.toPrecision(4) : NONE;
}

export function percent(value) {
  return there(value) ? `${(100 * value).toFixed(1)} %` : NONE;
}

export function bytes(value) {
  if (!there(value)) return NONE;
  const units = ["B", "kB", "MB", "GB", "TB"];
  let at = 0;
  for (; value >= 1000 && at < units.length - 1; at++) value /= 1000;
  return `${value >= 100 || at === 0 ? Math.round(value) : value.toFixed(1)} ${units[at]}`;
}

export function duration(seconds) {
  if (!there(seconds)) return NONE;
  const whole = Math.max(0, Math.round(seconds));
  const [d, h, m, s] = [whole / 86400, (whole / 3600) % 24, (whole / 60) % 60, whole % 60].map(Math.floor);
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  return m ? `${m} min ${s} s` : `${s} s`;
}

export function when(seconds) {
  if (!there(seconds)) return NONE;
  return new Date(seconds * 1000).toLocaleString(undefined, { dateStyle: "medium", timeStyle: "short" });
}

/** Any value of JSON on one line. */
export function shown(value) {
  if (value === null || value === undefined) return NONE;
  return typeof value === "string" ? value : JSON.stringify(value);
}
