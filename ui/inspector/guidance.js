// Guidance at one step.  The slider requests pictures from the server: one request at a time, then the newest.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.guidance-panel');
const cells = part('cells');
const range = part('range');
const REST_MS = 250;
// A request that was never answered (lost connection) must not block the next one for good.
const PATIENCE_MS = 15000;
let sheet = null;
// step: the player's; drawn: the step of the pictures here, -1 before the first.
let step = 0;
let drawn = -1;
let asked = null;
let shown = '';
let sided = '';
let since = 0;
let resting = null;

const visible = () => element.isConnected && element.offsetParent !== null;
const key = () => `${sheet.run} ${sheet.picture} ${step} ${Number(range.value)}`;

function build() {
  cells.replaceChildren();
  for (const [title, term, about] of sheet.cells) {
    const cell = document.createElement('figure');
    const well = document.createElement('div');
    well.className = 'well';
    const text = document.createElement('figcaption');
    for (const [tag, kind, content] of [['b', '', title], ['span', 'term', term], ['span', 'about', about]]) {
      const line = document.createElement(tag);
      line.className = kind;
      line.textContent = content;
      text.append(line);
    }
    cell.append(well, text);
    cells.append(cell);
  }
  range.max = sheet.max;
  range.value = sheet.own;
  // The middle of the thumb moves over the track's width less one thumb.
  part('own').style.setProperty('--at', sheet.own / sheet.max);
  part('own').textContent = `this run: ${sheet.own}`;
}

function words() {
  const g = Number(range.value);
  part('g').textContent = `g = ${g.toFixed(1)}`;
  range.setAttribute('aria-valuetext', `guidance ${g.toFixed(1)}`);
  part('back').classList.toggle('away', g === sheet.own);
  const there = drawn >= 0 ? drawn : step;
  const behind = there === step ? '' : `. The player is at step ${step + 1}; these pictures follow when it rests.`;
  part('state').textContent = sheet.steps[there] + behind;
  if (!cells.children.length) return;
  const [title, term, about] = cells.children[0].querySelectorAll('figcaption > *');
  title.textContent = `Guidance ${g.toFixed(1)}`;
  term.textContent = g === sheet.own ? 'this run, guided x0' : 'guided x0';
  about.textContent = g === sheet.own ? "The run's own value: what the model predicted at this step."
    : `What the model would have predicted at this step; the run used ${sheet.own}.`;
}

function ask() {
  if (!sheet || sheet.why || !visible() || key() === shown) return;
  if (asked && Date.now() - since < PATIENCE_MS) return;
  asked = key();
  since = Date.now();
  root.dataset.state = 'asking';
  // The predictions at 1 and 0 do not depend on g: one picture to render instead of three while the slider moves.
  trigger('guess', { step, g: Number(range.value), sides: sided !== `${sheet.run} ${sheet.picture} ${step}` });
}

function draw(guess) {
  const { images, said } = guess;
  [...cells.children].forEach((cell, i) => {
    if (!images[i]) return;
    const well = cell.querySelector('.well');
    const image = well.querySelector('img') || document.createElement('img');
    image.src = images[i];
    image.alt = `${cell.querySelector('b').textContent}, ${sheet.steps[guess.step]}`;
    image.draggable = false;
    if (!image.isConnected) well.append(image);
  });
  if (images.length > 1) sided = `${sheet.run} ${sheet.picture} ${guess.step}`;
  part('note').textContent = said;
  // For tests.
  root.dataset.step = guess.step;
  root.dataset.g = guess.g;
  root.dataset.ms = guess.ms;
}

function take(value) {
  const fresh = value && (!sheet || value.run !== sheet.run || value.picture !== sheet.picture);
  // The answer is about a trace that is no longer open.
  if (fresh && value.guess && sheet) return;
  sheet = value;
  root.querySelector('.formula').hidden = !sheet;
  part('body').hidden = !sheet || Boolean(sheet.why);
  part('why').hidden = !sheet || !sheet.why;
  part('why').textContent = sheet ? sheet.why : '';
  [part('formula').textContent, part('algebra').textContent] = sheet ? sheet.formula : ['', ''];
  if (!sheet || sheet.why) { root.dataset.state = 'empty'; asked = null; return; }
  if (fresh) { step = Math.min(step, sheet.steps.length - 1); asked = null; drawn = -1; shown = sided = ''; build(); where(); }
  if (sheet.guess) {
    asked = null;
    drawn = sheet.guess.step;
    draw(sheet.guess);
    shown = `${sheet.run} ${sheet.picture} ${sheet.guess.step} ${sheet.guess.g}`;
    root.dataset.state = shown === key() ? 'shown' : 'asking';
  }
  words();
  // While the timeline moves, wait until it rests.
  if (!resting) ask();
}

function where() { document.dispatchEvent(new CustomEvent('playground:where')); }

function follow(event) {
  if (!element.isConnected) { document.removeEventListener('playground:step', follow); return; }
  if (!sheet || sheet.why) return;
  step = Math.min(Math.max(event.detail.index, 0), sheet.steps.length - 1);
  words();
  clearTimeout(resting);
  resting = setTimeout(() => { resting = null; ask(); }, REST_MS);
}
document.addEventListener('playground:step', follow);

function turn() {
  // A user who moves the slider wants to see one step, not the animation.
  document.dispatchEvent(new CustomEvent('playground:pause'));
  words();
  ask();
}
range.addEventListener('input', turn);
part('back').addEventListener('click', () => { range.value = sheet.own; turn(); });
new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) ask(); }).observe(root);

watch('value', () => take(props.value));
take(props.value);
