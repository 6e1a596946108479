// Settings of a picture that is dropped anywhere on the page but on an upload field, pasted, or chosen by a button.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const dialog = part('dialog');
// As the page's own limit (MAX_FILE_SIZE).
const MOST_BYTES = 20 * 1024 * 1024;
const FIELD = '.upload-container';
const FORM_TABS = ['text-to-image', 'image-to-image'];
let path = '';
let count = 0;
let waiting = null;
// A picture of the page itself is dragged.
let own = false;

// -- questions -----------------------------------------------------------------------------------------------------------

function ask(event, fields) {
  waiting?.resolve(null);
  count += 1;
  const number = `${Date.now()}-${count}`;
  return new Promise((resolve) => { waiting = { number, resolve }; trigger(event, { ...fields, path, ask: number }); });
}

watch('value', () => {
  if (!waiting || props.value?.ask !== waiting.number) return;
  const { resolve } = waiting;
  waiting = null;
  resolve(props.value);
});

// -- showing -------------------------------------------------------------------------------------------------------------

function say(text) { part('said').textContent = text; }

function begin(file) {
  path = '';
  part('name').textContent = file.name || 'Pasted picture';
  part('program').textContent = '';
  for (const name of ['picture', 'table', 'unused-box', 'text-box', 'foot']) part(name).hidden = true;
  say('Reading \u2026');
  if (!dialog.open) dialog.showModal();
}

async function open(file, more = 0) {
  if (document.querySelector('dialog[open]') && !dialog.open) return;
  begin(file);
  if (file.size > MOST_BYTES) { say('This file is larger than 20 MB; choose a smaller one.'); return; }
  const now = {};
  open.latest = now;
  let sent = null;
  try { sent = await upload(file); } catch { /* said below */ }
  // Another file has come meanwhile.
  if (open.latest !== now) return;
  if (!sent?.path) { say('The picture could not be sent; the program may have stopped, or this hour\u2019s uploads are used up.'); return; }
  path = sent.path;
  const found = await ask('look', {});
  if (!found || open.latest !== now) return;
  if (found.problem) { say(found.problem); return; }
  show(found, more);
  follow(found, now, more);
}

// While files are compared by their hashes, what was found appears.
async function follow(answer, now, more) {
  let [found, pause] = [answer, 1000];
  while (found?.reading) {
    const before = pause;
    // oxlint-disable-next-line no-await-in-loop
    await new Promise((resolve) => { setTimeout(resolve, before); });
    if (!dialog.open || open.latest !== now) return;
    pause = Math.min(2 * pause, 15000);
    if (waiting) continue;
    // oxlint-disable-next-line no-await-in-loop
    const next = await ask('look', {});
    if (!dialog.open || open.latest !== now) return;
    if (next?.problem) return;
    if (next) { found = next; compare(found, more); }
  }
}

// The rows again, with what the user has chosen meanwhile.
function compare(found, more) {
  say([found.said, more ? `The first of ${more + 1} files.` : ''].filter(Boolean).join(' '));
  const boxes = new Map([...part('rows').querySelectorAll('input')].map((box) => [box.dataset.take, box]));
  const focused = document.activeElement?.dataset?.take;
  part('rows').replaceChildren(...found.rows.map(row));
  for (const box of part('rows').querySelectorAll('input')) {
    const before = boxes.get(box.dataset.take);
    if (before && !before.disabled) box.checked = before.checked && !box.disabled;
    if (box.dataset.take === focused) box.focus();
  }
}

function show(found, more) {
  part('picture').src = found.picture;
  part('picture').hidden = false;
  const [width, height] = found.size;
  part('program').textContent = [found.program && `Made with ${found.program}`, `${width} \u00d7 ${height}`].filter(Boolean).join(', ');
  say([found.said, more ? `The first of ${more + 1} files.` : ''].filter(Boolean).join(' '));
  part('rows').replaceChildren(...found.rows.map(row));
  part('table').hidden = !found.rows.length;
  part('unused-box').hidden = !found.unused.length;
  part('unused-title').textContent = `Without a counterpart here (${found.unused.length})`;
  part('unused').replaceChildren(...found.unused.flatMap(([name, value]) => [textual('dt', name), textual('dd', value)]));
  part('text-box').hidden = !found.text;
  part('text-box').open = !found.rows.length;
  part('text').textContent = found.text;
  part('source').checked = !found.rows.length;
  const tab = document.querySelector('#tabs > .tab-wrapper button[aria-selected="true"]')?.dataset.tabId;
  part('to').value = FORM_TABS.includes(tab) ? tab : FORM_TABS[0];
  part('foot').hidden = false;
  part('read').scrollTop = 0;
  aim();
}

function textual(name, text) { return Object.assign(document.createElement(name), { textContent: text }); }

function row([name, label, theirs, ours, fits]) {
  const line = document.createElement('tr');
  const head = Object.assign(document.createElement('th'), { scope: 'row' });
  const choice = document.createElement('label');
  const box = Object.assign(document.createElement('input'), { type: 'checkbox', checked: fits, disabled: !fits });
  box.dataset.take = name;
  choice.append(box, label);
  head.append(choice);
  line.classList.toggle('unfit', !fits);
  line.append(head, textual('td', theirs), textual('td', ours));
  return line;
}

// The picture itself is of use in Image to image alone.
function aim() {
  const { checked } = part('source');
  if (checked) part('to').value = 'image-to-image';
  part('to').disabled = checked;
}

async function take() {
  const parts = [...part('rows').querySelectorAll('input:checked')].map((box) => box.dataset.take);
  say('');
  const found = await ask('take', { parts, to: part('to').value, source: part('source').checked });
  if (!found) return;
  if (found.problem) { say(found.problem); part('read').scrollTop = 0; return; }
  dialog.close();
}

// -- how a picture comes ---------------------------------------------------------------------------------------------------

function hasFiles(event) { return !own && [...(event.dataTransfer?.types || [])].includes('Files'); }

function inField(event) { return Boolean(event.target.closest?.(FIELD)); }

function overPage(event) {
  if (!hasFiles(event)) return;
  part('here').hidden = inField(event) || event.defaultPrevented;
  // Otherwise the browser would leave the page for the file.
  if (!event.defaultPrevented) event.preventDefault();
}

function dropped(event) {
  part('here').hidden = true;
  if (!hasFiles(event) || event.defaultPrevented) return;
  event.preventDefault();
  if (!inField(event)) first(event.dataTransfer.files);
}

function first(files) {
  const pictures = [...files].filter((file) => !file.type || file.type.startsWith('image/'));
  if (pictures.length) open(pictures[0], pictures.length - 1);
  else if (files.length) { begin(files[0]); say('Can\'t open this file. Use PNG, JPEG or WebP.'); }
}

const events = {
  dragstart: () => { own = true; },
  dragend: () => { own = false; },
  dragenter: overPage,
  // Out of the window, or onto an upload field, which keeps its events for itself.
  dragleave: ({ relatedTarget }) => { if (!relatedTarget?.closest || relatedTarget.closest(FIELD)) part('here').hidden = true; },
  dragover: overPage,
  drop: dropped,
  paste: (event) => {
    const { files } = event.clipboardData || {};
    if (event.defaultPrevented || !files?.length || event.clipboardData.getData('text') || inField(event)) return;
    event.preventDefault();
    first(files);
  },
  'playground:read-picture': () => part('file').click(),
};
function hear(event) {
  if (element.isConnected) { events[event.type](event); return; }
  for (const name of Object.keys(events)) document.removeEventListener(name, hear);
}
for (const name of Object.keys(events)) document.addEventListener(name, hear);

part('file').addEventListener('change', () => { first(part('file').files); part('file').value = ''; });
part('source').addEventListener('change', aim);
part('take').addEventListener('click', take);
part('close').addEventListener('click', () => dialog.close());
dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener('keydown', (event) => { if (event.key !== 'Escape') event.stopPropagation(); });
