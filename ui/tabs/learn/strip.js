// Strips of whole runs in the lesson: buttons of the chapter, and the viewer of Compare.
const root = element.querySelector('.lesson-strip');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const section = root.querySelector('.viewer');
const viewer = new Viewer(section, { inside: (run) => trigger('inside', { run }) });
// What a chapter shows in place of a strip: the nearest training pictures.
const NEAREST = 'nearest';
let chapter = -1;
let running = '';
let plans = [];
let quick = false;
// What was drawn in each chapter stays until the page is left: its viewer's values, by plan.
const kept = {};
// The plan on view in each chapter, and what is being drawn.
const viewed = {};
let drawing = { chapter: -1, plan: -1 };

function make(tag, text = '', kind = '') {
  const found = document.createElement(tag);
  found.textContent = text;
  if (kind) found.className = kind;
  return found;
}

function button(text, act) {
  const made = make('button', text);
  made.type = 'button';
  made.addEventListener('click', act);
  return made;
}

const state = chapterState('strip', ([name, at]) => {
  const plan = name === NEAREST ? NEAREST : Number(name) - 1;
  if (!plans.length && plan !== NEAREST) return false;
  if (plan !== NEAREST && !plans[plan]) return true;
  if (at !== undefined && /^\d{1,2}$/.test(at)) level = Number(at);
  if (kept[chapter]?.[plan]) show(plan);
  else if (quick) draw(plan);
  else show(plan);
  return true;
});
// The noise level that the address named, for the strip that is being drawn.
let level = null;

function tell() {
  const plan = viewed[chapter];
  if (!kept[chapter]?.[plan]) return;
  if (plan === NEAREST) state.tell(NEAREST);
  else state.tell(plan + 1, ...(viewer.at < viewer.last ? [viewer.at] : []));
}

function draw(plan) {
  if (running) return;
  drawing = { chapter, plan };
  (kept[chapter] ||= {})[plan] = [];
  show(plan);
  part('cost').textContent = plan === NEAREST ? 'Looking for its nearest training pictures' : '';
  if (plan === NEAREST) trigger('nearest', {});
  else trigger('draw', { chapter, plan });
}

// What was drawn of a plan, again.
function show(plan) {
  viewed[chapter] = plan;
  const values = kept[chapter]?.[plan] || [];
  const near = plan === NEAREST;
  section.hidden = near;
  part('nearest').hidden = !near || !values.length;
  if (near) { if (values.length) drawNearest(values.at(-1)); }
  else if (values.length) values.forEach((each, i) => viewer.take(i ? each : { ...each, started: true }));
  // Before it is drawn, its frame.
  else if (plans[plan]?.frame) viewer.take({ ...plans[plan].frame, started: true });
  else section.hidden = true;
  goToLevel();
  tell();
}

function goToLevel() {
  if (level === null || section.hidden) return;
  section.querySelector('[data-part="at"]').value = level;
  viewer.draw();
  if (viewer.value?.state === 'done') level = null;
}

function drawNearest({ nearest }) {
  if (!nearest) return;
  const own = { picture: nearest.result, name: 'The picture', style: '', distance: '' };
  part('renders').replaceChildren(...[own, ...nearest.renders].map((one, n) => {
    const item = make('li', '', n ? '' : 'own');
    const image = make('img');
    image.src = one.picture;
    image.alt = n ? `Training drawing: ${one.name}, ${one.style}` : 'The picture';
    item.append(image, make('b', one.name));
    if (n) item.append(make('span', one.style, 'term'), make('span', one.distance, 'figure'));
    return item;
  }));
  part('likeness').textContent = nearest.said;
}

function buttons(value) {
  plans = value.plans;
  quick = value.quick;
  const made = plans.map(({ label }, plan) => {
    const found = button(label, () => draw(plan));
    found.className = plan ? 'quiet' : 'primary-act';
    return found;
  });
  if (value.nearest) {
    const found = button(value.nearest, () => draw(NEAREST));
    found.className = 'quiet';
    made.push(found);
  }
  const stop = button('Stop', () => trigger('stop', { name: running }));
  stop.className = 'quiet';
  stop.dataset.do = 'stop';
  part('acts').replaceChildren(...made, stop);
  part('cost').textContent = plans.filter(({ cost }) => cost).map(({ label, cost }) => `${label}: ${cost}`).join('. ');
  part('onward').replaceChildren(...(value.onward || []).map(([name, text, where]) => {
    const item = make('li');
    const link = make('a', where[0]);
    link.href = where[1];
    link.target = '_blank';
    link.rel = 'noopener noreferrer';
    item.append(make('b', name), make('span', text), link);
    return item;
  }));
  part('onward').hidden = !value.onward?.length;
  busy();
}

function busy() {
  for (const each of part('acts').children) {
    if (each.dataset.do === 'stop') each.hidden = !running;
    else each.disabled = Boolean(running);
  }
}

function take(value) {
  if (!value) return;
  part('problem').hidden = value.state !== 'refused';
  part('problem').textContent = value.problem || '';
  if (value.state === 'refused') { running = ''; busy(); return; }
  if (value.state === 'planned') {
    chapter = value.chapter;
    buttons(value);
    viewed[chapter] ??= 0;
    show(viewed[chapter]);
    state.attempt();
    return;
  }
  (kept[drawing.chapter] ||= {})[drawing.plan] ||= [];
  kept[drawing.chapter][drawing.plan].push(value);
  running = value.state === 'running' ? value.name : '';
  busy();
  if (drawing.chapter !== chapter || viewed[chapter] !== drawing.plan) return;
  if (value.state === NEAREST) { part('cost').textContent = ''; show(NEAREST); return; }
  section.hidden = false;
  viewer.take(value);
  goToLevel();
}

section.hidden = true;
section.querySelector('[data-part="at"]').addEventListener('input', tell);
watch('value', () => take(props.value));
take(props.value);
