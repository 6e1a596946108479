// The builder: a grid of things with their pictures, and the choices that complete the prompt.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const box = new PromptBox(element);
const dialog = element.querySelector('dialog');
// Pixels of a thumbnail as it is shown.
const SHOWN = 48;
const chosen = { things: [], second: false, place: null, size: '', style: '' };
let known = null;
let opener = null;

function make(tag, values = {}, ...children) {
  const node = Object.assign(document.createElement(tag), values);
  node.append(...children);
  return node;
}

function prompt() {
  if (!chosen.things.length) return '';
  const [first, other] = chosen.things;
  const start = known.styles.find(([name]) => name === chosen.style)?.[1] || '';
  const rest = other ? `${known.relation || 'and'} ${PromptBox.withArticle(other)}` : '';
  return [start, PromptBox.withArticle(`${chosen.size} ${first}`.trim()), rest, chosen.place?.phrase].filter(Boolean).join(' ');
}

function say() {
  const text = prompt();
  part('said').textContent = text || 'Choose a thing.';
  for (const name of ['use', 'draw']) part(name).disabled = !text;
}

function press(group, button) {
  for (const each of group.querySelectorAll('button')) each.setAttribute('aria-pressed', String(each === button));
}

// One of several, each a button; the first is chosen.
function choice(label, options, choose) {
  const group = make('div', { className: 'options' });
  group.setAttribute('role', 'group');
  group.setAttribute('aria-label', label);
  options.forEach(({ name, colour, value }) => {
    const button = make('button', { type: 'button', className: 'chip', onclick: () => { choose(value); press(group, button); say(); } });
    if (colour) button.append(make('i', { className: 'swatch', style: `background: ${colour}` }));
    button.append(name);
    group.append(button);
  });
  press(group, group.firstElementChild);
  return make('div', { className: 'choice' }, make('h3', { textContent: label }), group);
}

function capital(name) { return name[0].toUpperCase() + name.slice(1); }

function drawChoices() {
  const rows = [];
  if (known.relation) {
    const second = make('button', { type: 'button', className: 'chip', textContent: `A second thing ${known.relation} it` });
    second.setAttribute('aria-pressed', 'false');
    second.addEventListener('click', () => {
      chosen.second = !chosen.second && chosen.things.length > 0;
      if (!chosen.second) chosen.things = chosen.things.slice(0, 1);
      second.setAttribute('aria-pressed', String(chosen.second));
      mark();
      say();
    });
    rows.push(make('div', { className: 'choice' }, make('h3', { textContent: 'How many' }), make('div', { className: 'options' }, second)));
  }
  if (known.places.length) {
    chosen.place = known.places[Math.floor(Math.random() * known.places.length)];
    const places = known.places.map((place) => ({ name: place.name.replace(/ background$/, ''), colour: place.colour, value: place }));
    const row = choice('Background', places, (place) => { chosen.place = place; });
    press(row, row.querySelectorAll('button')[known.places.indexOf(chosen.place)]);
    rows.push(row);
  }
  if (known.sizes.length) {
    const sizes = [{ name: 'Usual', value: '' }, ...known.sizes.map((name) => ({ name: capital(name), value: name }))];
    rows.push(choice('Size', sizes, (size) => { chosen.size = size; }));
  }
  if (known.styles.length > 1) {
    rows.push(choice('Style', known.styles.map(([name]) => ({ name: capital(name), value: name })), (style) => { chosen.style = style; }));
  }
  part('how').replaceChildren(...rows);
}

function drawThings() {
  const scale = known.tile ? SHOWN / known.tile : 0;
  part('things').style.setProperty('--sheet-size', `${known.columns * known.tile * scale}px auto`);
  part('things').classList.toggle('bare', !known.tile);
  part('things').replaceChildren(...known.things.map(([name], k) => {
    const picture = make('i', { className: 'thumb' });
    picture.style.backgroundPosition = `${-(k % known.columns) * SHOWN}px ${-Math.floor(k / known.columns) * SHOWN}px`;
    const button = make('button', { type: 'button', tabIndex: k ? -1 : 0, onclick: () => take(name, button) }, picture, make('span', { textContent: name }));
    button.setAttribute('aria-pressed', 'false');
    return button;
  }));
}

// The file of pictures as an address that 474 buttons can name.
async function showSheet() {
  if (!known.sheet) return;
  const model = known.model;
  const file = await (await fetch(known.sheet)).blob();
  if (known.model === model) part('things').style.setProperty('--sheet', `url(${URL.createObjectURL(file)})`);
}

function take(name, button) {
  if (chosen.second) chosen.things = [chosen.things[0], name];
  else chosen.things = [name];
  focusThing(button, false);
  mark();
  say();
}

function mark() {
  for (const button of part('things').children) button.setAttribute('aria-pressed', String(chosen.things.includes(button.textContent)));
}

function visible() { return [...part('things').children].filter((button) => !button.hidden); }

function focusThing(button, move = true) {
  for (const each of part('things').children) each.tabIndex = each === button ? 0 : -1;
  if (move) button.focus();
}

function find() {
  const query = part('query').value.trim().toLowerCase();
  known.things.forEach(([name, words], k) => {
    part('things').children[k].hidden = Boolean(query) && ![name, ...words].some((word) => word.toLowerCase().includes(query));
  });
  const found = visible();
  part('none').textContent = found.length ? '' : 'No such thing. Try a more general word, such as animal or food.';
  if (found.length && !found.some((button) => button.tabIndex === 0)) focusThing(found[0], false);
}

// One Tab stop for all things; the arrows move among them.
part('things').addEventListener('keydown', (event) => {
  const all = visible();
  const at = all.indexOf(document.activeElement);
  if (at < 0) return;
  const columns = Math.max(1, all.filter((button) => button.offsetTop === all[0].offsetTop).length);
  const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: all.length - 1 }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  if (all[to]) focusThing(all[to]);
});

function draw() {
  const value = props.value;
  if (!value || value.model === known?.model) return;
  known = value;
  Object.assign(chosen, { things: [], second: false, place: null, size: '', style: value.styles[0]?.[0] || '' });
  part('wait').hidden = true;
  part('made').hidden = false;
  part('about').textContent = value.about;
  part('query').value = '';
  drawThings();
  drawChoices();
  find();
  say();
  showSheet();
  if (dialog.open) part('query').focus();
}

function open() {
  opener = document.activeElement;
  // The model may have changed since the dialog was last open.
  trigger('fill', {});
  dialog.showModal();
  if (known) part('query').focus();
}

function close(act) {
  const text = prompt();
  dialog.close();
  act(text);
}

part('query').addEventListener('input', () => { if (known) find(); });
part('close').addEventListener('click', () => dialog.close());
part('use').addEventListener('click', () => close((text) => box.fill(text)));
part('draw').addEventListener('click', () => close((text) => box.fillAndDraw(text)));
dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
dialog.addEventListener('close', () => opener?.focus());
watch('value', draw);
draw();
say();

// The form around it is laid out after this component.
(function listen() {
  if (box.form) box.form.addEventListener('playground:build', open);
  else if (element.isConnected || document.readyState !== 'complete') setTimeout(listen, 50);
})();
