// Strips of whole runs in the lesson: buttons of the chapter, and the viewer of Compare.
const root = element.querySelector('.lesson-strip');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const section = root.querySelector('.viewer');
const viewer = new Viewer(section, { inside: (run) => trigger('inside', { run }) });
let chapter = -1;
let running = '';
// What was drawn in each chapter stays until the page is left: its viewer's values.
const kept = {};
let drawnFor = -1;

function button(text, act) {
  const made = document.createElement('button');
  made.type = 'button';
  made.textContent = text;
  made.addEventListener('click', act);
  return made;
}

function buttons(plans) {
  const made = plans.map(({ label }, plan) => {
    const found = button(label, () => { drawnFor = chapter; kept[chapter] = []; trigger('draw', { chapter, plan }); });
    found.className = plan ? 'quiet' : 'primary-act';
    return found;
  });
  const stop = button('Stop', () => trigger('stop', { name: running }));
  stop.className = 'quiet';
  stop.dataset.do = 'stop';
  part('acts').replaceChildren(...made, stop);
  part('cost').textContent = plans.map(({ label, cost }) => `${label}: ${cost}`).join('. ');
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
  if (value.state === 'refused') return;
  if (value.state === 'planned') {
    chapter = value.chapter;
    buttons(value.plans);
    section.hidden = !kept[chapter]?.length;
    (kept[chapter] || []).forEach((each, i) => viewer.take(i ? each : { ...each, started: true }));
    return;
  }
  (kept[drawnFor] ||= []).push(value);
  running = value.state === 'running' ? value.name : '';
  busy();
  if (drawnFor !== chapter) return;
  section.hidden = false;
  viewer.take(value);
}

section.hidden = true;
watch('value', () => take(props.value));
take(props.value);
