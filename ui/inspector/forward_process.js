// Adding noise: every frame arrives at once, so the slider makes no request.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.forward');
const cells = part('cells');
const range = part('range');
const COLUMNS = [
  ['The picture with noise', 'forward process, add_noise', 'noised'],
  ['The run at the same point', 'reverse process, x_t', 'run'],
  ['One look: what the model makes of it', 'one-shot predicted x0', 'looks'],
];
let film = null;
let wanted = '';
let asked = '';
// What to do about a problem: the same once more, or another picture.
let next = null;
const DOES = {
  generate: () => { asked = ''; ask(); },
  source: () => document.querySelector('#forward-upload input[type="file"]')?.click(),
};

const visible = () => element.isConnected && element.offsetParent !== null;

function build() {
  for (const [title, term] of COLUMNS) {
    const cell = document.createElement('figure');
    const well = document.createElement('div');
    well.className = 'well';
    const text = document.createElement('figcaption');
    for (const [tag, kind, words] of [['b', '', title], ['span', 'term', term], ['span', 'about', '']]) {
      const line = document.createElement(tag);
      line.className = kind;
      line.textContent = words;
      text.append(line);
    }
    cell.append(well, text);
    cells.append(cell);
  }
}

function picture(cell, source, words) {
  const well = cell.querySelector('.well');
  let image = well.querySelector('img');
  if (!source) { if (image) image.remove(); return; }
  if (!image) {
    image = document.createElement('img');
    image.decoding = 'sync';
    image.draggable = false;
    well.append(image);
  }
  image.src = source;
  image.alt = words;
}

function draw() {
  const there = Boolean(film) && film.noised.length > 0;
  range.disabled = !there;
  if (!there) return;
  const i = Math.min(Number(range.value), film.noised.length - 1);
  part('t').textContent = film.labels[i];
  range.setAttribute('aria-valuetext', film.labels[i]);
  const under = [
    'Made by arithmetic alone: picture and noise, mixed.',
    `Noise on its way to the picture: ${film.step_labels[i]}.`,
    film.alike[i] || (film.asking ? 'Being asked.' : film.looks.length ? '' : 'Not asked yet.'),
  ];
  [...cells.children].forEach((cell, n) => {
    const [title, , from] = COLUMNS[n];
    picture(cell, film[from][i], `${title}, ${film.labels[i]}`);
    cell.querySelector('.about').textContent = under[n];
  });
  point(i);
  root.dataset.index = i;
}

// The style sheet places the cursors of the two charts from these; the panel alone has charts.
function point(i) {
  if (!element.closest('#forward')) return;
  for (const name of ['signal', 'snr']) {
    const chart = document.getElementById(`forward-${name}`);
    if (!chart) continue;
    chart.classList.add('pointed');
    chart.classList.toggle('dotless', film.pointers[name][i] === null);
    chart.style.setProperty('--at', film.pointers.at[i]);
    chart.style.setProperty('--dot', film.pointers[name][i] ?? 0);
  }
}

// Where the slider stood on this picture.
const PLACE = 'diffusion-playground-noise-level';
function keep() {
  if (!film || !element.closest('#forward')) return;
  try { localStorage.setItem(PLACE, JSON.stringify([film.key, Number(range.value)])); } catch { /* nothing is kept */ }
}
function kept(key) {
  if (!element.closest('#forward')) return null;
  try {
    const [of, at] = JSON.parse(localStorage.getItem(PLACE) || '[]');
    return of === key && Number.isInteger(at) ? at : null;
  } catch { return null; }
}

function ask() {
  if (!wanted || asked === wanted || !visible()) return;
  asked = wanted;
  trigger('open');
}

function take(value) {
  if (!value) { film = null; wanted = ''; root.dataset.state = 'empty'; part('body').hidden = true; return; }
  part('body').hidden = false;
  if (value.state === 'closed') {
    // Another trace, or the same again: the shown frames stay until the new ones are here.
    if (value.key !== wanted) { wanted = value.key; asked = ''; }
    ask();
    return;
  }
  if (wanted && value.key !== wanted) return;
  wanted = asked = value.key;
  root.dataset.state = value.state;
  // For tests and style sheets.
  root.dataset.key = value.key;
  root.dataset.said = value.verdict ? 'verdict' : 'text';
  part('verdict').textContent = value.verdict || value.text;
  next = value.next?.to in DOES ? value.next : null;
  part('next').hidden = !next;
  part('next').textContent = next?.label || '';
  if (value.state !== 'open') return;
  const first = !film || film.key !== value.key || film.noised.length !== value.noised.length;
  film = value;
  range.max = film.noised.length - 1;
  if (first) range.value = kept(value.key) ?? Math.floor(film.noised.length / 2);
  draw();
}

build();
part('next').addEventListener('click', () => {
  part('next').hidden = next?.to !== 'source';
  DOES[next.to]();
});
range.addEventListener('input', () => { draw(); keep(); });
// What was chosen before a reload has come back, perhaps after the panel was made.
function again() {
  if (!element.isConnected) { document.removeEventListener('playground:noise-kept', again); return; }
  if (asked) { asked = ''; ask(); }
}
if (element.closest('#forward')) document.addEventListener('playground:noise-kept', again);
new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) ask(); }).observe(root);
watch('value', () => take(props.value));
take(props.value);
