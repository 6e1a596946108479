// Go on differently: a drawer for the step that the player shows, a strip of forks at several steps, and their tree.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.fork-panel');
const REST_MS = 250;
let sheet = null;
let step = 0;
// The step whose samplers are known, and the one that was asked for; -1 for none.
let known = -1;
let asked = -1;
let resting = null;
let pictures = new Map();
// The strip that is being made of this run, and of another one.
let trying = '';
let away = '';
let begun = false;
// What was typed, by run and picture, over a reload; the latest last.
const KEPT = 'playground-forks';
const MOST = 12;
const TYPED = ['prompt', 'negative', 'other', 'guidance', 'scheduler'];

const visible = () => element.isConnected && element.offsetParent !== null;
const tree = new Family(part('branches'), (run) => open(run), (one) => pictures.get(one.id) || '', 'A run without a prompt');

// The button below the player was pressed; this panel is laid out when its tab is first opened.
function arrive() {
  if (!window.playgroundFork || !sheet || !visible()) return;
  window.playgroundFork = false;
  root.scrollIntoView({ block: 'nearest' });
  if (!sheet.why) part('prompt').focus();
}

function pause() { document.dispatchEvent(new CustomEvent('playground:pause')); }

function open(run) {
  root.dataset.state = 'opening';
  trigger('choose', { run });
}

function say(problem) {
  part('problem').hidden = !problem;
  part('problem').textContent = problem || '';
}

function typed() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEPT) || '[]');
    return Array.isArray(found) ? found : [];
  } catch { return []; }
}

function about() { return `${sheet.run}:${sheet.picture}`; }

function keep() {
  if (!sheet) return;
  const fields = { noise: part('noise').checked, ...Object.fromEntries(TYPED.map((name) => [name, part(name).value])) };
  const others = typed().filter(([run]) => run !== about());
  try { sessionStorage.setItem(KEPT, JSON.stringify([...others, [about(), fields]].slice(-MOST))); } catch { /* full: nothing is kept */ }
}

function recall() {
  const [, fields] = typed().find(([run]) => run === about()) || [];
  if (!fields) return;
  for (const name of TYPED) if (typeof fields[name] === 'string' && name !== 'scheduler') part(name).value = fields[name];
  // Offered once the samplers of the step are known.
  if (typeof fields.scheduler === 'string' && fields.scheduler) {
    part('scheduler').append(new Option(fields.scheduler, fields.scheduler));
    part('scheduler').value = fields.scheduler;
  }
  part('noise').checked = fields.noise === true;
}

function words() {
  const count = sheet.noise.length;
  const share = Math.round(100 * sheet.noise[step]);
  part('from').textContent = `From step ${step + 1} of ${count}`;
  part('go').textContent = `Go on from step ${step + 1}`;
  const kept = step === 0 ? 'Only the noise that it begins with is kept' : step === 1 ? 'Step 1 stays as it was' : `Steps 1 ${step === 2 ? 'and' : 'to'} ${step} stay as they were`;
  part('kept').textContent = `${kept}; at this step ${share}% is noise. Move the timeline to choose another step.`;
  part('try').textContent = sheet.tries === 1 ? 'Try it at its step' : `Try it at all ${sheet.tries} steps`;
  part('cost').textContent = sheet.cost;
}

function offer(found) {
  const list = part('scheduler');
  const before = list.value || sheet.scheduler;
  list.replaceChildren(...found.map(({ id, label, stochastic }) => {
    const option = new Option(label, id);
    option.dataset.noise = stochastic ? 'yes' : '';
    return option;
  }));
  list.value = found.some(({ id }) => id === before) ? before : found[0].id;
  const others = found.length - 1;
  part('samplers').textContent = others ? '' : 'No other sampler passes the noise level of this step.';
  noise();
}

function noise() {
  const draws = Boolean(part('scheduler').selectedOptions[0]?.dataset.noise);
  part('noise-box').hidden = !draws;
  if (!draws) part('noise').checked = false;
}

function look() {
  if (!sheet || sheet.why || !visible() || known === step || asked === step) return;
  asked = step;
  trigger('look', { step });
}

function fill() {
  for (const [name, key] of [['prompt', 'prompt'], ['negative', 'negative'], ['other', 'other'], ['guidance', 'guidance']]) {
    part(name).value = sheet[key];
  }
  for (const name of ['prompt', 'negative', 'other']) part(name).maxLength = sheet.limits.prompt;
  part('guidance').max = sheet.limits.guidance;
  part('swaps').replaceChildren(...sheet.others.map(({ label, prompt }) => {
    const button = document.createElement('button');
    Object.assign(button, { type: 'button', className: 'chip', textContent: label, title: prompt });
    button.addEventListener('click', () => { part('other').value = prompt; keep(); });
    return button;
  }));
  part('noise').checked = false;
  part('scheduler').replaceChildren(new Option('The same', sheet.scheduler));
  part('noise-box').hidden = true;
  part('samplers').textContent = '';
  recall();
  strip(null);
  known = asked = -1;
}

function outcome() {
  const [item, button, text] = ['li', 'button', 'span'].map((name) => document.createElement(name));
  button.type = 'button';
  button.addEventListener('click', () => open(item.dataset.run));
  item.append(button, text);
  return item;
}

// One that has the focus keeps it while others come.
function paint(item, cell) {
  const [button, text] = item.children;
  item.dataset.run = cell.run || '';
  button.disabled = !cell.run;
  button.setAttribute('aria-label', `Left after step ${cell.step}: open this run`);
  text.textContent = cell.problem ? `after ${cell.step}: ${cell.problem}` : `after ${cell.step}`;
  const image = button.querySelector('img');
  if (!cell.picture) image?.remove();
  else if (image?.src !== cell.picture) button.replaceChildren(Object.assign(new Image(), { src: cell.picture, alt: '', draggable: false }));
}

function strip(found) {
  const cells = found ? found.cells : [];
  const list = part('outcomes');
  if (list.children.length !== cells.length) list.replaceChildren(...cells.map(outcome));
  cells.forEach((cell, i) => paint(list.children[i], cell));
  part('verdict').textContent = found ? found.text : '';
  root.dataset.decided = found ? (found.done ? 'yes' : 'trying') : '';
  part('try').disabled = Boolean(found && !found.done);
  part('stop').hidden = !found || Boolean(found.done);
  trying = found && !found.done ? found.name : '';
}

// A strip goes on when another run is opened, and can be stopped from there.
function elsewhere(found, here) {
  if (!found) { away = ''; } else if (!here && !found.done) { away = found.name; } else if (found.name === away) { away = ''; }
  part('elsewhere').hidden = !away;
  if (found && found.name === away) part('elsewhere-text').textContent = `Another run is left at its steps: ${found.text}`;
}

function family({ members = [], links = [], now = '', more = '' } = {}) {
  part('family').hidden = members.length < 2;
  pictures = new Map(members.map((one) => [one.id, one.picture]));
  part('more').textContent = more;
  if (members.length < 2) return;
  tree.show({ members, links }, now);
  const here = part('branches').querySelector('[aria-current]');
  if (here) part('branches').scrollTop = here.offsetTop - part('branches').clientHeight / 2;
}

function take(value) {
  if (value && !value.run) {
    say(value.problem);
    root.dataset.state = 'failed';
    for (const name of ['go', 'try']) part(name).disabled = false;
    if (sheet && !sheet.why) words();
    return;
  }
  const fresh = value && (!sheet || value.run !== sheet.run || value.picture !== sheet.picture);
  // An answer about a run that is no longer open.
  if (fresh && begun && (value.decided || value.found || value.problem)) {
    if (!value.found) elsewhere(value.decided, false);
    return;
  }
  if (value?.decided) elsewhere(value.decided, true);
  sheet = value;
  part('body').hidden = !sheet || Boolean(sheet.why);
  part('why').hidden = !sheet || !sheet.why;
  part('why').textContent = sheet ? sheet.why : '';
  family(sheet ? sheet.tree : undefined);
  if (!sheet || sheet.why) { root.dataset.state = 'empty'; arrive(); return; }
  step = Math.min(step, sheet.noise.length - 1);
  if (fresh) { fill(); document.dispatchEvent(new CustomEvent('playground:where')); }
  if (sheet.found) {
    known = sheet.found.step;
    asked = -1;
    if (sheet.found.samplers.length) offer(sheet.found.samplers);
  }
  if (sheet.decided) strip(sheet.decided);
  if (sheet.problem) { part('try').disabled = false; part('stop').hidden = true; }
  say(sheet.problem || sheet.found?.problem);
  part('go').disabled = false;
  root.dataset.state = sheet.problem ? 'failed' : 'ready';
  words();
  look();
  arrive();
}

function follow(event) {
  if (!element.isConnected) { document.removeEventListener('playground:step', follow); return; }
  if (!sheet || sheet.why) return;
  step = Math.min(Math.max(event.detail.index, 0), sheet.noise.length - 1);
  words();
  clearTimeout(resting);
  resting = setTimeout(look, REST_MS);
}
document.addEventListener('playground:step', follow);

part('scheduler').addEventListener('change', noise);
for (const name of ['input', 'change']) root.addEventListener(name, keep);
part('form').addEventListener('submit', (event) => {
  event.preventDefault();
  pause();
  say('');
  part('go').disabled = true;
  part('go').textContent = `Going on from step ${step + 1} …`;
  root.dataset.state = 'going';
  trigger('fork', {
    step, prompt: part('prompt').value.trim(), negative_prompt: part('negative').value.trim(),
    guidance: part('guidance').value === '' ? null : Number(part('guidance').value),
    scheduler: part('scheduler').value, noise: part('noise').checked,
  });
});
part('decide').addEventListener('submit', (event) => {
  event.preventDefault();
  say('');
  part('try').disabled = true;
  trigger('decide', { prompt: part('other').value.trim() });
});
part('stop').addEventListener('click', () => trigger('stop', { name: trying }));
part('stop-elsewhere').addEventListener('click', () => trigger('stop', { name: away }));
new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) { look(); arrive(); } }).observe(root);

watch('value', () => take(props.value));
take(props.value);
begun = true;
