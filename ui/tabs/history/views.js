// The views of the tab: all pictures or the bin, one picture, two compared; and what the buttons do.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const button = (name) => element.querySelector(`[data-do="${name}"]`);
const VIEWS = ['browse', 'detail', 'compare'];
const TAB = 'history';
const BIN = 'bin';
const MOST = 500;
// What is being done, where that takes long enough to be named.
const WAITS = {
  page: 'Looking for pictures', count: 'Counting the pictures', choices: 'Reading what there is to filter', entry: 'Opening the picture',
  compare: 'Opening both pictures', recipe: 'Writing the recipe', replay: 'Starting the replay', replayed: 'Comparing with the replay',
  favourite: 'Saving', tags: 'Saving the tags', delete: 'Moving to the bin', restore: 'Restoring', empty: 'Deleting for good',
  disk: 'Measuring the disk', retention: 'Saving', export: 'Preparing the export', import: 'Preparing the import', send: 'Sending it there',
};
const calls = new Calls((fields) => (fields.do === 'send' ? trigger('send', fields) : trigger('ask', fields)), (what) => {
  part('waits').textContent = WAITS[what] ? `${WAITS[what]} \u2026` : '';
  part('waits').hidden = !WAITS[what];
});
const filters = { favourite: false, bin: false };
let cursor = '';
let total = 0;
let more = false;
let loading = false;
let stale = true;
let view = 'browse';
let top = 0;
let undo = null;
let typing = 0;
let isOwner = false;
let shows = 0;

const grid = new Grid(part('scroll'), part('tiles'), {
  open: (id) => show([id]),
  more: loadMore,
  selected: drawSelection,
  favourite: (ids) => favourite(ids),
  remove: (ids) => (filters.bin ? erase(ids) : remove(ids)),
});
const bar = new FilterBar(element, part, filters);
const detail = new Detail(part, {
  open: (id) => show([id]),
  tag: tagOne,
  send,
  ask: (what, fields) => calls.ask(what, fields),
  compare: (ids) => show(ids),
  made: () => { stale = true; },
});
const comparison = new Comparison(part);
const disk = new Disk(part, (what, fields) => calls.ask(what, fields));
const transfers = new Transfers(part, { ask: (what, fields) => calls.ask(what, fields), say, send: (file) => upload(file), imported: () => { reload(); loadChoices(); } });

// -- saying ------------------------------------------------------------------------------------------------------------

function say(text, takeBack = null, label = 'Undo') {
  undo = takeBack;
  button('undo').textContent = label;
  part('said-text').textContent = text;
  part('said').hidden = !text;
  button('undo').hidden = !takeBack;
}

// An answer without a problem; a problem is said, with the button that does the same once more where that may help.
async function ask(what, fields, again, options) {
  const found = await calls.ask(what, fields, options);
  if (found?.problem) sayProblem(found, again);
  return found && !found.problem ? found : null;
}

function sayProblem({ problem, next }, again) {
  say(problem, again && next ? () => { say(''); again(); } : null, next?.label);
}

function plural(count) { return `${count.toLocaleString()} picture${count === 1 ? '' : 's'}`; }

// -- browsing ----------------------------------------------------------------------------------------------------------

async function reload() {
  stale = false;
  const found = await calls.ask('page', { filters: bar.wanted(), cursor: '' }, { latest: true });
  if (found?.problem) sayProblem(found, reload);
  if (!found || found.problem) return;
  cursor = found.cursor;
  total = found.entries.length;
  more = false;
  grid.reset(found.entries, !cursor);
  drawCount(!cursor);
  if (!cursor) return;
  // Counting takes longer than the first page where there are very many.
  const all = await ask('count', { filters: bar.wanted() }, reload, { latest: true });
  if (!all) return;
  ({ total, more } = all);
  drawCount();
}

async function loadMore() {
  if (loading || !cursor) return;
  loading = true;
  const from = cursor;
  const found = await calls.ask('page', { filters: bar.wanted(), cursor });
  loading = false;
  if (found?.problem) { sayProblem(found, loadMore); return; }
  // Another search has begun meanwhile.
  if (!found || from !== cursor) return;
  cursor = found.cursor;
  grid.append(found.entries, !cursor);
}

async function loadChoices() {
  const found = await ask('choices', {}, loadChoices, { latest: true });
  if (!found) return;
  const all = { model: 'Any model', scheduler: 'Any scheduler', size: 'Any size', kind: 'Any kind', tag: 'Any tag', user: 'Made by anyone' };
  for (const select of element.querySelectorAll('[data-filter]')) {
    const name = select.dataset.filter;
    const rows = name === 'user' ? found.users : found.choices[name] || [];
    const before = select.value;
    select.replaceChildren(new Option(all[name], ''), ...rows.map(([value, label, count]) => new Option(`${label} (${count.toLocaleString()})`, value)));
    bar.choose(select, before);
    if (name === 'tag' || name === 'user') select.hidden = select.parentElement.hidden = !rows.length && !before;
  }
  for (const name of ['disk', 'import']) button(name).hidden = !found.owner || filters.bin;
  isOwner = found.owner;
}

// While one types, the address changes in place; each choice is a step for Back.
function filter({ typed = false } = {}) {
  bar.draw();
  announce(filters.bin ? [BIN] : [], typed);
  reload();
}

function clearFilters() {
  bar.read('');
  filter();
}

function drawCount(known = true) {
  const none = !grid.entries.length;
  total = Math.max(total, grid.entries.length);
  if (known) part('count').textContent = none ? '' : `${more ? 'More than ' : ''}${plural(total)}`;
  part('nothing').hidden = !none;
  const narrow = bar.narrow();
  part('nothing').querySelector('button').hidden = !narrow;
  part('nothing-text').textContent = narrow ? 'No picture matches.'
    : filters.bin ? 'The bin is empty. Deleted pictures wait here for 30 days.'
      : 'No pictures yet. Every picture that you make is kept here, with its settings and its timeline.';
  button('empty').hidden = !filters.bin || none || narrow;
  button('select').hidden = none;
  if (none) noise(part('nothing').querySelector('canvas'));
}

// The empty state begins as every picture does.
function noise(canvas) {
  const context = canvas.getContext('2d');
  const pixels = context.createImageData(canvas.width, canvas.height);
  for (let k = 0; k < pixels.data.length; k += 4) {
    pixels.data.set([...[0, 0, 0].map(() => 128 + 110 * (Math.random() + Math.random() + Math.random() - 1.5)), 255], k);
  }
  context.putImageData(pixels, 0, 0);
}

function drawSelection() {
  const count = grid.selected.size;
  const selecting = count > 0 || grid.picking;
  part('chosen').hidden = !selecting;
  part('filters').classList.toggle('covered', selecting);
  part('chosen-count').textContent = `${count.toLocaleString()} selected`;
  button('select').setAttribute('aria-pressed', grid.picking);
  button('compare').disabled = count !== 2;
  button('compare').title = count === 2 ? '' : 'Select two pictures to compare them';
  for (const name of ['favourite', 'export', 'delete', 'restore', 'erase']) button(name).disabled = !count;
  button('compare').hidden = button('favourite').hidden = button('export').hidden = button('delete').hidden = part('tagging').hidden = filters.bin;
  button('restore').hidden = button('erase').hidden = !filters.bin;
}

// -- acting on pictures ------------------------------------------------------------------------------------------------

// Many entries go in several questions; what was done of all.
async function inParts(what, ids, again, fields = {}) {
  const starts = [...Array(Math.ceil(ids.length / MOST)).keys()];
  const found = await Promise.all(starts.map((k) => ask(what, { ...fields, ids: ids.slice(k * MOST, (k + 1) * MOST) }, again)));
  return found.flatMap((one) => one?.done ?? []);
}

async function favourite(ids, on = !ids.every((id) => grid.find(id)?.favourite)) {
  if (!(await inParts('favourite', ids, () => favourite(ids, on), { on })).length) return;
  const focused = part('tiles').contains(document.activeElement);
  grid.change(ids, { favourite: on });
  if (focused) grid.focus(grid.at);
  if (detail.entry && ids.includes(detail.entry.id)) detail.favourite(on);
  say(ids.length > 1 ? `${plural(ids.length)} ${on ? 'marked as favourites' : 'no longer favourites'}.` : '');
}

// The strips of recent pictures show none that is in the bin.
function tellRecent(rows, gone) {
  const pictures = rows.filter((one) => one.run).map(({ run, place }) => ({ run, picture: place }));
  if (pictures.length) document.dispatchEvent(new CustomEvent('playground:binned', { detail: { pictures, gone } }));
}

function rowsOf(ids) { return ids.flatMap((id) => grid.find(id) || (detail.entry?.id === id ? detail.entry : [])); }

async function remove(ids, again = () => remove(ids)) {
  const focused = part('tiles').contains(document.activeElement);
  const done = await inParts('delete', ids, again);
  if (!done.length) return false;
  const rows = rowsOf(done);
  tellRecent(rows, true);
  total -= done.length;
  grid.remove(done);
  drawCount();
  if (focused) grid.focus(grid.at);
  loadChoices();
  say(`${plural(done.length)} moved to the bin.`, () => bringBack(done, rows));
  return true;
}

async function bringBack(ids, rows) {
  const done = await inParts('restore', ids, () => bringBack(ids, rows));
  if (!done.length) return;
  tellRecent(rows, false);
  await Promise.all([reload(), loadChoices()]);
  say(`${plural(done.length)} restored.`);
}

async function restore(ids) {
  const done = await inParts('restore', ids, () => restore(ids));
  if (!done.length) return false;
  tellRecent(rowsOf(done), false);
  total -= done.length;
  grid.remove(done);
  drawCount();
  loadChoices();
  say(`${plural(done.length)} restored.`);
  return true;
}

// Whether the user confirms what cannot be undone.
function sure(text) {
  const dialog = part('sure');
  part('sure-text').textContent = text;
  dialog.returnValue = '';
  dialog.showModal();
  return new Promise((resolve) => { dialog.addEventListener('close', () => resolve(dialog.returnValue === 'yes'), { once: true }); });
}

async function erase(ids) {
  if (await sure(`Delete ${plural(ids.length)} for good? This cannot be undone.`)) eraseNow(ids);
}

async function eraseNow(ids) {
  const done = await inParts('empty', ids, () => eraseNow(ids));
  if (!done.length) return;
  await reload();
  say(`${plural(done.reduce((sum, count) => sum + count, 0))} deleted for good.`);
}

async function emptyBin() {
  if (await sure(`Delete ${plural(total)} for good? This cannot be undone.`)) emptyNow();
}

async function emptyNow() {
  const found = await ask('empty', { all: true }, emptyNow);
  if (!found) return;
  await reload();
  say(`${plural(found.done)} deleted for good.`);
}

async function tagMany() {
  const field = part('tag');
  const ids = [...grid.selected];
  if (!field.value.trim() || !ids.length) return;
  if (!(await inParts('tags', ids, tagMany, { add: [field.value] })).length) return;
  say(`${plural(ids.length)} tagged \u201c${field.value.trim().toLowerCase()}\u201d.`);
  field.value = '';
  loadChoices();
}

async function tagOne(id, add, removed) {
  const found = await ask('tags', { ids: [id], add, remove: removed }, () => tagOne(id, add, removed));
  if (found && detail.entry?.id === id) detail.tags(found.tags);
  loadChoices();
}

async function send(id, to, what) { if (await ask('send', { ids: [id], to, what }, () => send(id, to, what))) say(''); }

// -- views and the address -----------------------------------------------------------------------------------------------

// What the address names after the tab: nothing, "bin", one entry or two.
async function show(parts, { replace = false, announced = false, asked = bar.query() } = {}) {
  const bin = parts[0] === BIN;
  const turn = shows += 1;
  if (bar.read(asked)) stale = true;
  const next = parts.length === 2 ? 'compare' : parts.length === 1 && !bin ? 'detail' : 'browse';
  if (next !== 'browse') {
    const found = await ask(next === 'detail' ? 'entry' : 'compare', { ids: parts }, () => show(parts, { replace, asked }), { latest: true });
    // The user has gone elsewhere meanwhile, as with Forward and Back in a row.
    if (turn !== shows) return;
    if (!found) { if (view !== 'browse') reveal('browse'); announce(filters.bin ? [BIN] : [], true); if (stale) reload(); return; }
    if (next === 'detail') openDetail(found.entry); else comparison.show(found);
  } else if (bin !== filters.bin || stale) enterBin(bin);
  reveal(next);
  if (!announced) announce(parts, replace);
  if (!announced && next !== 'browse' && part('said').hidden === false && !undo) say('');
}

function announce(parts, replace = false) {
  document.dispatchEvent(new CustomEvent('playground:place', { detail: { tab: TAB, parts, replace, query: bar.query() } }));
}

// A box that is hidden forgets how far it was scrolled.
function reveal(next) {
  if (view === 'browse' && next !== 'browse') top = part('scroll').scrollTop;
  const returned = view !== 'browse' && next === 'browse';
  view = next;
  for (const name of VIEWS) part(name).hidden = name !== next;
  if (!returned) return;
  grid.measure();
  part('scroll').scrollTop = top;
  grid.draw();
}

function openDetail(entry) {
  if (grid.places.has(entry.id)) grid.at = grid.places.get(entry.id);
  detail.show(entry);
  button('before').disabled = !grid.neighbour(entry.id, -1);
  button('after').disabled = !grid.neighbour(entry.id, 1);
  button('drop').hidden = entry.deleted;
  button('bring-back').hidden = !entry.deleted;
  part('back-text').textContent = filters.bin ? 'Bin' : 'All pictures';
}

function enterBin(bin) {
  filters.bin = bin;
  for (const name of ['leave-bin', 'empty']) button(name).hidden = !bin;
  for (const name of ['bin', 'filters', 'read']) button(name).hidden = bin;
  for (const name of ['disk', 'import']) button(name).hidden = bin || !isOwner;
  part('bin-title').hidden = !bin;
  part('browse').classList.toggle('in-bin', bin);
  grid.pick(false);
  say('');
  loadChoices();
  return reload();
}

function back() {
  show(filters.bin ? [BIN] : []);
  if (grid.entries.length) grid.focus(grid.at);
}

async function step(by) {
  const next = grid.neighbour(detail.entry.id, by);
  if (next) await show([next], { replace: true });
}

async function drop() {
  const { id } = detail.entry;
  const next = grid.neighbour(id, 1) || grid.neighbour(id, -1);
  if (!await remove([id], drop)) return;
  const [text, again] = [part('said-text').textContent, undo];
  await show(next ? [next] : [], { replace: true });
  say(text, again);
}

async function openDisk() {
  const found = await disk.open();
  if (found.problem) sayProblem(found, openDisk);
}

const actions = {
  filters: () => { const open = part('browse').classList.toggle('unfolded'); button('filters').setAttribute('aria-expanded', open); },
  select: () => grid.pick(!grid.picking),
  bin: () => show([BIN]),
  'leave-bin': () => show([]),
  disk: openDisk,
  read: () => document.dispatchEvent(new CustomEvent('playground:read-picture')),
  import: () => transfers.open(),
  'choose-files': () => part('files').click(),
  export: () => transfers.run('export', { ids: [...grid.selected] }),
  'stop-moving': () => transfers.stop(),
  empty: emptyBin,
  favourites: () => { filters.favourite = !filters.favourite; filter(); },
  clear: clearFilters,
  'clear-selection': () => grid.pick(false),
  compare: () => show(grid.chosen().slice(0, 2)),
  favourite: () => favourite([...grid.selected]),
  delete: () => remove([...grid.selected]),
  restore: () => restore([...grid.selected]),
  erase: () => erase([...grid.selected]),
  undo: () => undo?.(),
  back,
  star: () => favourite([detail.entry.id], !detail.entry.favourite),
  drop,
  'bring-back': async () => { if (await restore([detail.entry.id])) back(); },
  before: () => step(-1),
  after: () => step(1),
};

function keys(event) {
  if (!element.isConnected) { document.removeEventListener('keydown', keys); return; }
  if (!element.offsetParent || view === 'browse' || event.ctrlKey || event.metaKey || event.altKey) return;
  const taken = event.key === 'Escape' ? 'input[type="text"]' : 'input, textarea, select, .branches';
  if (document.querySelector('dialog[open]') || event.target.closest?.(taken)) return;
  const ways = { Escape: back, ...(view === 'detail' && { ArrowLeft: () => step(-1), ArrowRight: () => step(1), f: actions.star, Delete: detail.entry?.deleted ? null : drop }) };
  if (!ways[event.key]) return;
  event.preventDefault();
  ways[event.key]();
}

element.addEventListener('click', (event) => {
  const name = event.target.closest('[data-do]')?.dataset.do;
  if (name) actions[name]?.();
});
part('search').addEventListener('input', () => { clearTimeout(typing); typing = setTimeout(() => filter({ typed: true }), 120); });
part('filters').addEventListener('change', () => filter());
part('tagging').addEventListener('submit', (event) => { event.preventDefault(); tagMany(); });
document.addEventListener('keydown', keys);

// New pictures are looked for when the tab is shown again.
function made() { stale = true; }
function opened(event) {
  if (!element.isConnected) return;
  if (event.detail.tab === TAB) show(event.detail.parts, { announced: true, asked: event.detail.query || '' });
}
document.addEventListener('playground:made', made);
document.addEventListener('playground:open', opened);
new ResizeObserver(() => { if (stale && element.offsetParent && view === 'browse') { reload(); loadChoices(); } }).observe(element);

watch('value', () => calls.take(props.value));
{
  const [place, asked = ''] = location.hash.replace(/^#\/?/, '').split('?');
  const [tab, ...parts] = place.split('/').map(decodeURIComponent);
  if (tab === TAB && (asked || parts.filter(Boolean).length)) { loadChoices(); show(parts.filter(Boolean), { announced: true, asked }); }
}
