// The tiny model of dots: a field of dots and arrows, its error at each noise level, and its runs on a timeline.
// Numbers arrive whole, in hundredths.  Everything is drawn on canvases, in the colours of the page; text by textContent.
const root = element.querySelector('.dots');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const act = (name) => root.querySelector(`[data-do="${name}"]`);
const PLANE = Number(root.dataset.plane);
const GRID = 13;
// Places of a drawn line, which lie this far apart however fast the pointer moved.
const MOST_DRAWN = 400;
const GAP = 0.06;
// A training that is not told of for so long waits for a picture that is made.
const WAITS_MS = 1500;
const calm = window.matchMedia('(prefers-reduced-motion: reduce)');
let report = null;
let shape = 'moons';
let drawn = [];
let drawing = false;
// Drawing with the keys: where the pen is, and whether it draws.
let nib = null;
let who = 'learned';
let at = 0;
let follows = true;
let seed = 1;
let timer = 0;
let waits = 0;
// Reports of trainings before this one come too late.
let oldest = 0;
// Where the dots are drawn; they glide to where they belong.
let shown = null;
let frame = 0;

// -- colours and places ----------------------------------------------------------------------------------------
function colour(name) { return getComputedStyle(root).getPropertyValue(name).trim(); }
function place(x, side) { return (side * (x / 100 + PLANE)) / (2 * PLANE); }
function flow() { return who === 'ideal' ? report?.ideal : report?.flow; }
function states() { return flow()?.states || []; }
function noiseAt() { return flow()?.noise?.[at] ?? 1; }

// The timestep of a field whose noise is nearest to that of the state on view.
function fieldLevel() {
  const levels = report.field_noise || [];
  let best = 0;
  levels.forEach((noise, i) => { if (Math.abs(noise - noiseAt()) < Math.abs(levels[best] - noiseAt())) best = i; });
  return best;
}

// -- the plane ---------------------------------------------------------------------------------------------------
function drawPlane() {
  const canvas = part('plane');
  const side = canvas.width;
  const ink = canvas.getContext('2d');
  ink.clearRect(0, 0, side, side);
  if (shape === 'drawn' && (drawn.length || nib) && (!report || report.shape !== 'drawn' || drawing)) drawLine(ink, side);
  if (!report?.dots || drawing) return;
  drawArrows(ink, side);
  const [back, dot] = [colour('--soft'), colour(noiseAt() > 0.5 ? '--noise' : '--picture')];
  ink.globalAlpha = 0.4;
  drawDots(ink, side, report.dots, 2.2, () => back, report.labels);
  ink.globalAlpha = 0.95;
  if (shown) drawDots(ink, side, shown, 4.2, () => dot);
  ink.globalAlpha = 1;
}

function drawDots(pen, side, places, radius, paint, labels) {
  for (let i = 0; i < places.length; i += 2) {
    pen.beginPath();
    pen.arc(place(places[i], side), side - place(places[i + 1], side), radius, 0, 2 * Math.PI);
    // The second class is hollow, so that classes differ by more than a colour.
    if (labels?.[i / 2] === 2) { pen.strokeStyle = paint(i); pen.lineWidth = 1.4; pen.stroke(); } else { pen.fillStyle = paint(i); pen.fill(); }
  }
}

function drawArrows(pen, side) {
  const field = who === 'ideal' ? report.ideal?.field : report.field;
  if (!field || !at && !report.step && who !== 'ideal') return;
  const per = 2 * GRID * GRID;
  const from = fieldLevel() * per;
  const gap = (2 * PLANE) / GRID;
  pen.strokeStyle = colour('--accent');
  pen.globalAlpha = 0.55;
  pen.lineWidth = 2;
  for (let k = 0; k < GRID * GRID; k++) {
    const [column, row] = [k % GRID, Math.floor(k / GRID)];
    const x = 100 * gap * (column - (GRID - 1) / 2);
    const y = 100 * gap * (row - (GRID - 1) / 2);
    let [dx, dy] = [field[from + 2 * k], field[from + 2 * k + 1]];
    const length = Math.hypot(dx, dy);
    const longest = 85 * gap;
    if (length > longest) { dx *= longest / length; dy *= longest / length; }
    arrow(pen, place(x, side), side - place(y, side), (dx * side) / (200 * PLANE), (-dy * side) / (200 * PLANE));
  }
  pen.globalAlpha = 1;
}

function arrow(pen, x, y, dx, dy) {
  const length = Math.hypot(dx, dy);
  if (length < 2) return;
  const head = Math.min(7, length * 0.5);
  const angle = Math.atan2(dy, dx);
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x + dx, y + dy);
  for (const turn of [2.6, -2.6]) {
    pen.moveTo(x + dx, y + dy);
    pen.lineTo(x + dx + head * Math.cos(angle + turn), y + dy + head * Math.sin(angle + turn));
  }
  pen.stroke();
}

function drawLine(ink, side) {
  ink.fillStyle = colour('--picture');
  for (const [x, y] of drawn) {
    ink.beginPath();
    ink.arc(place(100 * x, side), side - place(100 * y, side), 6, 0, 2 * Math.PI);
    ink.fill();
  }
  if (!nib) return;
  ink.strokeStyle = colour('--accent');
  ink.lineWidth = 3;
  ink.beginPath();
  ink.arc(place(100 * nib.x, side), side - place(100 * nib.y, side), nib.down ? 8 : 14, 0, 2 * Math.PI);
  ink.stroke();
}

// -- gliding -------------------------------------------------------------------------------------------------------
function glide() {
  const target = states()[at];
  cancelAnimationFrame(frame);
  if (!target) { shown = null; drawPlane(); return; }
  if (!shown || shown.length !== target.length || calm.matches) { shown = Float32Array.from(target); drawPlane(); return; }
  const move = () => {
    // Another shape was chosen, or the run plays from its noise.
    if (!shown) return;
    let farthest = 0;
    for (let i = 0; i < shown.length; i++) {
      const gap = target[i] - shown[i];
      shown[i] += gap * 0.3;
      farthest = Math.max(farthest, Math.abs(gap));
    }
    drawPlane();
    if (farthest > 1 && root.isConnected) frame = requestAnimationFrame(move);
  };
  move();
}

// -- the error at each noise level ---------------------------------------------------------------------------------
function mean(values) { return values.reduce((a, b) => a + b, 0) / values.length; }

function drawLoss() {
  const canvas = part('loss');
  const pen = canvas.getContext('2d');
  const { width, height } = canvas;
  pen.clearRect(0, 0, width, height);
  const best = report?.ideal_loss;
  if (!best) return;
  const most = 1.15;
  const y = (value) => height - 4 - (Math.min(value, most) / most) * (height - 8);
  const slot = width / best.length;
  pen.strokeStyle = colour('--edge');
  pen.lineWidth = 2;
  for (const line of [0, 1]) { pen.beginPath(); pen.moveTo(0, y(line)); pen.lineTo(width, y(line)); pen.stroke(); }
  report.loss.forEach((value, i) => {
    if (value === null) return;
    pen.fillStyle = colour('--noise');
    pen.fillRect(i * slot + 8, y(value), slot - 16, y(0) - y(value));
  });
  pen.fillStyle = colour('--ink');
  best.forEach((value, i) => pen.fillRect(i * slot + 3, y(value) - 2, slot - 6, 4));
  const found = report.loss.filter((value) => value !== null);
  canvas.setAttribute('aria-label', found.length
    ? `Error of the predicted noise: ${mean(found).toFixed(2)} on average, best possible ${mean(best).toFixed(2)}` : 'Not trained yet');
}

// -- the timeline ----------------------------------------------------------------------------------------------------
const timeline = new Timeline(part('strip'), {
  visible: () => root.offsetParent,
  go: (slot) => go(slot),
  step: (by) => go(at + by),
  pause: () => stop(),
  toggle: () => (timer ? stop() : play()),
});
const small = document.createElement('canvas');

function thumbnail(places, noise) {
  const side = small.width = small.height = 56;
  const pen = small.getContext('2d');
  pen.fillStyle = colour('--mat');
  pen.fillRect(0, 0, side, side);
  const paint = colour(noise > 0.5 ? '--noise' : '--picture');
  drawDots(pen, side, places, 0.9, () => paint);
  return small.toDataURL();
}

function drawStrip() {
  const all = states();
  const noise = flow()?.noise || [];
  timeline.resize(all.length);
  all.forEach((places, i) => timeline.paint(i, thumbnail(places, noise[i])));
  timeline.curve(part('curve'), noise.map((each, i) => [i, each]), all.length);
  mark();
}

function mark() { timeline.mark(at, states().length ? `${Math.round(100 * noiseAt())}% noise` : ''); }

function go(slot) {
  const last = states().length - 1;
  if (last < 0) return;
  at = Math.min(Math.max(slot, 0), last);
  follows = at === last;
  mark();
  glide();
  where();
}

function play() {
  if (!states().length) return;
  stop();
  if (at >= states().length - 1) { at = -1; shown = null; }
  const gap = Math.max(60, Math.min(260, 3200 / states().length));
  timer = setInterval(() => {
    if (!root.isConnected || at >= states().length - 1) { stop(); return; }
    go(at + 1);
  }, gap);
  act('play').textContent = 'Stop';
}

function stop() { clearInterval(timer); timer = 0; act('play').textContent = 'Play'; }

// -- what comes in ---------------------------------------------------------------------------------------------------
function number(run) { return Number(String(run || '').split('-')[1]) || 0; }

function take(value) {
  if (!value || (value.run && number(value.run) < oldest)) return;
  if (value.run) oldest = number(value.run);
  say('problem', value.problem || '');
  part('problem').hidden = !value.problem;
  if (value.state === 'refused') { tell(); return; }
  const fresh = !report || report.run !== value.run;
  report = { shape: fresh ? shape : report.shape, ...(fresh ? {} : report), ...value };
  if (fresh) { shown = null; follows = true; }
  classes(report.classes || []);
  const last = states().length - 1;
  if (follows || at > last) at = Math.max(last, 0);
  drawLoss();
  drawStrip();
  glide();
  tell();
  state.attempt();
  clearTimeout(waits);
  if (report.state === 'training' || report.state === 'waiting') {
    waits = setTimeout(() => say('progress', 'Waits for its turn: pictures go first'), WAITS_MS);
  }
}

function say(name, text) { if (part(name).textContent !== text) part(name).textContent = text; }

function far(value) { return typeof value === 'number' ? value.toFixed(2) : 'far off'; }

function tell() {
  const state = report?.state || 'empty';
  root.dataset.state = state;
  const runs = state === 'training' || state === 'waiting';
  act('train').textContent = report ? 'Train again' : 'Train';
  act('train').disabled = runs;
  act('pause').hidden = !runs;
  act('on').hidden = state !== 'paused';
  for (const name of ['play', 'again']) act(name).disabled = !states().length;
  part('hint').hidden = Boolean(report?.dots) || drawn.length > 0 || Boolean(nib);
  part('hint').textContent = shape === 'drawn' ? 'Draw a line here with mouse, finger or arrow keys, and press Train.' : 'Choose a shape and press Train.';
  if (!report) { say('progress', ''); say('verdict', ''); return; }
  const words = { waiting: 'Begins', training: 'Learns', paused: 'Paused', done: 'Learned', limit: 'Ended' }[state] || '';
  say('progress', report.steps ? `${words}: step ${report.step} of ${report.steps}, ${report.seconds.toFixed(1)} s` : words);
  const [learned, best] = [report.flow?.far, report.ideal?.far];
  say('verdict', report.flow ? `Distance of the dots from the shape: learned ${far(learned)}, best possible ${far(best)}.` : '');
}

function classes(names) {
  const choice = part('label');
  const wanted = ['both', ...names];
  for (const name of ['label', 'guidance']) part(`${name}-label`).hidden = !names.length;
  if ([...choice.options].map((option) => option.textContent).join() === wanted.join()) return;
  choice.replaceChildren(...wanted.map((name, i) => new Option(name, i)));
}

// -- what the user does ------------------------------------------------------------------------------------------------
function choose(name) {
  shape = name;
  nib = null;
  for (const button of root.querySelectorAll('[data-shape]')) button.setAttribute('aria-pressed', button.dataset.shape === name);
  part('letter-label').hidden = name !== 'letter';
  const canvas = part('plane');
  canvas.style.touchAction = name === 'drawn' ? 'none' : '';
  // A picture that can be looked at, or a sheet that the keys draw on.
  canvas.tabIndex = name === 'drawn' ? 0 : -1;
  canvas.setAttribute('role', name === 'drawn' ? 'application' : 'img');
  canvas.setAttribute('aria-label', name === 'drawn' ? 'Sheet to draw on: arrow keys move the pen, Space puts it down or lifts it' : 'Dots in the plane');
  forget();
  drawn = [];
  timeline.resize(0);
  timeline.curve(part('curve'), [], 1);
  drawLoss();
  drawPlane();
  tell();
  where();
}

function forget() {
  if (report?.run) { trigger('pause', { run: report.run }); oldest = number(report.run) + 1; }
  report = null;
  shown = null;
}

function sampling() {
  return {
    run: report.run, scheduler: part('scheduler').value, sampling_steps: Number(part('count').value),
    label: Number(part('label').value), guidance: Number(part('guidance').value), seed,
  };
}

function sample() { if (report?.run) trigger('sample', sampling()); }

function share(value, from, size) { return Math.min(Math.max((value - from) / size, 0), 1); }

// The line goes on to a place, with places in between.
function lineTo(x, y, begins) {
  const [fromX, fromY] = begins || !drawn.length ? [x, y] : drawn.at(-1);
  const gap = Math.hypot(x - fromX, y - fromY);
  if (!begins && drawn.length && gap < GAP / 2) return;
  const parts = Math.max(1, Math.round(gap / GAP));
  for (let i = 1; i <= parts && drawn.length < MOST_DRAWN; i++) {
    drawn.push([fromX + ((x - fromX) * i) / parts, fromY + ((y - fromY) * i) / parts].map((one) => Math.round(100 * one) / 100));
  }
  drawPlane();
  tell();
}

function pencil(event, begins = false) {
  const box = part('plane').getBoundingClientRect();
  for (const each of event.getCoalescedEvents?.().length ? event.getCoalescedEvents() : [event]) {
    lineTo((2 * share(each.clientX, box.left, box.width) - 1) * PLANE, (1 - 2 * share(each.clientY, box.top, box.height)) * PLANE, begins);
    begins = false;
  }
}

// A drawing begins on an empty sheet.
function clearSheet() { if (report?.dots) { forget(); drawn = []; } }

function penKeys(event) {
  if (shape !== 'drawn' || event.ctrlKey || event.metaKey || event.altKey) return;
  const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] }[event.key];
  if (!by && event.key !== ' ' && event.key !== 'Backspace') return;
  event.preventDefault();
  event.stopPropagation();
  clearSheet();
  nib ||= { x: 0, y: 0, down: false };
  if (event.key === ' ') { nib.down = !nib.down; if (nib.down) lineTo(nib.x, nib.y, true); }
  else if (by) {
    const [x, y] = [nib.x + 0.18 * by[0], nib.y + 0.18 * by[1]].map((one) => Math.min(Math.max(one, -PLANE), PLANE));
    nib = { ...nib, x, y };
    if (nib.down) lineTo(x, y);
  } else drawn = [];
  drawPlane();
  tell();
}

// What the address says: the shape, who predicts, the sampler with its steps, and the step on view.
function where() {
  const named = shape === 'letter' ? `letter-${part('letter').value}` : shape;
  state.tell(named, who, part('scheduler').value, part('count').value, ...(states().length && !follows ? [at + 1] : []));
}

function has(name, value) { return [...part(name).options].some((option) => option.value === value); }

const state = chapterState('dots', ([named, asked, scheduler, count, step]) => {
  const [name, letter] = named.split('-');
  if (![...root.querySelectorAll('[data-shape]')].some((button) => button.dataset.shape === name)) return true;
  if (letter && has('letter', letter)) part('letter').value = letter;
  if (scheduler && has('scheduler', scheduler)) part('scheduler').value = scheduler;
  if (count && has('count', count)) part('count').value = count;
  if (name !== shape || letter) choose(name);
  if (['learned', 'ideal'].includes(asked)) predict(asked);
  if (!step) return true;
  if (!states().length) return false;
  go(Number(step) - 1 || 0);
  return true;
});

function predict(name) {
  who = name;
  for (const each of root.querySelectorAll('[data-who]')) each.setAttribute('aria-pressed', each.dataset.who === who);
  if (!report?.dots) { where(); return; }
  drawStrip();
  go(follows ? states().length - 1 : at);
}

for (const button of root.querySelectorAll('[data-shape]')) button.addEventListener('click', () => { state.drop(); choose(button.dataset.shape); });
for (const button of root.querySelectorAll('[data-who]')) button.addEventListener('click', () => predict(button.dataset.who));
for (const name of ['scheduler', 'count', 'label', 'guidance']) part(name).addEventListener('change', () => { sample(); where(); });
part('letter').addEventListener('change', () => choose('letter'));
act('again').addEventListener('click', () => { seed = (seed + 1) % 1000; sample(); });
act('play').addEventListener('click', () => (timer ? stop() : play()));
act('pause').addEventListener('click', () => { if (report?.run) trigger('pause', { run: report.run }); });
act('on').addEventListener('click', () => { if (report?.run) trigger('resume', { run: report.run }); });
act('train').addEventListener('click', () => {
  trigger('train', { shape, letter: part('letter').value, drawn, learning_rate: Number(part('rate').value), steps: Number(part('steps').value) });
});
const plane = part('plane');
plane.addEventListener('pointerdown', (event) => {
  if (shape !== 'drawn') return;
  clearSheet();
  drawing = true;
  nib = null;
  plane.setPointerCapture(event.pointerId);
  pencil(event, true);
});
plane.addEventListener('pointermove', (event) => { if (drawing) pencil(event); });
plane.addEventListener('keydown', penKeys);
for (const end of ['pointerup', 'pointercancel']) plane.addEventListener(end, () => { drawing = false; drawPlane(); });
// The page's light and dark sides have other colours.
const sides = new MutationObserver(() => {
  if (!root.isConnected) { sides.disconnect(); return; }
  drawLoss();
  drawStrip();
  drawPlane();
});
sides.observe(document.body, { attributes: true, attributeFilter: ['class'] });

watch('value', () => take(props.value));
take(props.value);
tell();
