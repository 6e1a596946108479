// Requests a draft when the user pauses, and at intervals while the user types.
const SETTLE_MS = 150;
const LONGEST_MS = 450;
let timer = null;
let since = 0;

function on() { return document.querySelector('#drafts input')?.checked; }

function ask() {
  timer = null;
  since = 0;
  if (on()) trigger('draw');
}

function changed() {
  if (!element.isConnected) { document.removeEventListener('playground:asks', changed); return; }
  if (!on()) return;
  const now = performance.now();
  if (!timer) since = now;
  clearTimeout(timer);
  timer = setTimeout(ask, Math.max(0, Math.min(SETTLE_MS, since + LONGEST_MS - now)));
}
document.addEventListener('playground:asks', changed);
