// The strip of a blend: its pictures in order.  Playing shows them on the stage, forwards and backwards.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.blend');
const strip = part('strip');
const saving = new Saving(element, (kind, ask) => trigger('export', { run: blend.run, kind, ask }));
let blend = blank('');
let timer = null;

function blank(run) { return { run, about: '', pictures: [], labels: [], at: -1, way: 1 }; }

function build() {
  strip.replaceChildren(...blend.pictures.map((picture, k) => {
    const slot = document.createElement('button');
    slot.type = 'button';
    slot.setAttribute('aria-label', blend.labels[k]);
    slot.setAttribute('aria-pressed', 'false');
    const image = document.createElement('img');
    image.alt = '';
    image.draggable = false;
    image.src = picture.file.url;
    slot.append(image);
    slot.addEventListener('click', () => { pause(); show(k); });
    return slot;
  }));
}

// The stage listens: the picture chosen here is shown there.
function show(k) {
  blend.at = k;
  [...strip.children].forEach((slot, i) => slot.setAttribute('aria-pressed', i === k));
  part('words').textContent = blend.labels[k];
  document.dispatchEvent(new CustomEvent('playground:picture', { detail: { run: blend.run, picture: k } }));
}

function pause() {
  clearTimeout(timer);
  timer = null;
  part('play').textContent = 'Play the blend';
}

function next() {
  if (!element.isConnected || !root.offsetParent) { pause(); return; }
  const last = blend.pictures.length - 1;
  if (blend.at >= last) blend.way = -1;
  if (blend.at <= 0) blend.way = 1;
  show(blend.at + blend.way);
  wait();
}

function wait() {
  const end = blend.at === 0 || blend.at === blend.pictures.length - 1;
  timer = setTimeout(next, end ? blend.ends : blend.each);
}

function play() {
  part('play').textContent = 'Pause';
  show(Math.max(blend.at, 0));
  wait();
}

function step(event) {
  const moves = { ArrowLeft: blend.at - 1, ArrowRight: blend.at + 1, Home: 0, End: blend.pictures.length - 1 };
  if (!(event.key in moves) || event.ctrlKey || event.metaKey || event.altKey) return;
  // The stage's keys are off while the strip has the focus.
  event.preventDefault();
  pause();
  show(Math.min(Math.max(moves[event.key], 0), blend.pictures.length - 1));
  strip.children[blend.at].focus();
}

function begin(run) {
  pause();
  blend = blank(run);
  part('words').textContent = '';
  saving.wait('');
  saving.clear();
}

function take(value) {
  if (!value) return;
  if (value.ask) { saving.take(value); return; }
  if (value.run !== blend.run) begin(value.run);
  const fresh = value.pictures.length !== blend.pictures.length;
  for (const name of ['about', 'pictures', 'labels', 'each', 'ends']) blend[name] = value[name];
  if (fresh) build();
  part('about').textContent = blend.about;
  part('body').hidden = blend.pictures.length < 2;
  root.hidden = !blend.about;
  // For tests and style sheets.
  root.dataset.run = blend.run;
  root.dataset.count = blend.pictures.length;
}

part('play').addEventListener('click', () => { if (timer) pause(); else play(); });
strip.addEventListener('keydown', step);
watch('value', () => take(props.value));
take(props.value);
