// What is compared: two runs, or one run and what changes in it.
const KEPT = 'diffusion-playground-compare';
const ABOUT = {
  two: 'Choose a first and a second run. Both are shown at the same noise level, with what differs.',
  one: 'One setting at several values, everything else the same, the seed too.',
  race: 'The same noise and prompt through several samplers, side by side; the timeline shows all of them at the same noise level.',
  grid: 'Two settings at once: one across, one down, and a third on further pages if you like.',
};
const ASKED = 'asked';
const REST_MS = 350;
const STARTING_MS = 30000;
const BUSY = 'A comparison is being made. Wait for it or stop it, then press Show me again.';
const BUSY_TWO = 'A comparison is being made. Wait for it or stop it, then choose both runs again.';
const TAB = 'compare';
const GONE = 'A run that this address names is no longer kept; choose another one.';
const AXES = { two: [], one: ['x'], race: ['x'], grid: ['x', 'y', 'pages'] };
const part = (name) => element.querySelector(`.from [data-part="${name}"], .compare-setup > [data-part="${name}"]`);
const form = element.querySelector('.compare-setup');
const axis = (name) => {
  const box = form.querySelector(`[data-axis="${name}"]`);
  return { box, part: (each) => box.querySelector(`[data-part="${each}"]`) };
};
// What is being done, where that takes long enough to be named; the line stands where the cost does.
const WAITS = { list: 'Looking for your runs', describe: "Reading the run's settings", estimate: 'Working out what it costs' };
const NAMED_MS = 300;
const waits = (text) => {
  say(part('waits'), text && `${text} \u2026`);
  part('cost').hidden = Boolean(text) || !part('cost').textContent;
};
const calls = new Calls((fields) => trigger('ask', fields), (what) => waits(WAITS[what] || ''));
let opening = 0;
// Both runs, in the viewer: what it takes is named, until it says what came of it.
function openTwo(runs) {
  // The viewer shows one comparison, and this one's next pictures would take the place of the two.
  if (running || starting) { problem('run', BUSY_TWO); return; }
  clearTimeout(opening);
  opening = setTimeout(() => waits('Opening both runs'), NAMED_MS);
  trigger('two', { ...runs, turn: String(Date.now()) });
}
function opened() { clearTimeout(opening); waits(''); }
const button = (name) => form.querySelector(`[data-do="${name}"]`);
let state = { mode: 'one', run: '', a: '', b: '', axes: {} };
try { state = { ...state, ...JSON.parse(localStorage.getItem(KEPT) || '{}') }; } catch { /* begins as new */ }
if (!(state.mode in AXES)) state.mode = 'one';
// What another tab sent is gone with the page that got it.
if (state.run === ASKED) state.run = '';
let settings = [];
let described = '';
let running = '';
// Set at the press, until the first value is there or did not come.
let starting = 0;
let resting = 0;
let listed = false;
// The runs that an address named, until it is known whether they are still there.
let named = [];

// What is chosen as an address: #/compare/<way>/<run>?x=<setting>&x-values=<values>, or #/compare/two/<first>/<second>.
function place(replace) {
  const runs = state.mode === 'two' ? [state.a, state.b] : [state.run === ASKED ? '' : state.run];
  const query = new URLSearchParams();
  for (const name of AXES[state.mode]) {
    const { setting, values } = state.axes[`${state.mode}-${name}`] || {};
    if (setting && values) { query.set(name, setting); query.set(`${name}-values`, values); }
  }
  const detail = { tab: TAB, parts: [state.mode, ...runs.filter(Boolean)], query: query.toString(), replace };
  document.dispatchEvent(new CustomEvent('playground:place', { detail }));
}

// Takes over what an address names; without a way to compare everything stays.
function read([mode, ...runs], filter) {
  if (!(mode in AXES)) return false;
  state.mode = mode;
  if (mode === 'two') [state.a, state.b] = [runs[0] || '', runs[1] || ''];
  else if (runs[0]) [state.run] = runs;
  named = runs.filter(Boolean);
  const query = new URLSearchParams(filter);
  for (const name of AXES[mode]) {
    const [setting, values] = [query.get(name), query.get(`${name}-values`)];
    if (setting && values) state.axes[`${mode}-${name}`] = { setting, values };
  }
  return true;
}

function keep() { try { localStorage.setItem(KEPT, JSON.stringify(state)); } catch { /* the browser keeps nothing */ } }
function make(name, fields = {}) { return Object.assign(document.createElement(name), fields); }
function say(where, text) { where.textContent = text; where.hidden = !text; }
function problem(field, text, next) {
  const one = AXES[state.mode].includes(field) ? axis(field) : null;
  const target = one ? one.part('problem') : part('problem');
  say(target, text);
  if (next) target.append(' ', make('a', { textContent: next[0], href: next[1], className: 'quiet next-step' }));
  if (!one || !text) return;
  target.id = `compare-problem-${field}`;
  one.part('values').setAttribute('aria-invalid', 'true');
  one.part('values').setAttribute('aria-describedby', target.id);
}
function clear() {
  say(part('problem'), '');
  for (const name of ['x', 'y', 'pages']) {
    say(axis(name).part('problem'), '');
    for (const each of ['aria-invalid', 'aria-describedby']) axis(name).part('values').removeAttribute(each);
  }
}

// -- the runs ----------------------------------------------------------------------------------------------------------

async function list() {
  const picked = [state.run, state.a, state.b].filter((id) => id && id !== ASKED);
  const found = await calls.ask('list', { chosen: picked }, { latest: true });
  if (!found?.runs) return;
  listed = true;
  // Settings that were sent have no steps yet: they are compared with nothing.
  const runs = state.run === ASKED && state.mode !== 'two' ? [{ id: ASKED, title: 'The settings that you sent here', uri: '' }, ...found.runs] : found.runs;
  const ids = runs.map((run) => run.id);
  const gone = named.some((id) => !ids.includes(id));
  named = [];
  if (!ids.includes(state.run) && state.mode !== 'two') state.run = ids[0] || '';
  for (const name of ['a', 'b']) if (!ids.includes(state[name])) state[name] = '';
  part('runs').replaceChildren(...runs.map(({ id, title, uri }) => {
    const pick = make('button', { type: 'button', title });
    pick.dataset.run = id;
    pick.append(uri ? make('img', { src: uri, alt: title, draggable: false }) : make('span', { textContent: 'Sent', className: 'sent' }));
    pick.addEventListener('click', () => choose(id));
    const item = make('li');
    item.append(pick);
    return item;
  }));
  mark();
  if (gone) problem('run', GONE);
  if (state.mode !== 'two') describe();
}

function mark() {
  for (const pick of part('runs').querySelectorAll('button')) {
    const { run } = pick.dataset;
    const letter = state.mode === 'two' ? { [state.b]: 'B', [state.a]: 'A' }[run] || '' : '';
    pick.dataset.letter = letter;
    pick.setAttribute('aria-pressed', state.mode === 'two' ? Boolean(letter) : run === state.run);
  }
}

function choose(id) {
  clear();
  if (state.mode !== 'two') {
    state.run = id;
    mark();
    keep();
    place(false);
    describe();
    return;
  }
  if (id === state.a) state.a = '';
  else if (id === state.b) state.b = '';
  else if (!state.a) state.a = id;
  else state.b = id;
  mark();
  keep();
  place(false);
  if (state.a && state.b) openTwo({ a: state.a, b: state.b });
}

// -- the axes ----------------------------------------------------------------------------------------------------------

async function describe() {
  if (!state.run) return;
  const run = state.run;
  const found = await calls.ask('describe', { run }, { latest: true });
  if (!found || run !== state.run) return;
  if (!found.settings) { problem('run', found.message, found.next); return; }
  settings = found.settings;
  described = run;
  say(part('title'), `${found.title}, seed ${found.seed}${found.note ? `. ${found.note}` : ''}`);
  for (const name of ['x', 'y', 'pages']) offer(name);
  cost();
}

function chosen(name) {
  if (state.mode === 'race') return settings.find((one) => one.name === 'scheduler');
  return settings.find((one) => one.name === axis(name).part('setting').value);
}

function offer(name) {
  const { part: of } = axis(name);
  const select = of('setting');
  const kept = state.axes[`${state.mode}-${name}`] || {};
  const none = name === 'x' ? [] : [make('option', { value: '', textContent: name === 'y' ? 'nothing' : 'no further pages' })];
  select.replaceChildren(...none, ...settings.map((one) => make('option', { value: one.name, textContent: one.label })));
  const usual = { x: 'guidance_scale', y: state.mode === 'grid' ? 'num_inference_steps' : '', pages: '' }[name];
  const known = (wanted) => settings.some((one) => one.name === wanted);
  const empty = name !== 'x' && kept.setting === '';
  const free = settings.find((one) => one.name !== 'guidance_scale') || settings[0];
  select.value = known(kept.setting) || empty ? kept.setting : known(usual) || !usual ? usual : free.name;
  show(name, kept.setting === select.value ? kept.values : undefined);
}

// The values of an axis: those that were typed, or the proposed ones.
function show(name, values) {
  const { box, part: of } = axis(name);
  const one = chosen(name);
  of('values').value = values ?? one?.values ?? '';
  of('values').closest('label').hidden = !one;
  say(of('hint'), one ? one.hint : '');
  say(of('does'), one ? one.does : '');
  box.querySelector('label').hidden = state.mode === 'race';
  chips(name, one);
  note(name);
}

function split(text) { return text.split(',').map((each) => each.trim()).filter(Boolean); }

function chips(name, one) {
  const { part: of } = axis(name);
  const box = of('choices');
  box.hidden = !one?.choices.length;
  box.replaceChildren(...(one?.choices || []).map((text) => {
    const chip = make('button', { type: 'button', className: 'chip', textContent: text });
    chip.setAttribute('aria-pressed', split(of('values').value).includes(text));
    chip.addEventListener('click', () => {
      const now = split(of('values').value);
      of('values').value = (now.includes(text) ? now.filter((each) => each !== text) : [...now, text]).join(', ');
      chip.setAttribute('aria-pressed', split(of('values').value).includes(text));
      note(name);
      cost();
    });
    return chip;
  }));
}

function note(name) {
  const { part: of } = axis(name);
  state.axes[`${state.mode}-${name}`] = { setting: of('setting').value, values: of('values').value };
  keep();
  place(true);
}

function asked() {
  const fields = { run: state.run };
  for (const name of AXES[state.mode]) {
    const one = chosen(name);
    fields[name] = { setting: one?.name || '', values: axis(name).part('values').value };
  }
  return fields;
}

// What it costs, before it starts.
function cost() {
  clearTimeout(resting);
  resting = setTimeout(async () => {
    if (state.mode === 'two' || !state.run || described !== state.run) return;
    const found = await calls.ask('estimate', asked(), { latest: true });
    if (!found) return;
    clear();
    say(part('cost'), found.text || '');
    if (found.message) problem(found.field, found.message, found.next);
  }, REST_MS);
}

// -- modes and what follows --------------------------------------------------------------------------------------------

function enter(mode, replace = true) {
  state.mode = mode;
  for (const radio of form.elements['compare-mode']) radio.checked = radio.value === mode;
  form.dataset.mode = mode;
  say(part('about'), ABOUT[mode]);
  part('from').textContent = mode === 'two' ? 'First and second run' : 'Start from';
  for (const name of ['x', 'y', 'pages']) axis(name).box.hidden = !AXES[mode].includes(name);
  button('start').hidden = mode === 'two';
  say(part('cost'), '');
  clear();
  mark();
  keep();
  place(replace);
  if (listed) list();
  if (mode === 'two') { say(part('title'), ''); return; }
  if (state.run && described === state.run) { for (const name of AXES[mode]) offer(name); cost(); } else if (listed) describe();
}

for (const radio of form.elements['compare-mode']) radio.addEventListener('change', () => enter(radio.value, false));
for (const name of ['x', 'y', 'pages']) {
  const { part: of } = axis(name);
  of('setting').addEventListener('change', () => { show(name); cost(); });
  of('values').addEventListener('input', () => { chips(name, chosen(name)); note(name); cost(); });
  of('values').addEventListener('keydown', (event) => { if (event.key === 'Enter') { event.preventDefault(); start(); } });
}
form.addEventListener('submit', (event) => { event.preventDefault(); start(); });
button('stop').addEventListener('click', () => trigger('stop', { name: running }));
function keys(event) {
  if (!element.isConnected) { document.removeEventListener('keydown', keys); return; }
  // A dialog has keys of its own.
  if (event.defaultPrevented || !form.offsetParent || document.querySelector('dialog[open]')) return;
  if (event.key === 'Enter' && (event.ctrlKey || event.metaKey)) { event.preventDefault(); start(); }
  else if (event.key === 'Escape' && running) button('stop').click();
}
document.addEventListener('keydown', keys);

function start() {
  if (state.mode === 'two' || running || starting) return;
  clear();
  if (!state.run) { problem('run', 'There is no run to compare yet. Make a picture in Text to image first.', ['Open Text to image', '#/text-to-image']); return; }
  begin('start', asked());
}

function begin(name, fields) {
  opening = setTimeout(() => waits('Starting the comparison'), NAMED_MS);
  started(setTimeout(() => started(0), STARTING_MS));
  trigger(name, fields);
}

function started(timer) {
  clearTimeout(starting);
  starting = timer;
  button('start').disabled = Boolean(running || starting);
}

// A comparison that was saved: its plan is made again.
form.querySelector('[data-part="file"]').addEventListener('change', async (event) => {
  const file = event.target.files[0];
  event.target.value = '';
  if (!file || running || starting) return;
  clear();
  try {
    const { comparison, pictures } = JSON.parse(await file.text());
    const runs = pictures?.map(({ run }) => run) || [];
    if (!comparison && runs.length === 2 && runs.every((run) => typeof run === 'string')) {
      // Two runs that were chosen: nothing is made again, they are opened.
      [state.a, state.b] = runs;
      enter('two', false);
      openTwo({ a: state.a, b: state.b });
      return;
    }
    if (!comparison) throw new Error();
    begin('again', { plan: JSON.stringify(comparison) });
  } catch {
    problem('run', 'This file holds no comparison; choose the comparison.json of a zip that was saved here.');
  }
});

// What the viewer says: a comparison that runs, ended, or was refused.
document.addEventListener('playground:compared', ({ detail }) => {
  if (!element.isConnected) return;
  opened();
  if (detail.state === 'refused') problem(detail.field, detail.problem, detail.next);
  const before = running;
  running = detail.state === 'running' ? detail.name : '';
  button('stop').hidden = !running;
  // The foot says so, too.
  form.dataset.busy = running ? 'yes' : 'no';
  document.dispatchEvent(new CustomEvent('playground:shown'));
  started(0);
  if (before && !running) list();
});
document.addEventListener('playground:two', ({ detail: [a, b] }) => { if (a && b) openTwo({ a, b }); });

function take(value) {
  if (!value) return;
  if (value.show) { sent(value.show); return; }
  calls.take(value);
}

// Another tab sent its settings: five values of one of them are drawn at once.
async function sent({ setting }) {
  if (running || starting) { problem('run', BUSY); return; }
  state.run = ASKED;
  described = '';
  delete state.axes['one-x'];
  enter('one');
  await list();
  await describe();
  axis('x').part('setting').value = setting;
  show('x');
  start();
}

// Back, Forward and links.
function visit({ detail: { tab, parts, query = '' } }) {
  if (!element.isConnected) { document.removeEventListener('playground:open', visit); return; }
  if (tab !== TAB || !read(parts, query)) return;
  described = '';
  enter(state.mode);
  if (state.mode === 'two' && state.a && state.b) openTwo({ a: state.a, b: state.b });
}
document.addEventListener('playground:open', visit);
{
  const [where, filter = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [tab, ...parts] = where.split('/').map((text) => { try { return decodeURIComponent(text); } catch { return text; } });
  // Two runs of a link take the place of what was compared before; the viewer opens them.
  if (tab === TAB && read(parts, filter) && state.mode === 'two' && state.a && state.b) {
    const runs = [state.a, state.b].map((run, i) => [0, 0, i, run]);
    try { localStorage.setItem('diffusion-playground-compared', JSON.stringify({ plan: '', runs })); } catch { /* it opens without them */ }
  }
}
enter(state.mode);
new IntersectionObserver((entries) => { if (entries.some((entry) => entry.isIntersecting) && !calls.now) list(); }).observe(form);
watch('value', () => take(props.value));
take(props.value);
