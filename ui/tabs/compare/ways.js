// The map of a comparison: it asks when it is unfolded, and follows the comparison's timeline.  While pictures are made,
// it asks again and again as long as it is on view.
const LIVE_MS = 500;
const root = element.querySelector('.compared-ways');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const map = new LaneMap(root);
let compared = null;
let asked = '';
let count = 0;
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
  if (value.ways) { part('body').hidden = false; map.draw(value, live); } else if (!live) part('body').hidden = true;
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
  if (!drawn) { part('body').hidden = true; map.forget(); say(''); }
  see();
}

function hearLevel({ detail }) {
  if (!element.isConnected) { document.removeEventListener('playground:level', hearLevel); return; }
  map.follow(detail.level);
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
