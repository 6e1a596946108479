// Tells which word the model has not learned, and puts a nearer one in its place.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const PAUSE = 450;
let timer = null;
let asked = null;

const box = () => (element.closest('.desk') || document).querySelector('.prompt textarea');

function ask() {
  timer = null;
  const text = box()?.value ?? '';
  asked = text;
  trigger('ask', { text });
}

function later() {
  clearTimeout(timer);
  timer = setTimeout(ask, PAUSE);
}

// "a wizard" becomes "an owl" or "jeans": the article goes with the word.
function withArticle(before, name) {
  const article = /(?<![\p{L}])(an?)\s+$/iu.exec(before);
  if (!article) return [before.length, name];
  const many = /[^sui]s$/i.test(name);
  const wanted = /^[aeiou]/i.test(name) && !/^(uni|eu|uku)/i.test(name) ? 'an' : 'a';
  const large = article[1][0] === 'A' ? wanted[0].toUpperCase() + wanted.slice(1) : wanted;
  return [article.index, many ? name : `${large} ${name}`];
}

function choose({ text, word, at }, name) {
  const field = box();
  if (!field || field.value !== text || text.slice(at, at + word.length) !== word) return;
  const [start, put] = withArticle(text.slice(0, at), name);
  field.focus();
  field.setSelectionRange(start, at + word.length);
  // Like typing, so that it can be undone like typing; not every browser can.
  if (document.execCommand?.('insertText', false, put)) return;
  field.setRangeText(put, start, at + word.length, 'end');
  field.dispatchEvent(new Event('input', { bubbles: true }));
}

function draw() {
  const value = props.value;
  if (!value) return;
  if (value.text !== (box()?.value ?? '')) { later(); return; }
  asked = value.text;
  part('told').textContent = value.told;
  part('nearest').replaceChildren(...value.near.map((name) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'chip';
    button.textContent = name;
    button.title = `Put this in place of “${value.word}”`;
    button.addEventListener('click', () => choose(value, name));
    return button;
  }));
  part('nearest').hidden = !value.near.length;
  part('unlearned').dataset.says = value.near.length ? 'near' : value.told ? 'nothing' : '';
}

watch('value', draw);

// The prompt box comes later than this, and what the program writes into it makes no event.
document.addEventListener('input', (event) => { if (event.target === box()) later(); });
setInterval(() => { if (!timer && element.isConnected && box() && box().value !== asked) later(); }, 1000);
