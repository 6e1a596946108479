// Styles: chips of those that are chosen, what is sent, and the dialog with all of them.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const box = new PromptBox(element);
const dialog = element.querySelector('dialog');
const cards = new StyleCards(part('cards'), { toggle, remove });
const MARKS = /\{|\\|__/;
let known = null;
let drawing = false;
let count = 0;
let timer = null;

function field() { return box.form?.querySelector('.chosen-styles :is(textarea, input)'); }

function chosen() {
  try {
    const names = JSON.parse(field()?.value || '[]');
    return Array.isArray(names) ? names.filter((name) => typeof name === 'string') : [];
  } catch { return []; }
}

function choose(names) {
  const host = field();
  if (!host) return;
  host.value = JSON.stringify(names);
  host.dispatchEvent(new Event('input', { bubbles: true }));
  show();
}

function toggle(name) {
  const names = chosen();
  choose(names.includes(name) ? names.filter((one) => one !== name) : [...names, name]);
  sayChosen();
}

function remove(name) {
  choose(chosen().filter((one) => one !== name));
  act('remove', { name });
}

// -- in the form -----------------------------------------------------------------------------------------------------

function chip(name) {
  const button = PromptBox.chip(name, `Take ${name} out`, () => { choose(chosen().filter((one) => one !== name)); part('open').focus(); });
  button.setAttribute('aria-label', `${name}, take it out`);
  button.append(Object.assign(document.createElement('i'), { className: 'cross', textContent: '\u00d7' }));
  return button;
}

function show() {
  const names = chosen();
  part('chosen').replaceChildren(...names.map(chip));
  cards.mark(names);
  offerLook();
}

function sayChosen() {
  const names = chosen();
  if (known && !drawing) say(names.length ? `Chosen: ${names.join(', ')}` : 'None is chosen.');
}

// What is sent is of interest where it differs from what is typed.
function offerLook() {
  const differs = chosen().length > 0 || MARKS.test(box.text);
  part('look').hidden = !differs;
  if (!differs) look(false);
  else if (!part('sent').hidden) askSoon();
}

function look(wanted) {
  part('look').setAttribute('aria-expanded', String(wanted));
  part('sent').hidden = !wanted;
  if (wanted) trigger('look', {});
}

function askSoon() {
  clearTimeout(timer);
  timer = setTimeout(() => { if (element.isConnected && !part('sent').hidden) trigger('look', {}); }, 300);
}

function line(label, text) {
  const row = document.createElement('p');
  const name = Object.assign(document.createElement('b'), { textContent: label });
  row.append(name, ` ${text}`);
  return row;
}

function showSent(value) {
  const rows = value.problem ? [line('Not sent.', value.problem)] : [
    ...value.prompts.map((text, k) => line(value.prompts.length > 1 ? `Prompt ${k + 1}` : 'Prompt', text || '(empty)')),
    ...(value.negative ? [line('Negative', value.negative)] : []),
    ...value.notes.map((text) => Object.assign(document.createElement('p'), { className: 'note', textContent: text })),
  ];
  part('sent').replaceChildren(...rows);
}

// -- the dialog ------------------------------------------------------------------------------------------------------

function say(text, problem = '') {
  part('said').textContent = text;
  part('problem').textContent = problem;
}

function act(what, fields = {}) {
  count += 1;
  trigger('act', { ...fields, do: what, ask: String(count) });
}

function showList(value) {
  known = value;
  cards.show(value.styles, chosen());
  for (const one of element.querySelectorAll('.owner')) one.hidden = !value.owner;
  part('folder').textContent = 'Yours are text files in the folder wildcards of the data folder, one choice a line.';
  part('wildcards').replaceChildren(...value.wildcards.map((name) => PromptBox.chip(`__${name}__`, 'Put it into the prompt', () => {
    box.fill(`${box.text.trimEnd()} __${name}__`.trim());
    say(`__${name}__ is in the prompt.`);
  })));
  offerDrawing();
  find();
  show();
  if (value.note || value.problem) say(value.note || '', value.problem || '');
  else sayChosen();
  if (value.saved) part('name').value = '';
  if (value.file) download(value.file);
}

function offerDrawing() {
  const without = known.styles.filter((style) => !style.picture).length;
  part('drawing').hidden = !known.owner || (!without && !drawing);
  part('undrawn').textContent = `${without === 1 ? 'One style has' : `${without} styles have`} no picture by ${known.model} yet.`;
  part('draw').textContent = drawing ? 'Stop drawing' : 'Draw them';
}

function takePreview(value) {
  if (!known) return;
  if (value.name) cards.picture(value.name, value.picture);
  if (value.note && drawing) say(value.note);
  if (value.done) { drawing = false; sayChosen(); if (value.problem) say('', value.problem); }
  offerDrawing();
}

function download(text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'application/json' }));
  link.download = 'styles.json';
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10000);
}

function find() {
  const found = cards.find(part('query').value);
  part('none').textContent = found || !known ? '' : 'No such style.';
}

async function readFile() {
  const [file] = part('file').files;
  part('file').value = '';
  if (!file) return;
  if (file.size > 2 * 2 ** 20) { say('', 'This file of styles is larger than 2 MB; split it.'); return; }
  act('import', { text: await file.text() });
}

function open() {
  dialog.showModal();
  // The model may have changed since the dialog was last open.
  trigger('fill', {});
  part('query').focus();
}

part('open').addEventListener('click', open);
part('look').addEventListener('click', () => look(part('sent').hidden));
part('query').addEventListener('input', find);
part('save').addEventListener('submit', (event) => { event.preventDefault(); act('save', { name: part('name').value }); });
part('import').addEventListener('click', () => part('file').click());
part('file').addEventListener('change', readFile);
part('export').addEventListener('click', () => act('export'));
part('draw').addEventListener('click', () => {
  drawing = !drawing;
  trigger(drawing ? 'draw' : 'halt', {});
  sayChosen();
  offerDrawing();
});
for (const name of ['close', 'done']) part(name).addEventListener('click', () => dialog.close());
dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener('close', () => part('open').focus());

function take() {
  const { value } = props;
  if (value?.kind === 'list') showList(value);
  else if (value?.kind === 'sent') showSent(value);
  else if (value?.kind === 'previews') takePreview(value);
}

function changed() {
  if (!element.isConnected) { document.removeEventListener('playground:styles', changed); return; }
  setTimeout(show, 50); // once the page has taken the change in
}
document.addEventListener('playground:styles', changed);
watch('value', take);

// The form around it is laid out after this component.
(function listen() {
  if (box.form && field()) { box.form.addEventListener('input', (event) => { if (event.target === box.field) offerLook(); }); show(); }
  else if (element.isConnected || document.readyState !== 'complete') setTimeout(listen, 50);
})();
