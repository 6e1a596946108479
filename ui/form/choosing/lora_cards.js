// The LoRAs as cards.  Adding one and weighing it changes its tag in the prompt, which stays the only place that counts.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const root = element.querySelector('.lora-cards');
const box = new PromptBox(element);
// From so many on they can be searched.
const MANY = 7;
let shown = '';

function make(tag, className, text = '') {
  return Object.assign(document.createElement(tag), { className, textContent: text });
}

// The preview, or the first letter until there is one.
function face(one) {
  if (one.preview) return Object.assign(make('img', 'face'), { src: one.preview, alt: '' });
  const letter = make('span', 'face', [...one.name][0] || '');
  letter.setAttribute('aria-hidden', 'true');
  return letter;
}

function words(one) {
  const row = make('div', 'words');
  row.append(...one.words.map((word) => PromptBox.chip(word, `Put ${word} into the prompt`, () => say(word))));
  return row;
}

function say(word) {
  if (!box.text.toLowerCase().includes(word.toLowerCase())) box.fill(`${box.text.trimEnd()}${box.text.trim() ? ', ' : ''}${word}`);
}

function weight(one) {
  const label = make('label', 'weight', 'Weight ');
  const slider = Object.assign(document.createElement('input'), { type: 'range', min: 0, max: 2, step: 0.05 });
  slider.setAttribute('aria-label', `Weight of ${one.name}`);
  slider.addEventListener('input', () => box.fill(LoraTags.weigh(box.text, one.name, Number(slider.value))));
  label.append(slider, make('output', ''));
  return label;
}

function cardOf(one) {
  const card = make('article', 'lora');
  card.dataset.name = one.name;
  const about = make('div', 'about');
  about.append(make('b', '', one.name), make('span', 'base', one.base));
  if (one.words.length) about.append(words(one));
  for (const text of [one.problem, one.note]) if (text) about.append(make('span', 'note', text));
  const use = PromptBox.chip('Add', '', () => {
    const text = box.text;
    box.fill(LoraTags.find(text, one.name) ? LoraTags.remove(text, one.name) : LoraTags.add(text, one.name, one.words));
  });
  use.classList.add('use');
  use.disabled = Boolean(one.problem);
  card.append(face(one), about, use, weight(one));
  return card;
}

// What the prompt says of each.
function mark() {
  const { text } = box;
  for (const card of part('list').children) {
    const { name } = card.dataset;
    const tag = LoraTags.find(text, name);
    const [use, row] = [card.querySelector('.use'), card.querySelector('.weight')];
    use.textContent = tag ? 'Take out' : 'Add';
    use.setAttribute('aria-label', `${use.textContent}: ${name}`);
    use.setAttribute('aria-pressed', String(Boolean(tag)));
    row.hidden = !tag;
    if (!tag) continue;
    const slider = row.querySelector('input');
    const known = Number.isFinite(tag.weight);
    if (known && document.activeElement !== slider) slider.value = tag.weight;
    row.querySelector('output').textContent = known ? tag.weight : '?';
  }
}

function find() {
  const wanted = part('query').value.trim().toLowerCase();
  let found = 0;
  (props.value?.cards || []).forEach((one, k) => {
    const fits = `${one.name} ${one.base} ${one.words.join(' ')}`.toLowerCase().includes(wanted);
    part('list').children[k].hidden = !fits;
    found += fits;
  });
  part('none').textContent = found || !wanted ? '' : 'No such LoRA.';
}

function draw() {
  const cards = props.value?.cards || [];
  root.dataset.empty = cards.length ? 'no' : 'yes';
  const now = JSON.stringify(cards);
  if (now !== shown) { part('list').replaceChildren(...cards.map(cardOf)); shown = now; }
  part('query').hidden = cards.length < MANY;
  find();
  mark();
}

part('query').addEventListener('input', find);
document.addEventListener('playground:shown', function said() {
  if (!element.isConnected) document.removeEventListener('playground:shown', said);
  else mark();
});
watch('value', draw);
draw();

// What is in a closed drawer is built when it first opens; each time it opens, files may have come.
const form = element.closest('.workspace');
for (const kind of ['input', 'change']) form.addEventListener(kind, () => requestAnimationFrame(mark));
new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) trigger('fill', {}); }).observe(root);
