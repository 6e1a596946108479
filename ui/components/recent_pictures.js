// The last pictures of this browser, as small copies that it keeps itself; a click opens one with its timeline.
const list = element.querySelector('[data-part="list"]');
const empty = element.querySelector('[data-part="empty"]');
const wait = element.querySelector('[data-part="wait"]');
const desk = () => element.closest('.workspace');
// All tabs of a browser share the strip, whatever else each tab keeps for itself.
const KEY = 'playground-recent';
const MOST = 12;
const SIDE = 128;
const MAKING = 'A picture is being made. Press Stop, or open this one when it is done.';

function stored() {
  try {
    const found = JSON.parse(localStorage.getItem(KEY));
    return Array.isArray(found) ? found.filter((one) => one && typeof one.run === 'string' && String(one.thumbnail).startsWith('data:image/')) : [];
  } catch { return []; }
}

function store(pictures) {
  for (let kept = pictures.slice(0, MOST); kept.length; kept = kept.slice(0, -1)) {
    try { localStorage.setItem(KEY, JSON.stringify(kept)); return; } catch { /* full: keep fewer */ }
  }
}

function draw() {
  const pictures = stored().filter((one) => !one.gone);
  empty.hidden = pictures.length > 0;
  list.replaceChildren(...pictures.map((one) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.title = one.prompt || 'A picture without a prompt';
    button.dataset.run = one.run;
    button.dataset.picture = one.picture;
    const image = document.createElement('img');
    image.src = one.thumbnail;
    image.alt = button.title;
    image.draggable = false;
    button.append(image);
    button.addEventListener('click', () => {
      // The stage belongs to the picture that is being made.
      if (desk()?.dataset.busy === 'yes') { wait.textContent = MAKING; return; }
      const detail = { run: one.run, picture: one.picture };
      document.dispatchEvent(new CustomEvent('playground:picture', { detail }));
      trigger('pick', detail);
    });
    return button;
  }));
  mark();
}

// The picture on this tab's stage, or all those of a grid.
function mark() {
  if (wait.textContent && desk()?.dataset.busy !== 'yes') wait.textContent = '';
  const { run, chosen = '-1' } = desk()?.querySelector('.stage')?.dataset || {};
  for (const button of list.children) {
    button.setAttribute('aria-current', button.dataset.run === run && ['-1', button.dataset.picture].includes(chosen));
  }
}

async function thumbnail(url) {
  const image = new Image();
  image.src = url;
  await image.decode();
  const canvas = document.createElement('canvas');
  canvas.width = canvas.height = SIDE;
  const side = Math.min(image.naturalWidth, image.naturalHeight);
  const [x, y] = [(image.naturalWidth - side) / 2, (image.naturalHeight - side) / 2];
  canvas.getContext('2d').drawImage(image, x, y, side, side, 0, 0, SIDE, SIDE);
  return canvas.toDataURL('image/jpeg', 0.85);
}

async function add({ run, prompt, pictures }) {
  const made = pictures.map((one, k) => thumbnail(one.url).then((small) => ({ run, picture: k, prompt, thumbnail: small })));
  // A picture that is gone already has no small copy.
  const fresh = (await Promise.allSettled(made)).flatMap((one) => (one.status === 'fulfilled' ? [one.value] : []));
  const kept = stored();
  // One that is opened again stays in its place.
  const at = Math.max(kept.findIndex((one) => one.run === run), 0);
  const others = kept.filter((one) => one.run !== run);
  store([...others.slice(0, at), ...fresh, ...others.slice(at)]);
  document.dispatchEvent(new CustomEvent('playground:recent'));
}

// Pictures went into the bin, or came back.
function bin({ pictures, gone }) {
  const kept = stored();
  for (const one of kept) if (pictures.some(({ run, picture }) => run === one.run && picture === one.picture)) one.gone = gone;
  store(kept);
  document.dispatchEvent(new CustomEvent('playground:recent'));
}

// Every strip of the page hears of each run, also of one that ends in a tab that is not on view: one of them keeps it.
const keeps = () => document.querySelector('.recent') === element.querySelector('.recent');
const events = {
  'playground:made': (event) => { if (keeps()) add(event.detail); },
  'playground:binned': (event) => { if (keeps()) bin(event.detail); },
  'playground:recent': draw,
  'playground:shown': mark,
};
function hear(event) {
  if (element.isConnected) { events[event.type](event); return; }
  for (const name of Object.keys(events)) document.removeEventListener(name, hear);
}
for (const name of Object.keys(events)) document.addEventListener(name, hear);
window.addEventListener('storage', (event) => { if (event.key === KEY && element.isConnected) draw(); });
draw();
