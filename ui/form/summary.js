// What is set, below Generate: how many pictures, the seed and its lock.  A click opens the setting.
const root = element.querySelector('.summary');
const desk = element.closest('.workspace');

// Drafts, variations and blends keep the seed without its lock; a blend has a number of pictures of its own.
function keeps() { return Boolean(desk.querySelector('#drafts input:checked')) || ['variations', 'blend'].includes(way()); }
function way() { return desk.querySelector('#variation-mode input:checked')?.value; }
function count(text) {
  return way() === 'blend' ? `${desk.querySelector('#blend-count input')?.value} pictures` : text;
}

function drawSeed(pill, seed, locked) {
  const kept = seed ? `seed ${seed}` : 'the next seed stays';
  pill.querySelector('span').textContent = locked ? kept : keeps() ? 'the seed stays for now' : 'new seed each time';
  pill.setAttribute('aria-pressed', locked);
  const offer = seed ? `Click to lock seed ${seed}.` : 'Click to keep the seed of the next picture.';
  pill.title = locked ? 'The seed is locked. Click to draw a new one each time.' : offer;
}

// The lock answers at once; the server's value follows.
function lock(pill) {
  drawSeed(pill, props.value?.seed, pill.getAttribute('aria-pressed') !== 'true');
  trigger('lock');
}

function draw() {
  const value = props.value;
  if (!value) return;
  for (const pill of root.querySelectorAll('[data-pill]')) {
    const name = pill.dataset.pill;
    if (name === 'seed') drawSeed(pill, value.seed, value.locked);
    else pill.textContent = count(value.count);
  }
  root.querySelector('[data-part="more"]').textContent = value.more;
  // The foot says which model comes next.
  desk.dataset.model = value.id;
  document.dispatchEvent(new CustomEvent('playground:shown'));
}

for (const pill of root.querySelectorAll('[data-pill]')) {
  pill.addEventListener('click', () => { if (pill.dataset.pill === 'seed') lock(pill); else openControl(desk, 'count'); });
}
for (const kind of ['input', 'change']) desk.addEventListener(kind, () => requestAnimationFrame(draw));
// A drawer covers the form; Escape closes it.
desk.addEventListener('keydown', (event) => {
  if (event.key !== 'Escape' || desk.dataset.busy === 'yes') return;
  const head = desk.querySelector('.drawer > button.open');
  if (!head) return;
  event.stopPropagation();
  head.click();
  head.focus();
});
// One drawer at a time: the one that was opened last.
new MutationObserver((changes) => {
  const opened = changes.map((change) => change.target).find((head) => head.matches('.drawer > button.open'));
  if (!opened) return;
  for (const fold of desk.querySelectorAll('.drawer')) {
    const head = fold.querySelector(':scope > button');
    if (head !== opened && head.classList.contains('open')) head.click();
  }
}).observe(desk, { subtree: true, attributes: true, attributeFilter: ['class'] });
watch('value', draw);
draw();
