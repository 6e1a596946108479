// The link, and what guests do; polled while the tab is shown.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const button = (name) => element.querySelector(`[data-do="${name}"]`);
let timer = 0;
let counter = 0;
// Set at the press, until the server has answered this attempt.
let starting = false;
let attempt = 0;
let since = 0;
// A link comes or fails within half a minute; after that the server is asked what became of it.
const PATIENCE_MS = 60000;

function show(name, text) {
  if (part(name).textContent !== text) part(name).textContent = text;
}

function showLink(prefix, { url, code }) {
  if (part(`${prefix}url`).textContent === url) return;
  part(`${prefix}url`).textContent = url;
  part(`${prefix}url`).href = url;
  part(`${prefix}code`).src = code;
}

function drawNetwork(network) {
  part('network').hidden = part('public').hidden = !network;
  if (!network) return;
  show('network-about', network.about);
  part('network-on').hidden = !network.url;
  part('network-off').hidden = Boolean(network.url);
  if (!network.url) { show('network-command', network.command); return; }
  showLink('network-', network);
  show('network-user', network.user);
  show('network-password', network.password);
  part('network-word').hidden = part('network-secret').hidden = !network.password;
  part('network-user').hidden = part('network-name').hidden = !network.user;
}

// A service that does not answer is named and counted.
function count() {
  const seconds = Math.floor((performance.now() - since) / 1000);
  const slow = seconds >= 3 ? ' It has not answered yet; if this computer is offline, that is said within half a minute.' : '';
  show('wait', `Asking the share service for a link${seconds ? `, ${seconds} s` : ''}.${slow}`);
  if (part('wait').hidden) { clearInterval(counter); counter = 0; }
}

function draw() {
  const value = props.value;
  if (!value) return;
  drawNetwork(value.network);
  const on = value.state === 'on';
  if (value.attempt > attempt && value.state !== 'starting') starting = false;
  if (!starting) attempt = value.attempt || 0;
  part('what').textContent = value.what;
  part('problem').hidden = !value.problem || starting;
  part('problem').textContent = value.problem || '';
  const waits = starting || value.state === 'starting';
  part('wait').hidden = !waits;
  if (waits && !counter) { since = performance.now(); counter = setInterval(count, 300); count(); }
  part('link').hidden = !on;
  button('start').hidden = !value.owner || on || waits;
  button('start').textContent = value.state === 'failed' ? 'Try again' : 'Share this page';
  button('stop').hidden = !value.owner || !(on || waits);
  button('pause').hidden = !on || value.paused;
  button('resume').hidden = !on || !value.paused;
  if (!on) return;
  for (const name of ['password', 'left', 'guests', 'pictures']) show(name, String(value[name]));
  showLink('', value);
}

element.querySelector('.keys-row').addEventListener('click', (event) => {
  const name = event.target.dataset.do;
  if (!name) return;
  starting = name === 'start';
  since = performance.now();
  part('said').textContent = '';
  trigger('act', { do: name });
  draw();
});

element.querySelector('.share').addEventListener('click', async (event) => {
  const name = event.target.dataset.copy;
  if (!name) return;
  try {
    await navigator.clipboard.writeText(part(name).textContent);
    part('said').textContent = 'Copied.';
  } catch {
    getSelection().selectAllChildren(part(name));
    part('said').textContent = 'Press Ctrl or Cmd with C to copy what is marked.';
  }
});

function again() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (!element.isConnected) return;
    if (element.offsetParent !== null && !document.hidden && (!starting || performance.now() - since > PATIENCE_MS)) trigger('tick', {});
    again();
  }, 3000);
}

watch('value', draw);
draw();
again();
