// The crop frame lies over the thumbnail, as large as the part that is used.  It moves at once; the server hears where
// it came to rest.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const [area, frame] = [part('area'), part('frame')];
const host = element.closest('#source-frame');
const REST_MS = 350;
const KEY_STEP = 0.05;
let value = null;
let at = [0.5, 0.5];
let free = [0, 0];
let axis = 0;
let drag = null;
let resting = null;
// Where the frame was moved on each image, kept over a reload: [id of the image, x, y], the latest last.
const KEPT = 'playground-crops';
const MOST = 24;
// The image that the frame was last placed on.
let placed = '';

function places() {
  try {
    const found = JSON.parse(sessionStorage.getItem(KEPT) || '[]');
    return Array.isArray(found) ? found : [];
  } catch { return []; }
}

function keep() {
  const others = places().filter(([id]) => id !== value.original);
  try { sessionStorage.setItem(KEPT, JSON.stringify([...others, [value.original, ...at]].slice(-MOST))); } catch { /* full: nothing is kept */ }
}

// On an image that comes back, the frame goes where it was.
function recall() {
  if (!value) placed = '';
  if (!value || value.original === placed) return;
  placed = value.original;
  const [, x, y] = places().find(([id]) => id === value.original) || [];
  if (!(x >= 0 && x <= 1 && y >= 0 && y <= 1)) return;
  at = [x, y];
  rest();
}

const image = () => host.querySelector('#source img');

function crc32(text) {
  let crc = ~0;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return (~crc >>> 0).toString(16).padStart(8, '0');
}

// Whether the value is about this thumbnail; either of them may come first.
function belongs(picture) {
  const file = /\/file=(.*)$/.exec(picture.src);
  return Boolean(file) && crc32(decodeURIComponent(file[1])) === value.image;
}

function put(target, [left, top, width, height]) {
  Object.assign(target.style, { left: `${left}px`, top: `${top}px`, width: `${width}px`, height: `${height}px` });
}

function place() {
  const picture = image();
  area.hidden = !value?.shown || !picture?.naturalWidth || !belongs(picture);
  if (area.hidden) return;
  const [box, around] = [picture.getBoundingClientRect(), host.getBoundingClientRect()];
  const scale = Math.min(box.width / picture.naturalWidth, box.height / picture.naturalHeight);
  const [width, height] = [picture.naturalWidth * scale, picture.naturalHeight * scale];
  const shape = value.size[0] / value.size[1];
  const across = Math.min(width, height * shape);
  free = [width - across, height - across / shape];
  axis = free[0] >= free[1] ? 0 : 1;
  area.hidden = Math.max(...free) < 3;
  put(area, [box.left - around.left + (box.width - width) / 2, box.top - around.top + (box.height - height) / 2, width, height]);
  put(frame, [free[0] * at[0], free[1] * at[1], across, across / shape]);
  frame.setAttribute('aria-orientation', axis ? 'vertical' : 'horizontal');
  frame.setAttribute('aria-valuenow', Math.round(100 * at[axis]));
  frame.dataset.axis = axis ? 'y' : 'x';
}

function move(to) {
  at[axis] = Math.min(Math.max(to, 0), 1);
  place();
}

function rest() {
  clearTimeout(resting);
  if (value && at[0] === value.x && at[1] === value.y) return;
  keep();
  document.dispatchEvent(new CustomEvent('playground:updating'));
  trigger('move', { x: at[0], y: at[1] });
}

frame.addEventListener('pointerdown', (event) => {
  if (event.button) return;
  frame.setPointerCapture(event.pointerId);
  drag = { from: [event.clientX, event.clientY][axis], at: at[axis] };
});
frame.addEventListener('pointermove', (event) => {
  if (drag && free[axis]) move(drag.at + ([event.clientX, event.clientY][axis] - drag.from) / free[axis]);
});
for (const end of ['pointerup', 'pointercancel']) frame.addEventListener(end, () => { if (drag) { drag = null; rest(); } });
frame.addEventListener('keydown', (event) => {
  const moves = { ArrowLeft: -KEY_STEP, ArrowUp: -KEY_STEP, ArrowRight: KEY_STEP, ArrowDown: KEY_STEP };
  const ends = { Home: 0, End: 1 };
  if (event.key in moves) move(at[axis] + moves[event.key]);
  else if (event.key in ends) move(ends[event.key]);
  else return;
  event.preventDefault();
  clearTimeout(resting);
  resting = setTimeout(rest, REST_MS);
});

watch('value', () => {
  value = props.value;
  if (value && !drag) at = [value.x, value.y];
  recall();
  place();
});
new MutationObserver(place).observe(host, { subtree: true, childList: true, attributes: true, attributeFilter: ['src'] });
host.addEventListener('load', place, true);
new ResizeObserver(place).observe(host);
