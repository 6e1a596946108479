// The map of ways through latent space.  It asks once for each picture that is opened, and again for other seeds; while
// a picture is made, again and again as long as it is on view.
const LIVE_MS = 500;
const root = element.querySelector('.map-panel');
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const frame = part('frame');
const svg = part('svg');
const { shape, projection, path, ending, coloured } = Ways;
let sheet = null;
let wanted = '';
let asked = '';
let step = 0;
let turn = 0;
let looking = null;
let onView = false;
let shown = null;

const visible = () => element.isConnected && element.offsetParent !== null;

const set = (name, facts) => {
  for (const [fact, value] of Object.entries(facts)) svg.querySelector(`[data-now="${name}"]`).setAttribute(fact, value);
};
const mark = (name) => svg.querySelector(`[data-now="${name}"]`);

let own = null;
function draw() {
  shown = Ways.steady(shown, sheet.ways);
  const place = projection(svg, shown);
  const ways = Ways.moved(shown, place);
  own = ways.find(({ kind }) => kind === 'own');
  const others = ways.filter((way) => way !== own);
  svg.replaceChildren(
    ...others.flatMap((way) => [path(way.x_t, `way ${way.kind}`)]),
    ...own.x0.map((end, i) => path([own.x_t[i], end], 'pointing')),
    ...coloured(own.x_t, own.noise),
    ...others.map((way) => ending(way, way.x_t.at(-1))),
    ending(own, own.x_t.at(-1)),
    shape('line', { 'data-now': 'line' }, 'now'), shape('circle', { r: 10, 'data-now': 'guess' }, 'guess'),
    shape('circle', { r: 12, 'data-now': 'here' }, 'here'),
  );
  part('variance').textContent = sheet.variance;
  part('legend-relatives').hidden = !others.some(({ kind }) => kind === 'relative');
  part('legend-seeds').hidden = !others.some(({ kind }) => kind === 'seed');
  frame.setAttribute('aria-valuemax', sheet.state === 'running' ? sheet.steps : own.x_t.length);
  root.dataset.ways = ways.length;
  point();
}

function point() {
  if (!own) return;
  const live = sheet.state === 'running';
  const newest = own.x_t.length - 1;
  const i = live ? newest : Math.min(step, newest);
  const there = own.x_t[i];
  const guess = own.x0[Math.min(i, own.x0.length - 1)];
  for (const name of ['line', 'guess']) mark(name).style.display = i < own.x0.length ? '' : 'none';
  set('line', { x1: there[0], y1: there[1], x2: guess[0], y2: guess[1] });
  set('guess', { cx: guess[0], cy: guess[1] });
  set('here', { cx: there[0], cy: there[1] });
  const words = live ? `${sheet.made} of ${sheet.steps} steps are made`
    : i < own.x0.length ? `Step ${i + 1} of ${own.x0.length}` : 'The finished picture';
  part('state').textContent = words;
  frame.setAttribute('aria-valuenow', live ? sheet.made : i + 1);
  frame.setAttribute('aria-valuetext', words);
  root.dataset.step = i;
}

function ask() {
  if (!wanted || asked === wanted || sheet?.state !== 'closed' || !visible()) return;
  asked = wanted;
  trigger('open');
}

// The steps that were made since the last look.
function look() {
  looking = null;
  if (sheet?.state !== 'running' || !onView || document.hidden || !visible()) return;
  turn += 1;
  looking = 'asked';
  trigger('look', { turn });
}

function take(value) {
  // Another picture; or this one, which was drawn while it was made and now is there.
  const made = value?.state === 'closed' && value.key === wanted && sheet?.state === 'running';
  const begins = value?.state === 'running' && value.key !== wanted;
  if (!value || begins || (value.state === 'closed' && value.key !== wanted)) {
    own = shown = null;
    part('body').hidden = true;
    wanted = value?.key || '';
    asked = '';
  } else if (value.key !== wanted || (value.state === 'closed' && !made) || (value.state === 'running' && sheet?.state !== 'running')) {
    return;
  }
  if (value?.turn === turn || begins) looking = null;
  sheet = value;
  root.dataset.state = value?.state || 'empty';
  const why = value?.state === 'closed' && !made ? 'Drawing the map' : value?.why || '';
  part('why').textContent = why;
  part('why').hidden = !why;
  part('again').hidden = !value?.next;
  part('again').textContent = value?.next?.label || '';
  part('seeds').hidden = !value?.offer;
  part('seeds').textContent = value?.offer || '';
  if (value?.ways) { part('body').hidden = false; draw(); }
  if (value?.state === 'running' && !looking) looking = setTimeout(look, value.turn ? LIVE_MS : 0);
  ask();
}

function follow(event) {
  if (!element.isConnected) { document.removeEventListener('playground:step', follow); return; }
  step = Math.max(event.detail.index, 0);
  point();
}
document.addEventListener('playground:step', follow);

function press(event) {
  const by = { ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1 }[event.key];
  const to = { Home: 0, End: own && own.x_t.length - 1 }[event.key] ?? (by && step + by);
  if (to === undefined || !own) return;
  event.preventDefault();
  event.stopPropagation();
  document.dispatchEvent(new CustomEvent('playground:go', { detail: { index: to } }));
}
frame.addEventListener('keydown', press);
part('again').addEventListener('click', () => {
  sheet = { ...sheet, state: 'closed', why: '', next: null };
  asked = '';
  part('again').hidden = part('why').hidden = true;
  ask();
});
part('seeds').addEventListener('click', () => {
  part('seeds').hidden = true;
  part('why').hidden = false;
  part('why').textContent = 'Running other seeds';
  trigger('seeds');
});
function see() { ask(); if (!looking) look(); }
// On view or soon: so that there is something to see for those who scroll to it.
const NEAR = { rootMargin: '50% 0px' };
new IntersectionObserver((seen) => { onView = seen.at(-1).isIntersecting; if (onView) see(); }, NEAR).observe(root);
function back() {
  if (!element.isConnected) { document.removeEventListener('visibilitychange', back); return; }
  if (!document.hidden) see();
}
document.addEventListener('visibilitychange', back);
watch('value', () => take(props.value));
take(props.value);
document.dispatchEvent(new CustomEvent('playground:where'));
