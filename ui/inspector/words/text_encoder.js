// Pictures after each layer of the text encoder, and without each word; drawn when the button is pressed.
const root = element.querySelector('.text-lens');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
let sheet = null;
let counted = '';
let stopped = '';

function cell({ title, image }) {
  const figure = document.createElement('figure');
  const well = document.createElement('div');
  well.className = 'well';
  const picture = document.createElement('img');
  picture.src = image;
  picture.alt = `The picture ${title}`;
  const caption = document.createElement('figcaption');
  caption.textContent = title;
  well.append(picture);
  figure.append(well, caption);
  return figure;
}

function row(name, cells) {
  const there = part(name);
  if (there.children.length > cells.length || !cells.length) there.replaceChildren();
  there.append(...cells.slice(there.children.length).map(cell));
  part(`${name}-title`).hidden = there.hidden = !cells.length;
}

function draw() {
  const state = sheet?.state || 'empty';
  root.dataset.state = state;
  part('text').textContent = state === 'empty' ? 'Open a run to look into its text encoder.' : sheet.text || '';
  part('asking').hidden = !['closed', 'busy', 'failed'].includes(state);
  part('ask').hidden = state === 'busy';
  part('ask').textContent = state === 'failed' ? 'Try again' : 'Draw them';
  part('quit').hidden = state !== 'busy';
  part('foretold').textContent = state === 'closed' ? sheet.foretold : '';
  const [layers, words] = [sheet?.layers || [], sheet?.words || []];
  part('body').hidden = !layers.length && !words.length;
  row('layers', layers);
  row('words', words);
}

function take(value) {
  if (value && value.run === stopped && value.state === 'busy') return;
  // An answer about a run that is no longer open.
  if (value?.answer && sheet && value.run !== sheet.run) return;
  if (value?.run !== sheet?.run || value?.state === 'closed') { part('layers').replaceChildren(); part('words').replaceChildren(); }
  // What was counted late says nothing about pictures that are drawn.
  if (value && sheet && value.run === sheet.run && value.state === 'closed' && ['busy', 'ready'].includes(sheet.state)) return;
  sheet = value;
  draw();
  count();
}

// How many layers there are is known only to the model: asked when the panel is seen, where that is quick.
function count() {
  if (!sheet || sheet.state !== 'closed' || !sheet.quick || counted === sheet.run || !root.offsetParent) return;
  counted = sheet.run;
  trigger('count', {});
}

part('ask').addEventListener('click', () => { stopped = ''; trigger('drawn', {}); });
part('quit').addEventListener('click', () => {
  trigger('quit', {});
  stopped = sheet.run;
  sheet = { ...sheet, state: 'failed', text: 'Stopped.' };
  draw();
});
new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) count(); }).observe(root);
watch('value', () => take(props.value));
take(props.value);
