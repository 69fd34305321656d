/* Requests to the server, and what is known of the connection to it.

   `connection` is one of "online", "offline", "token"; while it is offline the server is asked again,
   ever less often, and everything on the page is loaded again once it answers. */
import { useCallback, useEffect, useRef, useState } from "../vendor/htm-preact.mjs";

export class Problem extends Error {
  constructor(status, said) {
    super(said.detail || said.title || `The server answered ${status}.`);
    this.status = status;
    this.key = said.key;
    this.said = said;
  }
}

const watching = new Set();
const state = { connection: "online", returned: 0, waits: 0 };
let retry = 0;

function become(connection) {
  if (connection === state.connection) return;
  if (connection === "online") state.returned += 1;
  state.connection = connection;
  for (const told of watching) told({ ...state });
}

export function useConnection() {
  const [now, setNow] = useState({ ...state });
  useEffect(() => {
    watching.add(setNow);
    setNow({ ...state });
    return () => watching.delete(setNow);
  }, []);
  return now;
}

/** Milliseconds to wait before try number `tries`: 0.5 s, doubling up to 15 s, never in step. */
export function backOff(tries) {
  return Math.min(15000, 500 * 2 ** tries) * (0.75 + Math.random() / 2);
}

function lost() {
  become("offline");
  clearTimeout(retry);
  retry = setTimeout(reconnect, backOff(state.waits++));
}

export async function reconnect() {
  clearTimeout(retry);
  try {
    await send("/api/runs?limit=1");
  } catch {
    // Told by `send` already; only what it says of the connection matters here.
  }
}

async function send(path, { method = "GET", body, headers = {}, signal } = {}) {
  const raw = body instanceof Blob || body === undefined;
  let answer;
  try {
    answer = await fetch(path, {
      method,
      signal,
      headers: raw ? headers : { "Content-Type": "application/json", ...headers },
      body: raw ? body : JSON.stringify(body),
    });
  } catch (error) {
    if (error.name !== "AbortError") {
      lost();
      throw new Problem(0, { detail: "The server does not answer. Training goes on without it." });
    }
    throw error;
  }
  state.waits = 0;
  if (answer.status === 401 && path !== "/api/session") become("token");
  else if (path !== "/api/session") become("online");
  if (answer.ok) return answer;
  let said = {};
  try {
    said = await answer.json();
  } catch {
    // No problem document: the status alone tells.
  }
  throw new Problem(answer.status, said);
}

export async function get(path, options) {
  return (await send(path, options)).json();
}

export async function text(path, options) {
  return (await send(path, options)).text();
}

/** Change something, or ask something of an engine; null where the answer is empty. */
export async function post(path, body, options = {}) {
  const answer = await send(path, { method: "POST", body, ...options });
  return answer.status === 204 ? null : answer.json();
}

export async function put(path, body) {
  return post(path, body, { method: "PUT" });
}

export async function openSession(token) {
  await send("/api/session", { method: "POST", body: { token } });
  become("online");
}

/** A streamed answer: yields the JSON of each server-sent event until [DONE]. */
export async function* stream(path, body, signal) {
  const answer = await send(path, { method: "POST", body, signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    rest += value ?? "";
    const lines = rest.split("\n");
    rest = done ? "" : lines.pop();
    for (const line of lines) {
      if (!line.startsWith("data: ") || line === "data: [DONE]") continue;
      yield JSON.parse(line.slice(6));
    }
    if (done) return;
  }
}

/** {data, error, reload} of a path, asked again every `every` ms while the page is seen, when the
    server comes back, and when `after` is another. What was there stays until something newer is. */
export function useLoaded(path, every = 0, after = null) {
  const [found, setFound] = useState({ path, data: null, error: null });
  const { returned } = useConnection();
  const asked = useRef(0);
  const now = useRef(path);
  now.current = path;
  // Of the path that is shown by then: who waited for an answer may ask when another is.
  const load = useCallback(async () => {
    const path = now.current;
    const mine = ++asked.current;
    try {
      const data = await get(path);
      if (mine === asked.current) setFound({ path, data, error: null });
    } catch (error) {
      if (mine !== asked.current) return;
      setFound((old) => ({ path, data: old.path === path ? old.data : null, error }));
    }
  }, []);
  useEffect(() => {
    load();
    if (!every) return undefined;
    const seen = () => {
      if (!document.hidden && state.connection === "online") load();
    };
    const timer = setInterval(seen, every);
    document.addEventListener("visibilitychange", seen);
    return () => {
      clearInterval(timer);
      document.removeEventListener("visibilitychange", seen);
    };
  }, [path, every, returned, after]);
  useEffect(() => () => void (asked.current = -1), []);
  const current = found.path === path ? found : { data: null, error: null };
  return { data: current.data, error: current.error, reload: load };
}
