// The mask editor: the painted part is repainted.  Strokes are kept, so that each can be undone; after
// every change the whole mask goes to the server as one small PNG.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.mask-editor');
const canvas = part('canvas');
const pen = canvas.getContext('2d');
const COLOUR = '#0f766e';
// A run must not start with the mask from before the last stroke: it waits for the server, with a time limit.
const WAIT_MS = 3000;
const KEPT = 'playground-strokes';
const make = () => element.closest('.workspace')?.querySelector('.generate-button');
let waiting = null;
// Changes that the server has not acknowledged yet.
let pending = 0;
const kept = (window.playgroundStrokes ||= stored());
let picture = null;
let strokes = [];
let stroke = null;
let erasing = false;

// What was painted last, over a reload.  Coordinates are whole numbers there, which the eye does not tell apart.
function stored() {
  try {
    const [key, found] = JSON.parse(sessionStorage.getItem(KEPT) || '[]');
    return new Map(Array.isArray(found) ? [[key, found]] : []);
  } catch { return new Map(); }
}

// Another picture takes the place of what was painted only when it is painted on.
function keep() {
  if (!strokes.length && !stored().has(picture?.key)) return;
  const text = JSON.stringify([picture?.key || '', strokes], (name, one) => (typeof one === 'number' ? Math.round(one) : one));
  try { sessionStorage.setItem(KEPT, text); } catch { /* full, or switched off: nothing is kept */ }
}

function take(value) {
  if (!value || !value.key || value.key === picture?.key) return;
  picture = value;
  // Strokes outlive this element, which is rebuilt when its tab is shown again.
  strokes = kept.get(value.key) || [];
  kept.set(value.key, strokes);
  part('picture').src = value.uri;
  [canvas.width, canvas.height] = value.size;
  part('frame').style.aspectRatio = `${value.size[0]} / ${value.size[1]}`;
  changed();
}

function width() { return (Number(part('size').value) / 100) * Math.min(canvas.width, canvas.height); }

function line({ points, size, erase }) {
  pen.globalCompositeOperation = erase ? 'destination-out' : 'source-over';
  pen.strokeStyle = COLOUR;
  pen.lineWidth = size;
  pen.lineCap = pen.lineJoin = 'round';
  pen.beginPath();
  pen.moveTo(...points[0]);
  // A dot is a line of minimal length: one of zero length would not be drawn.
  pen.lineTo(points[0][0] + 0.01, points[0][1]);
  for (const point of points.slice(1)) pen.lineTo(...point);
  pen.stroke();
}

function invert() {
  pen.globalCompositeOperation = 'xor';
  pen.fillStyle = COLOUR;
  pen.fillRect(0, 0, canvas.width, canvas.height);
}

function clear() { pen.clearRect(0, 0, canvas.width, canvas.height); }

function stamp(one) { if (one.invert) invert(); else if (one.clear) clear(); else line(one); }

function draw() {
  pen.globalCompositeOperation = 'source-over';
  clear();
  for (const one of strokes) stamp(one);
  part('undo').disabled = !strokes.length;
  part('clear').disabled = !strokes.length || Boolean(strokes.at(-1).clear);
  for (const [name, on] of [['paint', !erasing], ['erase', erasing]]) part(name).setAttribute('aria-pressed', on);
  root.dataset.strokes = strokes.length;
}

function changed() {
  draw();
  keep();
  pending += 1;
  if (make()) make().disabled = true;
  clearTimeout(waiting);
  waiting = setTimeout(() => told(0), WAIT_MS);
  trigger('mask', { key: picture?.key || '', uri: strokes.length ? canvas.toDataURL('image/png') : '' });
}

function told(left) {
  pending = Math.max(left, 0);
  if (pending) return;
  clearTimeout(waiting);
  if (make()) make().disabled = false;
}

function place(event) {
  const box = canvas.getBoundingClientRect();
  return [((event.clientX - box.x) / box.width) * canvas.width, ((event.clientY - box.y) / box.height) * canvas.height];
}

canvas.addEventListener('pointerdown', (event) => {
  if (!picture || event.button) return;
  canvas.setPointerCapture(event.pointerId);
  stroke = { points: [place(event)], size: width(), erase: erasing };
  strokes.push(stroke);
  draw();
});
canvas.addEventListener('pointermove', (event) => {
  if (!stroke) return;
  for (const each of event.getCoalescedEvents?.() || [event]) stroke.points.push(place(each));
  draw();
});
for (const end of ['pointerup', 'pointercancel']) {
  canvas.addEventListener(end, () => { if (stroke) { stroke = null; changed(); } });
}
part('paint').addEventListener('click', () => { erasing = false; draw(); });
part('erase').addEventListener('click', () => { erasing = true; draw(); });
part('undo').addEventListener('click', () => { strokes.pop(); changed(); });
// What is cleared can be taken back, too.
part('clear').addEventListener('click', () => { strokes.push({ clear: true }); changed(); });
part('invert').addEventListener('click', () => { strokes.push({ invert: true }); changed(); });

function heard() {
  if (element.isConnected) told(pending - 1); else document.removeEventListener('playground:mask', heard);
}
document.addEventListener('playground:mask', heard);

watch('value', () => take(props.value));
draw();
take(props.value);
