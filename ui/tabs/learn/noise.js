// The forward process in the browser: x_t = sqrt(alpha_bar) x_0 + sqrt(1 - alpha_bar) eps on the picture's own colours.
// Ho et al. 2020 (arXiv:2006.11239): beta rises from 0.0001 to 0.02 in 1,000 steps, as in the model that comes with the program.
const root = element.querySelector('.noise-mix');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const act = (name) => root.querySelector(`[data-do="${name}"]`);
const TIMESTEPS = 1000;
const SLOTS = 14;
const LARGEST = 192;
const NOT_READ = "Can't open this file. Use PNG, JPEG or WebP.";
const ALPHA_BAR = [];
for (let i = 0, kept = 1; i < TIMESTEPS; i++) {
  kept *= 1 - (0.0001 + ((0.02 - 0.0001) * i) / (TIMESTEPS - 1));
  ALPHA_BAR.push(kept);
}
let given = null;
let clean = null;
let own = false;
let seed = 1;
let eps = null;
let timer = 0;

// A stream of numbers from a seed (mulberry32), two of them to two normal ones (Box and Muller).
function normals(count, from) {
  let state = from >>> 0;
  const uniform = () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let x = Math.imul(state ^ (state >>> 15), state | 1);
    x ^= x + Math.imul(x ^ (x >>> 7), x | 61);
    return ((x ^ (x >>> 14)) >>> 0) / 4294967296;
  };
  const found = new Float32Array(count);
  for (let i = 0; i < count; i += 2) {
    const far = Math.sqrt(-2 * Math.log(1 - uniform()));
    const angle = 2 * Math.PI * uniform();
    found[i] = far * Math.cos(angle);
    if (i + 1 < count) found[i + 1] = far * Math.sin(angle);
  }
  return found;
}

// t = 0 is the picture itself.
function shares(time) { const kept = time ? ALPHA_BAR[time] : 1; return [Math.sqrt(kept), Math.sqrt(1 - kept)]; }

function paint(canvas, signal, sigma) {
  const { width, height } = clean;
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const pen = canvas.getContext('2d');
  const made = pen.createImageData(width, height);
  for (let i = 0, k = 0; i < made.data.length; i += 4) {
    for (let c = 0; c < 3; c++, k++) made.data[i + c] = 127.5 * (signal * (clean.data[i + c] / 127.5 - 1) + sigma * eps[k] + 1);
    made.data[i + 3] = 255;
  }
  pen.putImageData(made, 0, 0);
}

function t() { return Number(part('range').value); }

function draw() {
  if (!clean) return;
  const [signal, sigma] = shares(t());
  paint(part('mixed'), signal, sigma);
  part('signal').textContent = signal.toFixed(2);
  part('sigma').textContent = sigma.toFixed(2);
  part('t').textContent = t();
  const noise = Math.round(100 * sigma * sigma);
  part('range').setAttribute('aria-valuetext', `t = ${t()}, ${noise}% noise`);
  timeline.mark(Math.round((t() * (SLOTS - 1)) / (TIMESTEPS - 1)), `t = ${t()}, ${noise}% noise`);
}

const timeline = new Timeline(part('strip'), {
  visible: () => root.offsetParent,
  go: (slot) => go(Math.round((slot * (TIMESTEPS - 1)) / (SLOTS - 1))),
  step: (by) => go(t() + 10 * by),
  pause: () => stop(),
  toggle: () => (timer ? stop() : play()),
});
const state = chapterState('noise', ([at]) => {
  if (!clean || !/^\d{1,3}$/.test(at)) return Boolean(clean);
  go(Number(at));
  return true;
});

function go(to) {
  part('range').value = Math.min(Math.max(to, 0), TIMESTEPS - 1);
  draw();
  state.tell(t());
}

// All that changes with the picture or the noise.
function fresh() {
  if (!clean) return;
  eps = normals(clean.width * clean.height * 3, seed);
  paint(part('clean'), 1, 0);
  paint(part('eps'), 0, 1);
  const small = document.createElement('canvas');
  timeline.resize(SLOTS);
  for (let i = 0; i < SLOTS; i++) {
    paint(small, ...shares(Math.round((i * (TIMESTEPS - 1)) / (SLOTS - 1))));
    timeline.paint(i, small.toDataURL('image/jpeg', 0.8));
  }
  root.dataset.state = own ? 'photo' : 'run';
  act('back').hidden = !own;
  draw();
  state.attempt();
}

// The middle square of a picture, no larger than LARGEST.
function read(image, isOwn) {
  const side = Math.min(image.naturalWidth, image.naturalHeight);
  if (!side) return;
  const size = Math.min(side, LARGEST);
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = size;
  const pen = canvas.getContext('2d', { willReadFrequently: true });
  pen.fillStyle = '#fff';
  pen.fillRect(0, 0, size, size);
  pen.imageSmoothingQuality = 'high';
  pen.drawImage(image, (image.naturalWidth - side) / 2, (image.naturalHeight - side) / 2, side, side, 0, 0, size, size);
  clean = pen.getImageData(0, 0, size, size);
  own = isOwn;
  part('about').textContent = own ? 'Your photo stays in this browser: nothing is sent.' : '';
  fresh();
}

function show(source, isOwn) {
  const image = new Image();
  image.addEventListener('load', () => { say(''); read(image, isOwn); });
  image.addEventListener('error', () => say(NOT_READ));
  image.src = source;
}

function say(problem) { part('problem').textContent = problem; part('problem').hidden = !problem; }

function play() {
  stop();
  if (t() >= TIMESTEPS - 1) go(0);
  timer = setInterval(() => {
    if (!root.isConnected || !root.offsetParent || t() >= TIMESTEPS - 1) { stop(); return; }
    go(t() + 10);
  }, 60);
  act('play').textContent = 'Stop';
}

function stop() { clearInterval(timer); timer = 0; act('play').textContent = 'Play'; }

function take(value) {
  if (!value?.picture) { say(value?.problem || ''); return; }
  if (given?.key === value.key) return;
  given = value;
  if (!own) show(value.picture, false);
}

function photo(file) {
  if (!file) return;
  const reader = new FileReader();
  reader.addEventListener('load', () => show(reader.result, true));
  reader.addEventListener('error', () => say(NOT_READ));
  reader.readAsDataURL(file);
}

part('range').addEventListener('input', () => { stop(); draw(); state.tell(t()); });
part('photo').addEventListener('change', () => { photo(part('photo').files[0]); part('photo').value = ''; });
act('back').addEventListener('click', () => { own = false; if (given) show(given.picture, false); });
act('again').addEventListener('click', () => { seed += 1; fresh(); });
act('play').addEventListener('click', () => (timer ? stop() : play()));
root.addEventListener('dragover', (event) => { if (event.dataTransfer?.types.includes('Files')) event.preventDefault(); });
root.addEventListener('drop', (event) => { if (event.dataTransfer?.files.length) { event.preventDefault(); photo(event.dataTransfer.files[0]); } });
watch('value', () => take(props.value));
take(props.value);
