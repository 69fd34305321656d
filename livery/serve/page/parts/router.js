/* Which page is shown: what stands behind the # of the address, "#/runs/NAME/samples?x=1". */
import { useEffect, useState } from "../vendor/htm-preact.mjs";

export function parse(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const parts = path.split("/").filter(Boolean).map(decoded);
  return { parts, query: new URLSearchParams(query) };
}

function decoded(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

/** The address of a page: its parts may hold anything. */
export function to(...parts) {
  return "#/" + parts.map(encodeURIComponent).join("/");
}

export function go(address) {
  location.hash = address;
}

export function useRoute() {
  const [hash, setHash] = useState(location.hash);
  useEffect(() => {
    const changed = () => setHash(location.hash);
    addEventListener("hashchange", changed);
    return () => removeEventListener("hashchange", changed);
  }, []);
  return parse(hash);
}
