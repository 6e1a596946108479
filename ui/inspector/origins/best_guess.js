// The best possible guess: asks once for each picture that is opened, then follows the player without the server.
const root = element.querySelector('.origins');
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const cells = part('cells');
let sheet = null;
let wanted = '';
let asked = '';
let step = 0;

const visible = () => element.isConnected && element.offsetParent !== null;

function make(tag, kind, text) {
  const found = document.createElement(tag);
  if (kind) found.className = kind;
  if (text !== undefined) found.textContent = text;
  return found;
}

function picture(uri, alt) {
  const image = make('img');
  image.src = uri;
  image.alt = alt;
  image.draggable = false;
  return image;
}

function figure(title, term) {
  const cell = make('figure');
  const words = make('figcaption');
  words.append(make('b', '', title), make('span', 'term', term), make('span', 'about'));
  cell.append(make('div', 'well'), words);
  return cell;
}

function drawGuesses(guesses) {
  part('guesses').hidden = !guesses;
  if (!guesses) return;
  if (cells.dataset.key !== wanted) {
    cells.dataset.key = wanted;
    cells.replaceChildren(...guesses.cells.map(([title, term]) => figure(title, term)));
  }
  const i = Math.min(step, guesses.steps.length - 1);
  part('state').textContent = guesses.steps[i];
  part('sample').textContent = guesses.sample;
  [...cells.children].forEach((cell, n) => {
    const [title, term, about] = guesses.cells[n];
    cell.querySelector('.well').replaceChildren(picture(guesses.frames[n][i], `${title}, ${term}, ${guesses.steps[i]}`));
    cell.querySelector('.about').textContent = about[i];
  });
  root.dataset.step = i;
}

function drawNearest(nearest) {
  part('nearest').hidden = !nearest;
  if (!nearest) return;
  const own = { picture: nearest.result, name: 'The result', style: '', distance: '' };
  part('renders').replaceChildren(...[own, ...nearest.renders].map((one, n) => {
    const item = make('li', n ? '' : 'own');
    item.append(picture(one.picture, n ? `Training drawing: ${one.name}, ${one.style}` : 'The result'), make('b', '', one.name));
    if (n) item.append(make('span', 'term', one.style), make('span', 'figure', one.distance));
    return item;
  }));
  part('likeness').textContent = nearest.said;
}

function line(at, kind) {
  const mark = make('i', kind);
  mark.style.setProperty('--at', at);
  return mark;
}

function drawGauge(gauge) {
  part('gauge').hidden = !gauge;
  if (!gauge) return;
  part('verdict').textContent = gauge.why || gauge.said;
  part('gauge-about').hidden = Boolean(gauge.why);
  const dots = part('dots');
  dots.hidden = Boolean(gauge.why);
  dots.setAttribute('aria-label', gauge.said || '');
  dots.replaceChildren(...(gauge.others || []).map((at) => line(at, '')), ...(gauge.why ? [] : [line(gauge.own, 'own')]));
}

function drawPreparation() {
  const bar = part('progress');
  const preparing = sheet.state === 'preparing';
  part('making').hidden = !preparing;
  part('stop').hidden = !sheet.may_stop;
  if (preparing) { bar.max = sheet.total; bar.value = sheet.done; }
  part('ask').hidden = sheet.state !== 'unprepared';
  part('prepare').textContent = sheet.begun ? 'Go on' : 'Prepare the training pictures';
  part('cost').textContent = sheet.cost || '';
}

function draw() {
  root.dataset.state = sheet ? sheet.state : 'empty';
  if (!sheet) { for (const name of ['guesses', 'nearest', 'gauge', 'ask', 'making']) part(name).hidden = true; }
  part('why').textContent = sheet?.why || '';
  part('why').hidden = !sheet?.why;
  part('again').hidden = !sheet?.next;
  part('again').textContent = sheet?.next?.label || '';
  part('badge').textContent = sheet?.badge || '';
  part('badge').hidden = !sheet?.badge;
  if (!sheet) return;
  drawPreparation();
  drawGuesses(sheet.guesses);
  drawNearest(sheet.nearest);
  drawGauge(sheet.gauge);
}

function ask() {
  if (!wanted || asked === wanted || sheet?.state !== 'closed' || !visible()) return;
  asked = wanted;
  trigger('open');
}

function take(value) {
  if (!value) { sheet = null; wanted = asked = ''; draw(); return; }
  if (value.state === 'closed' || value.state === 'none') {
    // The same again: what is shown stays.
    if (value.key === wanted && sheet?.state !== 'none') return;
    wanted = value.key;
    asked = '';
  } else if (value.key !== wanted) {
    return;
  }
  sheet = value;
  draw();
  ask();
}

function follow(event) {
  if (!element.isConnected) { document.removeEventListener('playground:step', follow); return; }
  step = Math.max(event.detail.index, 0);
  if (sheet?.guesses) drawGuesses(sheet.guesses);
}
document.addEventListener('playground:step', follow);

part('again').addEventListener('click', () => {
  sheet = { ...sheet, state: 'closed', why: '', next: null };
  asked = '';
  draw();
  ask();
});
part('prepare').addEventListener('click', () => { part('ask').hidden = true; trigger('prepare'); });
part('stop').addEventListener('click', () => trigger('stop'));
part('timeline').addEventListener('click', () => {
  const { lens, frames } = sheet.guesses;
  const detail = { run: wanted, name: 'best', about: lens, frames: frames[1] };
  document.dispatchEvent(new CustomEvent('playground:lens', { detail }));
  document.dispatchEvent(new CustomEvent('playground:go', { detail: { left: 'x0', right: 'best' } }));
});
new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) ask(); }).observe(root);
watch('value', () => take(props.value));
take(props.value);
document.dispatchEvent(new CustomEvent('playground:where'));
