// The stage and the timeline.  Frames arrive once and stay here: scrubbing asks the server nothing.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.film');
// Each tab has a film and two buttons of its own; the desk holds them together.
const desk = element.closest('.desk') || document.body;
const button = (name) => desk.querySelector(`.go-${name}`);
const cells = part('cells');
const timeline = new Timeline(part('strip'), { visible: () => root.offsetParent, go, step, pause, toggle });
const BUSY = ['queued', 'loading', 'running', 'decoding'];
const FRAME_MS = 90;
const calm = window.matchMedia('(prefers-reduced-motion: reduce)');
// at: the slot on the stage (total = the finished picture); follow: the newest frame takes the stage.
let film = blank(null);
let timer = null;

function blank(run) {
  return { run, state: 'empty', frames: [], pictures: [], total: 0, count: 1, at: -1, follow: true, chosen: -1, text: '' };
}

function slots() {
  const found = film.frames.map((frame, i) => (frame ? i : -1)).filter((i) => i >= 0);
  return film.pictures.length ? found.concat(film.total) : found;
}

function sources(slot) {
  if (slot === film.total && film.pictures.length) return film.pictures.map((p) => p.uri || p.file.url);
  return film.frames[slot] ? film.frames[slot].p : [];
}

function build() {
  cells.replaceChildren();
  cells.dataset.count = film.count;
  for (let k = 0; k < film.count; k++) {
    const cell = document.createElement(film.count > 1 ? 'button' : 'div');
    cell.className = 'cell';
    if (film.count > 1) {
      cell.type = 'button';
      cell.setAttribute('aria-label', `Picture ${k + 1} of ${film.count}`);
      cell.addEventListener('click', () => choose(film.chosen === k ? -1 : k));
    }
    cells.append(cell);
  }
  timeline.clear();
}

function show(image, source, cell) {
  // The old picture stays until the new one is decoded: no blank in between.
  if (source.startsWith('data:')) { image.src = source; return; }
  const next = new Image();
  next.src = source;
  cell.dataset.want = source;
  next.decode().catch(() => {}).then(() => { if (cell.dataset.want === source) image.src = source; });
}

function drawStage() {
  const list = sources(film.at);
  [...cells.children].forEach((cell, k) => {
    cell.hidden = film.chosen >= 0 && film.chosen !== k;
    const source = list[k];
    let image = cell.querySelector('img');
    if (!source) { if (image) image.remove(); return; }
    if (!image) { image = document.createElement('img'); image.decoding = 'sync'; cell.append(image); }
    const final = film.at === film.total && film.pictures.length > 0;
    image.alt = film.prompt ? `${final ? 'Picture' : `Step ${film.at + 1}`}: ${film.prompt}` : 'Picture without a prompt';
    delete cell.dataset.want;
    if (image.src !== source) show(image, source, cell);
  });
  cells.dataset.one = film.chosen >= 0;
  part('hint').hidden = list.length > 0 || film.state !== 'empty';
}

function drawStrip() {
  timeline.resize(Math.max(film.total, 1) + 1);
  const k = Math.max(film.chosen, 0);
  for (let i = 0; i <= film.total; i++) timeline.paint(i, sources(i)[k] || sources(i)[0]);
  timeline.mark(film.at, film.at < 0 ? 'empty' : caption(film.at));
}

function caption(slot) {
  if (slot === film.total && film.pictures.length) return 'The finished picture';
  return `Step ${slot + 1} of ${film.total} · what the model ${BUSY.includes(film.state) ? 'believes' : 'believed'} here`;
}

function drawWords() {
  const busy = BUSY.includes(film.state);
  const last = slots().at(-1);
  const looking = film.at >= 0 && film.at !== last;
  let text = film.text;
  if (timer || (looking && !(busy && film.follow))) text = caption(film.at);
  part('words').textContent = text;
  part('words').title = text;
  root.dataset.state = film.state;
  part('play').hidden = busy || slots().length < 2;
  part('play').textContent = timer ? 'Pause' : 'Play';
  part('retry').hidden = film.state !== 'failed';
  part('all').hidden = film.count < 2 || film.chosen < 0;
  part('true').hidden = film.at < 0;
  part('inside').hidden = !['done', 'stopped', 'recording'].includes(film.state) || !slots().length;
  part('send').hidden = !film.pictures.length || film.state === 'live';
  part('notes').textContent = film.notes || '';
}

function drawTools() {
  const done = film.state === 'done' && film.pictures.length > 0;
  part('tools').hidden = !done;
  if (!done) return;
  const k = Math.max(film.chosen, 0);
  const picture = film.pictures[k];
  const end = film.pictures.at(-1).seed;
  const rest = film.chosen < 0 && end !== picture.seed ? ` to …${end.slice(-3)}` : '';
  part('seed').textContent = picture.seed + rest;
  const save = part('save');
  save.href = picture.file.url;
  save.download = picture.name;
  save.textContent = film.count > 1 ? `Download ${k + 1} of ${film.count}` : 'Download PNG';
}

function draw() { drawStage(); drawStrip(); drawWords(); drawTools(); }

function choose(k) { film.chosen = k; draw(); }

function go(slot) {
  const there = slots();
  if (!there.length) return;
  film.at = there.reduce((best, i) => (Math.abs(i - slot) < Math.abs(best - slot) ? i : best), there[0]);
  film.follow = film.at === there.at(-1);
  draw();
}

function step(by) {
  const there = slots();
  const now = there.indexOf(film.at);
  if (there.length) go(there[Math.min(Math.max(now + by, 0), there.length - 1)]);
}

function pause() { clearInterval(timer); timer = null; drawWords(); }

function play() {
  const there = slots();
  if (there.length < 2) return;
  if (film.at === there.at(-1)) go(there[0]);
  timer = setInterval(() => {
    step(1);
    if (film.at === slots().at(-1)) pause();
  }, FRAME_MS);
  drawWords();
}

function toggle() { if (timer) pause(); else play(); }

function setBusy(state) {
  const busy = BUSY.includes(state);
  const was = desk.dataset.busy === 'yes';
  desk.dataset.busy = busy ? 'yes' : 'no';
  if (busy === was) return;
  part('aside').textContent = busy ? 'Making the picture' : film.text;
  // The two buttons share one place: the focus goes along.
  const [from, to] = busy ? ['make', 'stop'] : ['stop', 'make'];
  if (root.offsetParent && (document.activeElement === button(from) || document.activeElement === document.body)) {
    button(to)?.focus({ preventScroll: true });
  }
}

// A draft that is on its way changes nothing but the words, and those only while nothing else is being made.
function wait(value) {
  if (BUSY.includes(film.state)) return;
  film.text = value.text;
  drawWords();
}

function take(value) {
  if (!value || !value.run) return;
  // What was asked for later has the stage: drafts may come in late, and so may one that was kept.
  if ((value.live || value.kept) && value.asked < film.asked) return;
  if (value.live && !value.pictures.length) { wait(value); return; }
  const fresh = value.run !== film.run;
  if (film.state === 'live' && value.state === 'done') part('aside').textContent = value.text;
  if (fresh) { clearInterval(timer); timer = null; film = blank(value.run); }
  // A draft takes the place of what is there without a blank in between.
  const rebuild = value.live ? cells.children.length !== value.count : fresh || film.count !== value.count || film.total !== value.total;
  if (fresh) root.dataset.live = value.live ? 'yes' : 'no';
  film.asked = value.asked;
  for (const name of ['state', 'text', 'notes', 'prompt', 'count', 'total', 'pictures']) film[name] = value[name];
  for (const frame of value.frames) film.frames[frame.i] = frame;
  if (rebuild) build();
  if (film.follow) film.at = slots().at(-1) ?? -1;
  // Kept for those who watch from outside (tests, styles).
  root.dataset.run = film.run;
  root.dataset.seen = film.frames.filter(Boolean).length;
  setBusy(film.state);
  draw();
  if (fresh && film.state === 'recording' && !calm.matches) { go(0); play(); }
}

part('play').addEventListener('click', toggle);
part('all').addEventListener('click', () => choose(-1));
part('retry').addEventListener('click', () => button('make')?.click());
part('inside').addEventListener('click', () => trigger('inside', { run: film.run, picture: Math.max(film.chosen, 0) }));
part('send').addEventListener('click', () => trigger('send', { run: film.run, picture: Math.max(film.chosen, 0) }));
part('again').addEventListener('click', () => trigger('again'));
part('keep').addEventListener('click', () => trigger('keep', { seed: part('seed').textContent.split(' ')[0] }));
part('true').addEventListener('click', () => {
  const on = root.classList.toggle('true-size');
  part('true').setAttribute('aria-pressed', on);
});

// A picture that was chosen beside the film, in the strip of a blend.
function picked(event) {
  if (!element.isConnected) { document.removeEventListener('playground:picture', picked); return; }
  const { run, picture } = event.detail || {};
  if (run !== film.run || !(picture >= 0 && picture < film.count)) return;
  clearInterval(timer);
  timer = null;
  film.at = film.total;
  film.follow = true;
  choose(picture);
}
document.addEventListener('playground:picture', picked);

watch('value', () => take(props.value));
draw();
take(props.value);
