// The map of a comparison: it asks when it is unfolded, and follows the comparison's timeline.  While pictures are made,
// it asks again and again as long as it is on view.
const LIVE_MS = 500;
const root = element.querySelector('.compared-ways');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const svg = part('svg');
const { shape, projection, ending, coloured } = Ways;
let compared = null;
let asked = '';
let count = 0;
let lanes = [];
let dots = [];
let at = Infinity;
let shown = null;
let looking = null;
let onView = false;

function say(text) { part('why').textContent = text; part('why').hidden = !text; }

function ask() {
  if (compared?.state !== 'done' || asked || !part('fold').open) return;
  count += 1;
  asked = `${Date.now()}-${count}`;
  if (part('body').hidden) say('Drawing the map');
  trigger('ask', { ask: asked, plan: compared.plan, runs: compared.runs });
}

// The steps that were made since the last look.
function look() {
  looking = null;
  if (compared?.state !== 'running' || !onView || document.hidden || !part('fold').open) return;
  count += 1;
  looking = asked = `${Date.now()}-${count}`;
  if (part('body').hidden) say('Drawing the map');
  trigger('look', { ask: asked, name: compared.name });
}

function see() { ask(); if (!looking) look(); }

function draw({ ways: found, variance, left_out: leftOut }) {
  const ways = Ways.steady(shown, found);
  shown = ways;
  // By the ways alone: early guesses under strong guidance lie far outside, and their lines may leave the map.
  const place = projection(svg, ways.map(({ x_t: points }) => ({ x_t: points, x0: [] })));
  lanes = Ways.moved(ways, place);
  dots = lanes.map((_, i) => {
    const group = shape('g', {}, 'lane-now');
    const number = shape('text', {});
    number.textContent = i + 1;
    group.append(shape('line', {}, 'now'), shape('circle', { r: 13 }, 'here'), number);
    return group;
  });
  svg.replaceChildren(...lanes.flatMap((lane) => coloured(lane.x_t)), ...lanes.map((lane) => ending(lane, lane.x_t.at(-1))), ...dots);
  part('names').replaceChildren(...lanes.map(({ name }) => Object.assign(document.createElement('li'), { textContent: name })));
  part('variance').textContent = variance;
  part('left-out').textContent = leftOut;
  part('left-out').hidden = !leftOut;
  follow();
}

// Each dot stands at the last of its steps that is no cleaner than the timeline, or at the picture.
function follow() {
  const newest = at === Infinity || compared?.state === 'running';
  lanes.forEach(({ x_t: points, x0, levels }, k) => {
    const i = newest ? levels.length : Math.max(0, levels.filter((level) => level <= at).length - 1);
    const [line, dot, number] = dots[k].children;
    const [here, end] = [points[i], x0[Math.min(i, x0.length - 1)]];
    for (const [name, value] of Object.entries({ x1: here[0], y1: here[1], x2: end[0], y2: end[1] })) line.setAttribute(name, value);
    line.style.display = i < levels.length ? '' : 'none';
    for (const [name, value] of Object.entries({ cx: here[0], cy: here[1] })) dot.setAttribute(name, value);
    for (const [name, value] of Object.entries({ x: here[0], y: here[1] })) number.setAttribute(name, value);
    dots[k].dataset.step = i;
  });
}

function take(value) {
  if (!value || value.ask !== asked) return;
  const live = value.state === 'running';
  if (live || value.state === 'over') {
    if (compared?.state !== 'running') return;
    looking = live ? setTimeout(look, LIVE_MS) : null;
    if (!live) return;
  }
  root.dataset.state = value.state;
  // What is drawn stays while nothing is known of the next steps.
  if (!live || value.ways || part('body').hidden) say(value.why);
  if (value.ways) { part('body').hidden = false; draw(value); } else if (!live) part('body').hidden = true;
}

// Another comparison, or this one with more pictures.
function hear({ detail }) {
  if (!element.isConnected) { document.removeEventListener('playground:compared', hear); return; }
  if (detail.state !== 'done' && detail.state !== 'running') return;
  const another = detail.name !== compared?.name;
  const live = detail.state === 'running';
  const drawn = !another && compared.state === 'running' && !part('body').hidden;
  compared = detail;
  if (live && !another) { if (!looking) look(); return; }
  clearTimeout(looking);
  asked = '';
  looking = null;
  root.hidden = !live && detail.runs.length < 2;
  // What was drawn live stays until the pictures are on it.
  if (!drawn) { part('body').hidden = true; lanes = dots = []; shown = null; say(''); }
  see();
}

function hearLevel({ detail }) {
  if (!element.isConnected) { document.removeEventListener('playground:level', hearLevel); return; }
  at = detail.level;
  follow();
}
document.addEventListener('playground:compared', hear);
document.addEventListener('playground:level', hearLevel);
function back() {
  if (!element.isConnected) { document.removeEventListener('visibilitychange', back); return; }
  if (!document.hidden) see();
}
document.addEventListener('visibilitychange', back);
new IntersectionObserver((seen) => { onView = seen.at(-1).isIntersecting; if (onView) see(); }).observe(root);
part('fold').addEventListener('toggle', see);
watch('value', () => take(props.value));
take(props.value);
