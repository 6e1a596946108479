// What the model understood of the prompt, each word that it has not learned with near ones, and prompts that it can draw.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const box = new PromptBox(element);
const PAUSE = 450;
let timer = null;
let asked = null;

function ask() {
  timer = null;
  const { text } = box;
  asked = text;
  trigger('ask', { text });
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(ask, PAUSE);
}

// "a wizard" becomes "an owl" or "jeans": the article goes with the word.
function articled(before, name) {
  const article = /(?<![\p{L}])(an?)\s+$/iu.exec(before);
  if (!article) return [before.length, name];
  const said = PromptBox.withArticle(name);
  return [article.index, article[1][0] === 'A' ? said[0].toUpperCase() + said.slice(1) : said];
}

function choose(text, { word, at }, name) {
  if (box.text !== text || text.slice(at, at + word.length) !== word) return;
  const [start, said] = articled(text.slice(0, at), name);
  box.put(said, start, at + word.length);
}

function rewrite(text, wanted) {
  if (box.text === text) box.put(wanted, 0, text.length);
}

function make(tag, text, name = '') {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = name;
  return node;
}

// "Understood: dragon, purple background · not learned: wizard · it cannot count"
function sayLine({ understood, notes }) {
  const nodes = [];
  understood.forEach((name, k) => nodes.push(k ? ', ' : 'Understood: ', make('b', name)));
  notes.forEach((note, k) => nodes.push(nodes.length ? ' · ' : '', k || understood.length ? note : note[0].toUpperCase() + note.slice(1)));
  const line = part('line');
  if (line.textContent !== nodes.map((node) => node.textContent ?? node).join('')) line.replaceChildren(...nodes);
}

function row(label, chips) {
  const line = make('p', '');
  line.append(make('span', label), ...chips);
  return line;
}

function draw() {
  const value = props.value;
  if (!value) return;
  if (value.text !== box.text) { later(); return; }
  asked = value.text;
  sayLine(value);
  part('read').textContent = value.read || '';
  const rows = value.swaps.map((swap) => row(swap.misspelt ? `${swap.word}, meant:` : `${swap.word}:`,
    swap.near.map((name) => PromptBox.chip(name, `Put this in place of “${swap.word}”`, () => choose(value.text, swap, name)))));
  if (value.rewrites.length) {
    rows.push(row('Instead:', value.rewrites.map((text) => PromptBox.chip(text, 'Put this in place of the prompt', () => rewrite(value.text, text)))));
  }
  part('instead').replaceChildren(...rows);
  part('instead').hidden = !rows.length;
  const plain = value.understood.length ? '' : 'none';
  part('answer').dataset.says = value.notes.length || rows.length ? 'yes' : plain;
}

watch('value', draw);

// The prompt box is created later, and text that the program writes into it fires no event.
document.addEventListener('input', (event) => { if (event.target === box.field) later(); });
setInterval(() => { if (!timer && element.isConnected && box.field && box.text !== asked) later(); }, 1000);
