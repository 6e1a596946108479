// Strength: the strip of noise levels is the slider, and four strengths around the chosen one stand side by side.  Every
// level is loaded before it is shown: moving makes no request.  The slider of the form and the strip follow each other.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.strength-strip');
const desk = element.closest('.workspace');
const EMPTY = 'Choose an image to start from. Here you see how much noise it gets before the model starts.';
const ASK = 'one prediction of x0, before the first step';
const APART = 0.2;
const FOUR = 4;
// A quick model is asked once the prompt and the strength rest.
const REST_MS = 600;
const timeline = new Timeline(part('strip'), {
  // A setting: it hears the keys only where they are meant for it.
  visible: () => root.offsetParent && root.contains(document.activeElement),
  go: (slot) => choose(slot),
  step: (by) => choose(slot + by),
  pause: () => {},
  toggle: () => {},
});
let levels = null;
// The levels of the former image: shown again only if nothing changed after all.
let former = null;
let looks = {};
let asked = '';
// The last question was not answered: the button asks again, also a quick model.
let failed = false;
let slot = 0;
let four = [];
let resting = null;
let source = picked();

const columns = Array.from({ length: FOUR }, (_, i) => column(i));
part('four').append(...columns.map(({ button }) => button));

function column(i) {
  const [button, noisy, look, value, steps] = ['button', 'img', 'img', 'b', 'span'].map((tag) => document.createElement(tag));
  button.type = 'button';
  button.className = 'start';
  button.style.gridColumn = i + 1;
  button.addEventListener('click', () => { if (levels && four[i] !== undefined) set(roundest(four[i])); });
  [noisy, look].forEach((image, k) => {
    const well = document.createElement('span');
    well.className = k ? 'well look' : 'well noisy';
    well.append(image);
    button.append(well);
  });
  const words = document.createElement('span');
  words.className = 'said';
  words.append(value, steps);
  button.append(words);
  return { button, noisy, look, value, steps };
}

const inputs = () => [...(desk?.querySelectorAll('.strength input') || [])];
const strength = () => Number(inputs()[0]?.value ?? 0.4);
const stepsOf = (share) => Math.min(Math.trunc(levels.steps * share), levels.steps);
const run = () => (levels ? stepsOf(strength()) : 0);

function picked() { return desk?.querySelector('#source img')?.src || ''; }

// The level shown for a number of steps: itself, or the nearest one if not all are shown.
function nearest(steps) {
  return levels.runs.reduce((best, value, i) => (Math.abs(value - steps) < Math.abs(levels.runs[best] - steps) ? i : best), 0);
}

// The strength with the fewest digits that runs this many steps.
function roundest(steps) {
  if (steps === run()) return strength();
  for (const digits of [10, 100]) {
    for (let i = 0; i <= digits; i++) if (stepsOf(i / digits) === steps) return i / digits;
  }
  return (steps + 0.5) / levels.steps;
}

// Four numbers of steps, the chosen one among them: as far apart as APART, or one step if the run is short.  They stay
// where they are while one of them is chosen, so that nothing moves under the pointer.
function spread(steps) {
  if (four.includes(steps) && four.every((one) => one <= levels.steps)) return four;
  const gap = Math.max(1, Math.round(levels.steps * APART));
  const found = [-1, 0, 1, 2].map((k) => steps + k * gap);
  while (found.at(-1) > levels.steps) found.forEach((_, i) => { found[i] -= gap; });
  while (found[0] < (steps ? 1 : 0) && found.at(-1) + gap <= levels.steps) found.forEach((_, i) => { found[i] += gap; });
  return found.filter((one) => one >= 0);
}

function set(value) {
  for (const input of inputs()) {
    input.value = String(value);
    input.dispatchEvent(new Event('input', { bubbles: true }));
  }
  draw();
}

function choose(to) {
  if (!levels) return;
  slot = Math.min(Math.max(to, 0), levels.runs.length - 1);
  set(roundest(levels.runs[slot]));
}

function take(value) {
  if (!value) return;
  if ('prepared' in value) settle(value.prepared);
  else if (value.looks) {
    if (!levels || levels.key !== value.key) return;
    for (const { run: steps, uri } of value.looks) looks[steps] = uri;
    part('look-hint').textContent = value.text || ASK;
    failed = !value.looks.length;
  } else if (value.state === 'open') open(value);
  else if (value.state === 'busy') stale();
  else if (value.state) nothing(value);
  draw();
}

function open(value) {
  levels = value;
  former = null;
  looks = {};
  asked = '';
  failed = false;
  four = [];
  timeline.clear();
  timeline.resize(value.runs.length);
  value.frames.forEach((uri, i) => timeline.paint(i, uri));
}

function nothing({ state, text, again = '' }) {
  levels = former = null;
  part('again').textContent = again;
  timeline.clear();
  root.dataset.state = state;
  part('words').textContent = text;
}

// A former picture never stands for the one that is chosen now.
function stale() {
  if (!levels) { if (!former) root.dataset.state = 'busy'; part('words').textContent = 'Updating'; return; }
  former = levels;
  levels = null;
  root.dataset.state = 'busy';
  part('words').textContent = 'Updating';
  draw();
}

// The image is ready: its levels follow, unless they are those that were there.
function settle(image) {
  source = picked();
  if (!image) nothing({ state: 'empty', text: '' });
  else if (former?.image === image) { levels = former; former = null; }
}

function picture(image, uri, alt) {
  image.hidden = !uri;
  if (uri && image.src !== uri) image.src = uri;
  image.alt = uri ? alt : '';
}

function draw() {
  root.dataset.state = levels ? 'open' : root.dataset.state;
  part('again').hidden = root.dataset.state !== 'failed' || !part('again').textContent;
  part('hint').textContent = root.dataset.state === 'empty' ? EMPTY : '';
  if (!levels) {
    for (const { noisy, look } of columns) { picture(noisy, ''); picture(look, ''); }
    for (const name of ['about', 'mix', 'look-hint']) part(name).textContent = '';
    part('see').disabled = true;
    part('compare').hidden = true;
    return;
  }
  const steps = run();
  slot = nearest(steps);
  four = spread(steps);
  const words = steps ? `${steps} of ${levels.steps} steps will run` : 'No step will run';
  columns.forEach((one, i) => drawColumn(one, four[i], steps));
  part('mix').textContent = levels.mix[slot];
  part('words').textContent = words;
  part('about').textContent = levels.about[slot];
  if (!part('look-hint').textContent) part('look-hint').textContent = ASK;
  part('see').disabled = missing().length === 0;
  part('see').hidden = levels.quick && !failed;
  part('compare').hidden = steps < levels.steps;
  root.dataset.run = steps;
  timeline.mark(slot, words);
  if (levels.quick) rest();
}

function drawColumn({ button, noisy, look, value, steps }, runs, chosen) {
  button.hidden = runs === undefined;
  if (button.hidden) return;
  const share = roundest(runs);
  const at = nearest(runs);
  button.setAttribute('aria-pressed', runs === chosen);
  button.setAttribute('aria-label', `Strength ${share}: ${runs} of ${levels.steps} steps`);
  button.dataset.run = runs;
  value.textContent = share;
  steps.textContent = `${runs} step${runs === 1 ? '' : 's'}`;
  picture(noisy, levels.frames[at], `Strength ${share}: ${levels.mix[at]}`);
  picture(look, looks[runs], `What the model sees in it at strength ${share}`);
}

function missing() { return four.filter((one) => one > 0 && !looks[one]); }

function ask() {
  const runs = missing();
  if (!levels || !runs.length) return;
  part('look-hint').textContent = 'Asking the model';
  part('see').disabled = true;
  trigger('see', { runs });
}

function rest() {
  const wanted = JSON.stringify([levels.key, missing()]);
  if (!missing().length || wanted === asked || !root.offsetParent) return;
  asked = wanted;
  clearTimeout(resting);
  resting = setTimeout(ask, REST_MS);
}

part('again').addEventListener('click', () => { root.dataset.state = 'busy'; stale(); draw(); trigger('again', {}); });
part('see').addEventListener('click', ask);
part('compare').addEventListener('click', () => trigger('compare', {}));
function follow(event) {
  if (!element.isConnected) { document.removeEventListener('input', follow, true); return; }
  // Another prompt, another guess.
  if (desk?.contains(event.target) && event.target.closest('.prompt')) { looks = {}; asked = ''; clearTimeout(resting); }
  if (event.target.closest?.('.strength, .prompt')) requestAnimationFrame(draw);
}
document.addEventListener('input', follow, true);
function updating() { if (element.isConnected) stale(); else document.removeEventListener('playground:updating', updating); }
document.addEventListener('playground:updating', updating);
// Another picture in the upload area, from wherever it came.
new MutationObserver(() => {
  if (picked() === source) return;
  source = picked();
  if (source) stale(); else nothing({ state: 'empty', text: '' });
  draw();
}).observe(desk.querySelector('.source-group'), { subtree: true, childList: true, attributes: true, attributeFilter: ['src'] });

// What was not asked while the view was hidden is asked when it is shown.
new ResizeObserver(() => { if (levels?.quick) rest(); }).observe(root);

watch('value', () => take(props.value));
draw();
take(props.value);
