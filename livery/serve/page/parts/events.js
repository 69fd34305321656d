/* A run's events, taken up where they were left: after a lost connection, a server that was started
   anew, or a machine that slept.

   A browser reconnects by itself only from some errors, so each one closes the stream here and it is
   opened again with the last position, after a while that grows. */
import { backOff, reconnect } from "./api.js";

/** Follow `path` from `position`. `told` maps kinds of event to functions; returns what ends it. */
export function follow(path, position, told) {
  let source = null;
  let timer = 0;
  let tries = 0;
  let ended = false;
  function open() {
    const after = position ? `?after=${encodeURIComponent(position)}` : "";
    source = new EventSource(path + after);
    source.onopen = () => {
      tries = 0;
      told.connected?.(true);
    };
    source.onerror = () => {
      source.close();
      told.connected?.(false);
      if (tries === 0) reconnect(); // tells the page whether the server is there at all
      if (!ended) timer = setTimeout(open, backOff(tries++));
    };
    for (const [kind, tell] of Object.entries(told)) {
      if (kind === "connected") continue;
      source.addEventListener(kind, (event) => {
        position = event.lastEventId || position;
        tell(JSON.parse(event.data));
      });
    }
  }
  open();
  return () => {
    ended = true;
    clearTimeout(timer);
    source.close();
  };
}
