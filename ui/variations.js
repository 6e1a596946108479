// The strip of a blend: its pictures in order.  Playing shows them one after the other on the stage, there and back.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.blend');
const strip = part('strip');
const savers = [...element.querySelectorAll('[data-kind]')];
let blend = blank('');
let timer = null;
let waiting = null;
let count = 0;

function blank(run) { return { run, about: '', pictures: [], labels: [], at: -1, way: 1 }; }

function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

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

// The film listens: what is chosen here is shown on its stage.
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
  // Not the film's keys while the strip has the focus.
  event.preventDefault();
  pause();
  show(Math.min(Math.max(moves[event.key], 0), blend.pictures.length - 1));
  strip.children[blend.at].focus();
}

function fail(text) {
  part('problem').textContent = text;
  part('problem').hidden = !text;
}

function ask(button) {
  count += 1;
  waiting = `${Date.now()}-${count}`;
  for (const saver of savers) saver.disabled = true;
  fail('');
  part('state').textContent = `${button.textContent}: making the file`;
  trigger('export', { run: blend.run, kind: button.dataset.kind, ask: waiting });
}

function keep(value) {
  const item = document.createElement('li');
  const link = document.createElement('a');
  link.href = value.file.url;
  link.download = value.name;
  link.textContent = value.name;
  item.append(link, document.createTextNode(` ${size(value.bytes)}`));
  part('files').prepend(item);
  link.click();
  part('state').textContent = 'Saved. The link below fetches it once more';
}

function answer(value) {
  waiting = null;
  for (const saver of savers) saver.disabled = false;
  part('state').textContent = '';
  if (value.problem) fail(value.problem); else keep(value);
}

function begin(run) {
  pause();
  blend = blank(run);
  waiting = null;
  for (const saver of savers) saver.disabled = false;
  for (const name of ['words', 'state']) part(name).textContent = '';
  part('files').replaceChildren();
  fail('');
}

function take(value) {
  if (!value) return;
  if (value.ask) { if (value.ask === waiting) answer(value); return; }
  if (value.run !== blend.run) begin(value.run);
  const fresh = value.pictures.length !== blend.pictures.length;
  for (const name of ['about', 'pictures', 'labels', 'each', 'ends']) blend[name] = value[name];
  if (fresh) build();
  part('about').textContent = blend.about;
  part('body').hidden = blend.pictures.length < 2;
  root.hidden = !blend.about;
  // Kept for those who watch from outside (tests, styles).
  root.dataset.run = blend.run;
  root.dataset.count = blend.pictures.length;
}

part('play').addEventListener('click', () => { if (timer) pause(); else play(); });
strip.addEventListener('keydown', step);
for (const saver of savers) saver.addEventListener('click', () => ask(saver));
watch('value', () => take(props.value));
take(props.value);
