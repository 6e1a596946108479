// The words above a chart, and its cursor: the style sheet places it from --at and --dot, so no size is measured here.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const holder = element.closest('.chart');
let head = null;
let step = 0;

function point() {
  const there = head && head.at.length > 0;
  holder.classList.toggle('pointed', Boolean(there));
  if (!there) return;
  const i = Math.min(Math.max(step, 0), head.at.length - 1);
  holder.style.setProperty('--at', head.at[i]);
  holder.style.setProperty('--dot', head.dot[i] ?? 0);
  holder.classList.toggle('dotless', head.dot[i] === null);
  part('now').textContent = head.now[i];
}

function take(value) {
  head = value;
  for (const name of ['title', 'term', 'about', 'say', 'now']) part(name).textContent = '';
  if (head) for (const name of ['title', 'term', 'about', 'say']) part(name).textContent = head[name];
  point();
}

function follow(event) {
  if (!element.isConnected) { document.removeEventListener('playground:step', follow); return; }
  step = event.detail.index;
  point();
}
document.addEventListener('playground:step', follow);

// A figure that changed while its tab was hidden keeps its old width until Plotly gets this event.
let width = 0;
new ResizeObserver(() => {
  const now = holder.clientWidth;
  if (now && !width) requestAnimationFrame(() => window.dispatchEvent(new Event('resize')));
  width = now;
}).observe(holder);

watch('value', () => take(props.value));
take(props.value);
document.dispatchEvent(new CustomEvent('playground:where'));
