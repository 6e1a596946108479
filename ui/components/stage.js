// The stage and the timeline.  Frames arrive once and stay here: scrubbing makes no request.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.stage');
// Each tab has its own stage and two buttons; the form contains them.
const form = element.closest('.workspace') || document.body;
const button = (name) => form.querySelector(`.${name}-button`);
const cells = part('cells');
const timeline = new Timeline(part('strip'), { visible: () => root.offsetParent, go, step, pause, toggle });
const lightbox = new Lightbox(part('lightbox'), large);
// shown: the picture is there, and the frames of its steps are on their way.
const BUSY = new Set(['queued', 'loading', 'running', 'decoding', 'shown']);
// A played run takes so long, and rests on its picture before it stops.
const PLAY_MS = 4500;
// Small pictures are shown at a whole number of screen pixels for each of theirs, at most three times their size.
const SMALL = 256;
const LARGEST = 3;
const calm = window.matchMedia('(prefers-reduced-motion: reduce)');
// With so large a share of noise many pictures are still possible, and the guess is their average.
const EARLY = 0.5;
const EARLY_GUESS = "Your prompt's own answer, before guidance. A blur: the average of all pictures that still fit.";
const LATE_GUESS = "Your prompt's own answer, before guidance. Sharp by now: few pictures still fit.";
const [SHORT_EARLY, SHORT_LATE] = ['an average of what still fits', 'little else fits now'];
const NAMES = { noisy: 'noisy latent', guess: "the model's guess" };
// at: the slot on the stage (total = the finished picture); follow: the newest frame takes the stage.
// former: what stood here before the run; attempt: a run that made no picture, so that the former one is back; outcome: how it ended.
let view = blank(null);
// Which picture of a run that is about to be opened.
let wanted = null;
let playing = null;
let mode = 'noisy';
let size = 'smooth';

function blank(run) {
  return { run, state: 'empty', frames: [], pictures: [], total: 0, count: 1, size: [1, 1], at: -1, follow: true, chosen: -1, text: '',
    former: null, attempt: '', outcome: '' };
}

function slots() {
  const found = view.frames.map((frame, i) => (frame ? i : -1)).filter((i) => i >= 0);
  return view.pictures.length ? found.concat(view.total) : found;
}

function final(slot) { return slot === view.total && view.pictures.length > 0; }

// The pictures of a slot: the noisy latents or the guesses, and at the end the results.
function sources(slot, kind = mode) {
  if (final(slot)) return view.pictures.map((p) => p.uri || p.file.url);
  const frame = view.frames[slot];
  if (!frame) return [];
  return kind === 'noisy' && frame.x.length ? frame.x : frame.p;
}

function large() {
  const k = view.chosen;
  const list = sources(view.at).map((source, i) => ({ source, alt: alt(i) }));
  return k >= 0 && !final(view.at) ? [list[k]] : list;
}

function alt(k) {
  const what = final(view.at) ? 'Picture' : `Step ${view.at + 1}, ${NAMES[mode]}`;
  const which = view.count > 1 ? ` ${k + 1} of ${view.count}` : '';
  return view.prompt ? `${what}${which}: ${view.prompt}` : `${what}${which} without a prompt`;
}

function build() {
  cells.replaceChildren();
  cells.dataset.count = view.count;
  for (let k = 0; k < view.count; k++) {
    const cell = document.createElement(view.count > 1 ? 'button' : 'div');
    cell.className = 'cell';
    if (view.count > 1) {
      cell.type = 'button';
      cell.setAttribute('aria-label', `Picture ${k + 1} of ${view.count}`);
      cell.addEventListener('click', () => choose(view.chosen === k ? -1 : k));
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

// While a run is played, the picture before fades out over the new one.
function fade(cell, image) {
  const old = image.cloneNode();
  old.className = 'fading';
  old.alt = '';
  cell.querySelector('.fading')?.remove();
  cell.append(old);
  old.addEventListener('animationend', () => old.remove());
}

function drawStage() {
  const list = sources(view.at);
  [...cells.children].forEach((cell, k) => {
    cell.hidden = view.chosen >= 0 && view.chosen !== k;
    const source = list[k];
    let image = cell.querySelector('img:not(.fading)');
    if (!source) { cell.replaceChildren(); return; }
    if (!image) { image = document.createElement('img'); image.decoding = 'sync'; cell.prepend(image); }
    image.alt = alt(k);
    delete cell.dataset.want;
    if (image.src === source) return;
    if (playing && !calm.matches) fade(cell, image);
    show(image, source, cell);
  });
  cells.dataset.one = view.chosen >= 0;
  const waiting = !list.length && (view.state === 'empty' || BUSY.has(view.state));
  part('static').hidden = !waiting;
  stir(waiting && BUSY.has(view.state) && !calm.matches);
  part('hint').hidden = list.length > 0 || view.state !== 'empty';
  drawInset();
  drawTold();
}

function drawInset() {
  const other = mode === 'noisy' ? 'guess' : 'noisy';
  const frame = view.frames[view.at];
  const both = !final(view.at) && frame && frame.x.length > 0;
  part('swap').hidden = !both;
  if (!both) return;
  part('inset').src = sources(view.at, other)[Math.max(view.chosen, 0)];
  part('inset-name').textContent = named(frame, other);
  part('swap').title = 'Click to see it large.';
}

// One line says what a guess is and why an early one is a blur, next to the guess: the small one or the large one.
function drawTold() {
  const frame = final(view.at) ? null : view.frames[view.at];
  const text = !frame ? '' : frame.n >= EARLY ? EARLY_GUESS : LATE_GUESS;
  const onStage = mode === 'guess' || Boolean(frame && !frame.x.length);
  part('told').textContent = onStage ? text : '';
  part('inset-told').textContent = onStage ? '' : text;
  part('told-short').textContent = text && `The guess: ${frame.n >= EARLY ? SHORT_EARLY : SHORT_LATE}`;
}

function drawStrip() {
  timeline.resize(Math.max(view.total, 1) + 1);
  const k = Math.max(view.chosen, 0);
  for (let i = 0; i <= view.total; i++) timeline.paint(i, sources(i)[k] || sources(i)[0]);
  timeline.mark(view.at, view.at < 0 ? 'empty' : caption(view.at));
  drawCurve();
}

function drawCurve() {
  const known = view.frames.flatMap((frame, i) => (frame ? [[i, frame.n]] : []));
  timeline.curve(part('curve'), known.length ? [...known, [view.total, 0]] : [], view.total + 1);
}

function caption(slot) {
  if (final(slot)) return 'The finished picture';
  const frame = view.frames[slot];
  return `Step ${slot + 1} of ${view.total}, ${percent(frame?.n)} noise: ${named(frame, frame?.x.length ? mode : 'guess')}`;
}

// While a picture is made, its steps may be rough: the colours of the latents, not decoded.
function named(frame, kind) { return frame?.r?.includes(kind) ? `${NAMES[kind]}, rough` : NAMES[kind]; }

function percent(share) { return share === undefined ? '' : `${Math.round(100 * share)}%`; }

// The large words: how much noise there is, or "picture".
function drawCount(share = view.frames[view.at]?.n) {
  const count = part('count');
  const done = final(view.at);
  count.dataset.kind = done ? 'picture' : 'noise';
  count.textContent = done ? 'picture' : view.at < 0 ? '' : `${percent(share)} noise`;
}

function drawWords() {
  const busy = BUSY.has(view.state);
  const last = slots().at(-1);
  const looking = view.at >= 0 && view.at !== last && !(busy && view.follow);
  let text = view.text;
  if (playing || looking) {
    const recorded = view.state === 'recording' ? ', recorded' : '';
    text = final(view.at) ? view.text : `Step ${view.at + 1} of ${view.total}${recorded}`;
  }
  part('words').textContent = text;
  part('words').title = text;
  root.dataset.state = view.outcome || view.state;
  root.dataset.view = mode;
  drawCount();
  part('play').hidden = busy || slots().length < 2;
  part('play').textContent = playing ? 'Pause' : 'Play';
  part('retry').hidden = (view.outcome || view.state) !== 'failed' || !view.next?.to;
  part('retry').textContent = view.next?.label || '';
  part('all').hidden = view.count < 2 || view.chosen < 0;
  part('inside').hidden = !['done', 'stopped', 'recording'].includes(view.state) || !slots().length;
  part('send').hidden = !view.pictures.length || view.state === 'live';
  part('notes').textContent = view.notes || '';
}

function drawTools() {
  const done = view.state === 'done' && view.pictures.length > 0;
  for (const name of ['save', 'again', 'keep']) part(name).hidden = !done;
  if (!done) return;
  const k = Math.max(view.chosen, 0);
  const picture = view.pictures[k];
  const save = part('save');
  // A picture that the disk did not take is on the page alone.
  save.href = picture.file?.url || picture.uri;
  save.download = picture.name || `${picture.seed || 'picture'}.png`;
  save.textContent = view.count > 1 ? `Save ${k + 1} of ${view.count}` : 'Save';
  part('keep').dataset.seed = picture.seed;
  part('keep').title = `Keep seed ${picture.seed} for the next picture`;
}

// How large one picture is shown, in CSS pixels for each of its own.
function scaleFor(width, height) {
  const dots = window.devicePixelRatio || 1;
  if (size === 'actual') return 1 / dots;
  const [w, h] = view.size;
  const fit = Math.min(width / w, height / h);
  if (Math.max(w, h) > SMALL) return Math.min(fit, 1);
  const whole = Math.floor(Math.min(fit, LARGEST) * dots) / dots;
  return whole >= 1 ? whole : fit;
}

// The room of one of n pictures, in CSS pixels.
function room(total, start, end, n) { return (total - parseFloat(start) - parseFloat(end) - 8 * (n - 1)) / n; }

// What the picture's size depends on besides the room for it; measuring that room lays out the whole page.
let placed = '';
function layout() { return JSON.stringify([view.chosen, view.count, view.size, size, view.at < 0]); }

function place() {
  const shown = view.chosen >= 0 ? 1 : view.count;
  const across = Math.ceil(Math.sqrt(shown));
  const down = Math.ceil(shown / across);
  const style = getComputedStyle(cells);
  const width = room(cells.clientWidth, style.paddingLeft, style.paddingRight, across);
  const height = room(cells.clientHeight, style.paddingTop, style.paddingBottom, down);
  if (width <= 0 || height <= 0) return;
  placed = layout();
  const scale = scaleFor(width, height);
  const [w, h] = view.size;
  cells.style.setProperty('--across', across);
  root.style.setProperty('--w', `${w * scale}px`);
  root.style.setProperty('--h', `${h * scale}px`);
  // Other views of the tab show their pictures as large.
  form.style.setProperty('--result-width', `${w * scale}px`);
  form.style.setProperty('--result-height', `${h * scale}px`);
  form.style.setProperty('--result-mat', `${part('stage').clientHeight}px`);
  const times = size === 'actual' ? 'actual size' : Math.abs(scale - 1) < 0.01 ? '' : `shown ${Number(scale.toFixed(2))}x`;
  part('scale').textContent = view.at < 0 ? '' : [`${w} × ${h}`, times].filter(Boolean).join(', ');
}

function draw() {
  root.dataset.chosen = view.chosen;
  document.dispatchEvent(new CustomEvent('playground:shown'));
  if (layout() !== placed) place();
  drawStage();
  drawStrip();
  drawWords();
  drawTools();
}

function choose(k) { view.chosen = k; draw(); }

function go(slot) {
  const there = slots();
  if (!there.length) return;
  view.at = there.reduce((best, i) => (Math.abs(i - slot) < Math.abs(best - slot) ? i : best), there[0]);
  view.follow = view.at === there.at(-1);
  draw();
}

function step(by) {
  const there = slots();
  const now = there.indexOf(view.at);
  if (there.length) go(there[Math.min(Math.max(now + by, 0), there.length - 1)]);
}

function pause() { cancelAnimationFrame(playing); playing = null; drawWords(); }

// Slow at both ends, where noise and picture can be taken in.
function ease(t) { return t < 0.5 ? 2 * t * t : 1 - 2 * (1 - t) * (1 - t); }

function play() {
  const there = slots();
  if (there.length < 2) return;
  const first = view.at === there.at(-1) ? 0 : Math.max(there.indexOf(view.at), 0);
  const length = PLAY_MS * (1 - first / (there.length - 1));
  const begin = performance.now();
  const tick = (now) => {
    const along = first + (there.length - 1 - first) * ease(Math.min((now - begin) / length, 1));
    const k = Math.min(Math.floor(along + 0.001), there.length - 1);
    if (there[k] !== view.at) go(there[k]);
    const [here, next] = [there[k], there[k + 1]].map((slot) => (final(slot) ? 0 : view.frames[slot]?.n));
    if (next !== undefined) drawCount(here + (next - here) * (along - k));
    if (now - begin >= length) { pause(); return; }
    playing = requestAnimationFrame(tick);
  };
  playing = requestAnimationFrame(tick);
  go(there[first]);
}

function toggle() {
  if (playing) pause();
  else if (!part('play').hidden) play();
}

function setBusy(state) {
  const busy = BUSY.has(state);
  const was = form.dataset.busy === 'yes';
  form.dataset.busy = busy ? 'yes' : 'no';
  if (busy === was) return;
  part('aside').textContent = busy ? 'Making the picture' : view.text;
  // The two buttons share one place: the focus moves with them.
  const [from, to] = busy ? ['generate', 'stop'] : ['stop', 'generate'];
  if (root.offsetParent && (document.activeElement === button(from) || document.activeElement === document.body)) {
    button(to)?.focus({ preventScroll: true });
  }
}

// A pending draft changes only the words, and those only while nothing else is being made.
function wait(value) {
  if (BUSY.has(view.state)) return;
  view.text = value.text;
  drawWords();
}

function take(value) {
  if (!value || !value.run) return;
  // The latest request has the stage: drafts may arrive late, and so may one that was kept.
  if ((value.live || value.kept) && value.asked < view.asked) return;
  if (value.live && !value.pictures.length) { wait(value); return; }
  const fresh = value.run !== (view.attempt || view.run);
  const finished = value.state === 'done' && (fresh || view.state !== 'done');
  if (view.state === 'live' && value.state === 'done') part('aside').textContent = value.text;
  if (fresh) { if (playing) pause(); view = { ...blank(value.run), former: former() }; }
  if (cameToNothing(value)) { putBack(value); return; }
  // A draft replaces the picture without a blank in between.
  const rebuild = value.live ? cells.children.length !== value.count : fresh || view.count !== value.count || view.total !== value.total;
  if (fresh) root.dataset.live = value.live ? 'yes' : 'no';
  view.asked = value.asked;
  for (const name of ['state', 'text', 'notes', 'next', 'prompt', 'count', 'size', 'total', 'pictures', 'trace']) view[name] = value[name];
  for (const frame of value.frames) view.frames[frame.i] = frame;
  if (rebuild) build();
  if (wanted?.run === view.run && view.pictures.length) {
    if (view.count > 1) view.chosen = wanted.picture;
    wanted = null;
  }
  if (view.follow) view.at = slots().at(-1) ?? -1;
  // For tests and style sheets.
  root.dataset.run = view.run;
  root.dataset.seen = view.frames.filter(Boolean).length;
  // The foot names the model that draws.
  form.dataset.draws = value.model || '';
  setBusy(view.state);
  draw();
  if (finished && view.pictures[0]?.file) announce(value);
  if (fresh && view.state === 'recording' && !calm.matches) { go(0); play(); }
}

// A run that makes no picture leaves the former one in place.
function former() { return view.pictures.length && !BUSY.has(view.state) ? { ...view, former: null } : view.former; }

function cameToNothing(value) {
  if (view.attempt === value.run) return true;
  return Boolean(view.former) && (value.state === 'failed' || (value.state === 'stopped' && !view.frames.length && !value.frames.length));
}

function putBack(value) {
  if (!view.attempt) view = { ...view.former, attempt: value.run };
  view.former = null;
  view.outcome = value.state;
  view.text = value.text;
  view.next = value.next;
  view.asked = value.asked;
  view.follow = true;
  view.at = slots().at(-1) ?? -1;
  build();
  root.dataset.run = view.run;
  root.dataset.seen = view.frames.filter(Boolean).length;
  setBusy(view.state);
  draw();
}

// The strip of recent pictures listens.
function announce(value) {
  const pictures = value.pictures.map((one) => ({ url: one.file.url, seed: one.seed }));
  document.dispatchEvent(new CustomEvent('playground:made', { detail: { run: value.run, prompt: value.prompt, pictures } }));
}

// Noise for a stage that has no picture yet: still while nothing happens, alive while a picture is on its way.
const NOISE_MS = 150;
let stirring = null;
function paintStatic() {
  const canvas = part('static');
  const context = canvas.getContext('2d');
  const image = context.createImageData(canvas.width, canvas.height);
  for (let i = 0; i < image.data.length; i += 4) {
    for (let c = 0; c < 3; c++) image.data[i + c] = 128 + 110 * (Math.random() + Math.random() + Math.random() - 1.5);
    image.data[i + 3] = 255;
  }
  context.putImageData(image, 0, 0);
}

function stir(on) {
  if (on === Boolean(stirring)) return;
  clearInterval(stirring);
  stirring = on ? setInterval(() => {
    if (!element.isConnected) stir(false);
    else if (root.offsetParent && !document.hidden) paintStatic();
  }, NOISE_MS) : null;
}

part('play').addEventListener('click', toggle);
part('all').addEventListener('click', () => choose(-1));
part('retry').addEventListener('click', () => document.dispatchEvent(new CustomEvent('playground:mend', { detail: { ...view.next, from: element } })));
part('inside').addEventListener('click', () => {
  const k = Math.max(view.chosen, 0);
  // The player shows what is here already while the server opens the run.
  const frames = view.frames.filter(Boolean).map((frame) => ({ noise: frame.n, guess: frame.p[k], noisy: frame.x[k] }));
  const seen = { run: view.trace || view.run, picture: k, title: view.prompt, total: view.total, size: view.size, frames };
  window.playgroundInside = seen;
  document.dispatchEvent(new CustomEvent('playground:inside', { detail: seen }));
  trigger('inside', { run: view.run, picture: k });
});
part('send').addEventListener('click', () => trigger('send', { run: view.run, picture: Math.max(view.chosen, 0) }));
part('again').addEventListener('click', () => trigger('again'));
part('keep').addEventListener('click', () => trigger('keep', { seed: part('keep').dataset.seed }));
part('swap').addEventListener('click', () => { mode = mode === 'noisy' ? 'guess' : 'noisy'; draw(); });
part('full').addEventListener('click', () => { if (view.at >= 0) lightbox.open(Math.min(Math.max(view.chosen, 0), large().length - 1)); });
for (const choice of root.querySelectorAll('[data-size]')) {
  choice.addEventListener('click', () => {
    size = choice.dataset.size;
    root.dataset.size = size;
    for (const other of root.querySelectorAll('[data-size]')) other.setAttribute('aria-pressed', other === choice);
    draw();
  });
}
new ResizeObserver(() => place()).observe(part('stage'));

// A picture that was chosen in the strip of a blend, or among the recent ones.
function picked(event) {
  if (!element.isConnected) { document.removeEventListener('playground:picture', picked); return; }
  const { run, picture } = event.detail || {};
  wanted = run !== view.run && root.offsetParent ? { run, picture } : null;
  if (wanted || run !== view.run || !(picture >= 0 && picture < view.count)) return;
  if (playing) pause();
  view.at = view.total;
  view.follow = true;
  choose(picture);
}
document.addEventListener('playground:picture', picked);

// What every page begins with is not shown where this browser's own last picture is about to come.
function isMine() {
  const tab = element.closest('[id^="tab-"]')?.id.slice(4);
  try { return localStorage.getItem(`diffusion-playground-${tab}-made`) !== null; } catch { return false; }
}

paintStatic();
watch('value', () => take(props.value));
draw();
if (props.value?.state !== 'recording' || !isMine()) take(props.value);
