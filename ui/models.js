// The list of models.  Rows that did not change stay as they are, so that nothing loses the focus while it is polled.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const GROUPS = [['memory', 'In memory'], ['disk', 'On this machine'], ['away', 'Can be fetched']];
const rows = new Map();
let asked = null;
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
  trigger('act', { model, do: name, sure });
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

function build(row) {
  const buttons = row.buttons.map(([name, label]) => button(label, name, () => act(row.id, name)));
  if (row.usable) buttons.unshift(button('Use it', 'use', () => trigger('use', { model: row.id }), 'main'));
  const about = make('p', { className: 'facts' }, [...row.facts, `Licence: ${row.licence}`].join(' · '), row.link ? ' · ' : '');
  if (row.link) about.append(make('a', { href: row.link, target: '_blank', rel: 'noopener noreferrer', textContent: 'its page' }));
  const tries = row.prompts.map((text, example) =>
    make('button', { type: 'button', className: 'chip', textContent: text, onclick: () => trigger('use', { model: row.id, example }) }));
  return make('li', {},
    make('div', { className: 'top' }, make('h3', { textContent: row.name }), make('span', { className: 'where', textContent: row.where })),
    make('div', { className: 'keys-row' }, ...buttons),
    make('p', { className: 'about', textContent: row.about }),
    about,
    tries.length ? make('div', { className: 'tries' }, make('span', { textContent: 'Try' }), ...tries) : null,
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
  const groups = GROUPS.map(([name, title]) => {
    const mine = value.rows.filter((row) => row.group === name);
    if (!mine.length) return null;
    const old = part('groups').querySelector(`section[data-group="${name}"]`);
    const group = old || make('section', {}, make('h2', { textContent: title }), make('ul'));
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
