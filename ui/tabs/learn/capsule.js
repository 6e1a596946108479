// The lesson without the program: what its parts ask for is answered from this file.
const told = JSON.parse(document.getElementById('reel').textContent);
const REPORT_MS = 160;
const CHOICES = 'In this file only what was recorded can be chosen; the program has the rest.';
const parts = {};
let replay = 0;
let report = 0;

function mount(id, script) {
  const watchers = [];
  const props = { value: null };
  parts[id] = { tell(value) { props.value = value; for (const act of watchers) act(); } };
  script(document.getElementById(id), props, (name, act) => watchers.push(act), (name, data) => setTimeout(() => answer(id, name, data || {})));
}

function answer(id, name, data) {
  if (id === 'lesson' && name === 'turn') turn(data.chapter);
  if (id === 'learn-strip' && name === 'draw') parts[id].tell(told.strips[`${data.chapter}.${data.plan}`]);
  if (id === 'learn-strip' && name === 'nearest') parts[id].tell(told.nearest);
  if (id === 'learn-dots') dots(name, data);
}

function turn(chapter) {
  parts.lesson.tell(told.lesson);
  const at = Math.min(Math.max(chapter, 0), told.lesson.chapters.length - 1);
  for (const [live, value] of Object.entries(told.live[at])) parts[`learn-${live}`].tell(value);
}

// The training is played again; its samples are there for every sampler.
function dots(name, data) {
  clearInterval(replay);
  if (name === 'train' || name === 'resume') {
    if (name === 'train') report = 0;
    replay = setInterval(() => {
      parts['learn-dots'].tell(told.dots[report]);
      report += 1;
      if (report >= told.dots.length) clearInterval(replay);
    }, REPORT_MS);
  } else if (name === 'pause') {
    if (report && report < told.dots.length) parts['learn-dots'].tell({ run: told.dots[0].run, state: 'paused' });
  } else if (name === 'sample') parts['learn-dots'].tell(told.samples[data.scheduler]);
}

// What was not recorded cannot be chosen.
for (const each of document.querySelectorAll('#learn-dots :is([data-shape]:not([data-shape="moons"]), [data-part="rate"], [data-part="steps"], [data-part="count"], [data-part="label"], [data-part="guidance"], [data-do="again"])')) {
  each.disabled = true;
  each.title = CHOICES;
  new MutationObserver(() => { if (!each.disabled) each.disabled = true; }).observe(each, { attributes: true, attributeFilter: ['disabled'] });
}
document.querySelector('#learn-dots [data-part="steps"]').value = String(told.dots[0].steps);

// The address, which the page's own script keeps elsewhere.
document.addEventListener('playground:place', ({ detail: { parts: place, replace } }) => {
  const hash = `#/learn/${place.map(encodeURIComponent).join('/')}`;
  if (hash !== location.hash) history[replace ? 'replaceState' : 'pushState'](null, '', hash);
});
window.addEventListener('popstate', () => {
  const [tab, ...place] = location.hash.replace(/^#\/?/, '').split('/').map(decodeURIComponent);
  if (tab === 'learn') document.dispatchEvent(new CustomEvent('playground:open', { detail: { tab, parts: place } }));
});
