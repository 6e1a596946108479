// The list of models.  Unchanged rows stay in place, so that nothing loses the focus while it is polled.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
// What the program does until it answers, by action; a hub that does not answer takes long.
const WAITS = { fetch: 'Asking the hub how large it is', load: 'Checking the memory', delete: 'Looking for its files', yes: 'Starting' };
const rows = new Map();
let asked = null;
// The action that has not been answered yet: { model, do, since }.
let waiting = null;
let counter = 0;
let picked = null;
let timer = 0;

function make(tag, values = {}, ...children) {
  const node = Object.assign(document.createElement(tag), values);
  node.append(...children.filter((child) => child !== null && child !== ''));
  return node;
}

function button(label, name, onclick, extra = '') {
  const node = make('button', { type: 'button', className: `quiet ${extra}`, textContent: label, onclick });
  node.dataset.do = name;
  return node;
}

function act(model, name, sure = false) {
  asked = null;
  waiting = { model, do: sure ? 'yes' : name, since: performance.now() };
  trigger('act', { model, do: name, sure });
  clearInterval(counter);
  counter = setInterval(count, 300);
}

// Says after a moment what is waited for, and counts the seconds.
function count() {
  if (!waiting) { clearInterval(counter); return; }
  const seconds = Math.floor((performance.now() - waiting.since) / 1000);
  const line = rows.get(waiting.model)?.node.querySelector('[data-part="waits"]');
  if (!line) return;
  line.hidden = false;
  const slow = waiting.do === 'fetch' && seconds >= 3 ? ' The hub has not answered yet; if this computer is offline, it gives up within half a minute.' : '';
  line.textContent = `${WAITS[waiting.do] || 'Waiting for the program'}${seconds ? `, ${seconds} s` : ''}.${slow}`;
}

// The model in use: the one that was chosen here last, or that of the first form; its name stands below Generate.
function chosen() {
  const names = [...document.querySelectorAll('.in-sight [data-pill="model"]')].map((pill) => pill.textContent);
  return names.includes(picked) ? picked : names[0] || '';
}

function use(row, more = {}) {
  picked = row.name;
  trigger('use', { model: row.id, ...more });
}

function question(row) {
  if (!asked || asked.model !== row.id) return null;
  const box = make('div', { className: 'question', role: 'alert' }, ...asked.sentences.map((text) => make('p', { textContent: text })));
  const keys = make('div', { className: 'keys-row' });
  if (asked.yes) keys.append(button(asked.yes, 'yes', () => act(row.id, asked.do, true), 'main'));
  keys.append(button(asked.yes ? 'Not now' : 'Close', 'no', () => { asked = null; draw(); }));
  box.append(keys);
  return box;
}

function progress(row) {
  if (!row.progress) return null;
  const bar = make('progress', { max: 100 });
  bar.setAttribute('aria-label', row.name);
  return make('div', { className: 'going' }, bar, make('p', { role: 'status' }));
}

function predicts(row) {
  if (!row.predicts.length) return null;
  const select = make('select', { onchange: () => act(row.id, select.value) },
    ...row.predicts.map(([value, label, selected]) => make('option', { value, textContent: label, selected })));
  select.dataset.do = 'predicts';
  return make('label', { className: 'facts' }, 'Predicts ', select);
}

function build(row) {
  const buttons = row.buttons.map(([name, label]) => button(label, name, () => act(row.id, name)));
  if (row.usable && !row.chosen) buttons.unshift(button('Use', 'use', () => use(row), 'main'));
  const about = make('p', { className: 'facts' }, [...row.facts, `Licence: ${row.licence}`].join(' · '), row.link ? ' · ' : '');
  if (row.link) about.append(make('a', { href: row.link, target: '_blank', rel: 'noopener noreferrer', textContent: 'Model page' }));
  const tries = row.prompts.map((text, example) =>
    make('button', { type: 'button', className: 'chip', textContent: text, onclick: () => use(row, { example }) }));
  const title = make('div', { className: 'top' }, make('h3', { textContent: row.name }));
  if (row.chosen) title.append(make('b', { className: 'badge in-use', textContent: 'In use' }));
  title.append(make('span', { className: 'where', textContent: row.where }));
  const waits = make('p', { className: 'waits', hidden: true });
  waits.dataset.part = 'waits';
  waits.setAttribute('role', 'status');
  return make('li', {},
    title,
    make('div', { className: 'keys-row' }, ...buttons),
    make('p', { className: 'about', textContent: row.about }),
    about,
    predicts(row),
    tries.length ? make('div', { className: 'tries' }, make('span', { textContent: 'Try' }), ...tries) : null,
    waits,
    progress(row),
    row.problem ? make('p', { className: 'sentence problem', role: 'alert', textContent: row.problem }) : null,
    question(row));
}

function going(node, row) {
  const bar = node.querySelector('progress');
  if (!bar) return;
  if (row.share === null) bar.removeAttribute('value');
  else bar.value = row.share;
  const text = node.querySelector('.going p');
  if (text.textContent !== row.progress) text.textContent = row.progress;
}

function drawRow(row) {
  const seen = JSON.stringify([{ ...row, share: 0, progress: !!row.progress, where: row.progress ? '' : row.where },
    asked && asked.model === row.id ? asked : null]);
  let known = rows.get(row.id);
  if (!known || known.seen !== seen) {
    const node = build(row);
    const focus = known && known.node.contains(document.activeElement) && document.activeElement.dataset.do;
    if (known) known.node.replaceWith(node);
    known = { seen, node };
    rows.set(row.id, known);
    if (focus) queueMicrotask(() => (node.querySelector(`[data-do="${focus}"]`) || node.querySelector('button'))?.focus());
  }
  going(known.node, row);
  return known.node;
}

function draw() {
  const value = props.value;
  if (!value) return;
  part('note').hidden = !value.note;
  part('note').textContent = value.note;
  for (const id of rows.keys()) if (!value.rows.some((row) => row.id === id)) rows.delete(id);
  const used = chosen();
  const all = value.rows.map((row) => ({ ...row, chosen: row.usable && row.name === used }));
  all.sort((one, other) => other.chosen - one.chosen);
  const groups = value.groups.map(([name, title, about]) => {
    const mine = all.filter((row) => row.group === name);
    if (!mine.length) return null;
    const old = part('groups').querySelector(`section[data-group="${name}"]`);
    const group = old || make('section', {}, make('h2', { textContent: title }), about ? make('p', { className: 'help', textContent: about }) : '', make('ul'));
    group.dataset.group = name;
    const nodes = mine.map(drawRow);
    const list = group.querySelector('ul');
    if (nodes.length !== list.children.length || nodes.some((node, k) => list.children[k] !== node)) list.replaceChildren(...nodes);
    return group;
  }).filter(Boolean);
  const place = part('groups');
  if (groups.length !== place.children.length || groups.some((node, k) => place.children[k] !== node)) place.replaceChildren(...groups);
}

function renew() {
  const value = props.value;
  if (value && value.ask !== undefined) {
    waiting = null;
    for (const { node } of rows.values()) node.querySelector('[data-part="waits"]').hidden = true;
  }
  if (value && value.ask !== undefined) asked = value.ask && value.ask.sentences ? value.ask : null;
  draw();
  if (value && value.look) rows.get(value.look)?.node.scrollIntoView({ block: 'center' });
  if (asked) rows.get(asked.model)?.node.querySelector('.question button')?.focus();
  again();
}

function again() {
  clearTimeout(timer);
  timer = setTimeout(() => {
    if (!element.isConnected) return;
    if (element.offsetParent !== null && !document.hidden) trigger('tick', {});
    again();
  }, props.value && props.value.busy ? 700 : 4000);
}

watch('value', renew);
renew();
