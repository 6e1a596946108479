// The link, and what guests do; polled while it is looked at.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const button = (name) => element.querySelector(`[data-do="${name}"]`);
let timer = 0;
let starting = false;

function draw() {
  const value = props.value;
  if (!value) return;
  const on = value.state === 'on';
  if (value.state !== 'off' && value.state !== undefined) starting = starting && value.state === 'starting';
  part('what').textContent = value.what;
  part('problem').hidden = !value.problem;
  part('problem').textContent = value.problem || '';
  part('wait').hidden = !(starting || value.state === 'starting');
  part('link').hidden = !on;
  button('start').hidden = !value.owner || on || starting || value.state === 'starting';
  button('stop').hidden = !value.owner || !(on || starting || value.state === 'starting');
  button('pause').hidden = !on || value.paused;
  button('resume').hidden = !on || !value.paused;
  if (!on) return;
  for (const name of ['password', 'left', 'guests', 'pictures']) {
    const text = String(value[name]);
    if (part(name).textContent !== text) part(name).textContent = text;
  }
  if (part('url').textContent !== value.url) {
    part('url').textContent = value.url;
    part('url').href = value.url;
    part('code').src = value.code;
  }
}

element.querySelector('.keys-row').addEventListener('click', (event) => {
  const name = event.target.dataset.do;
  if (!name) return;
  starting = name === 'start';
  part('said').textContent = '';
  trigger('act', { do: name });
  draw();
});

element.querySelector('.link').addEventListener('click', async (event) => {
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
    if (element.offsetParent !== null && !document.hidden && !starting) trigger('tick', {});
    again();
  }, 3000);
}

watch('value', draw);
draw();
again();
