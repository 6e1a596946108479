// Strength: the strip of noise levels is the slider.  Every level is here before it is shown: moving asks the server
// nothing.  The slider of the form and the strip follow each other.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.begin');
const desk = element.closest('.desk');
const EMPTY = 'Choose a picture to start from. Here you see how much noise it gets before the model begins.';
const ASK = 'Ask the model what it takes this for, before it has made a step.';
const timeline = new Timeline(part('strip'), {
  visible: () => root.offsetParent,
  go: (slot) => choose(slot),
  step: (by) => choose(slot + by),
  pause: () => {},
  toggle: () => {},
});
let levels = null;
let looks = {};
let slot = 0;

const inputs = () => [...(desk?.querySelectorAll('.strength input') || [])];
const strength = () => Number(inputs()[0]?.value ?? 0.6);
const run = () => (levels ? Math.min(Math.trunc(levels.steps * strength()), levels.steps) : 0);

// The level drawn for a number of steps: itself, or the nearest one where not all are drawn.
function nearest(steps) {
  return levels.runs.reduce((best, value, i) => (Math.abs(value - steps) < Math.abs(levels.runs[best] - steps) ? i : best), 0);
}

// The roundest strength that runs so many steps.
function roundest(steps) {
  for (let i = 0; i <= 100; i++) if (Math.trunc(levels.steps * (i / 100)) === steps) return i / 100;
  return (steps + 0.5) / levels.steps;
}

function choose(to) {
  if (!levels) return;
  slot = Math.min(Math.max(to, 0), levels.runs.length - 1);
  const value = String(roundest(levels.runs[slot]));
  for (const input of inputs()) {
    input.value = value;
    input.dispatchEvent(new Event('input', { bubbles: true }));
  }
  draw();
}

function take(value) {
  if (!value || !value.key) return;
  if (value.look) {
    if (levels && levels.key === value.key) looks[value.look.run ?? 0] = value.look;
  } else if (value.state === 'open') {
    levels = value;
    looks = {};
    timeline.clear();
    timeline.resize(value.runs.length);
    value.frames.forEach((uri, i) => timeline.paint(i, uri));
  } else {
    if (value.state !== 'busy') levels = null;
    root.dataset.state = value.state;
    part('words').textContent = value.text;
    if (levels) return;
  }
  draw();
}

function picture(name, uri, alt) {
  const image = part(name);
  image.hidden = !uri;
  if (uri && image.src !== uri) image.src = uri;
  image.alt = uri ? alt : '';
}

function draw() {
  root.dataset.state = levels ? 'open' : root.dataset.state;
  if (!levels) {
    picture('noisy', '', '');
    picture('look', '', '');
    part('hint').textContent = root.dataset.state === 'empty' ? EMPTY : '';
    part('look-hint').textContent = '';
    part('see').disabled = true;
    part('compare').hidden = true;
    part('about').textContent = '';
    part('mix').textContent = '';
    return;
  }
  const steps = run();
  slot = nearest(steps);
  const words = steps ? `${steps} of ${levels.steps} steps will run` : 'No step will run';
  const look = looks[levels.runs[slot]];
  picture('noisy', levels.frames[slot], `${words}: ${levels.mix[slot]}`);
  picture('look', look?.uri, 'What the model takes the noisy picture for');
  part('hint').textContent = '';
  part('look-hint').textContent = look ? look.text : steps ? ASK : 'Without noise there is nothing to guess.';
  part('mix').textContent = levels.mix[slot];
  part('words').textContent = words;
  part('about').textContent = levels.about[slot];
  part('see').disabled = !steps || Boolean(look?.uri);
  part('compare').hidden = steps < levels.steps;
  root.dataset.run = steps;
  timeline.mark(slot, words);
}

part('see').addEventListener('click', () => {
  part('look-hint').textContent = 'Asking the model';
  trigger('see', { index: levels.runs[slot] });
});
part('compare').addEventListener('click', () => trigger('compare', {}));
function follow(event) {
  if (!element.isConnected) { document.removeEventListener('input', follow, true); return; }
  // Another prompt, another guess.
  if (desk?.contains(event.target) && event.target.closest('.prompt')) looks = {};
  if (event.target.closest?.('.strength, .prompt')) requestAnimationFrame(draw);
}
document.addEventListener('input', follow, true);

watch('value', () => take(props.value));
draw();
take(props.value);
