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

// "a wizard" becomes "an owl": the article goes with the word.
function replaced(text, word, name) {
  const plain = word.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
  const place = new RegExp(`(?:\\b(an?)\\s+)?(?<![\\p{L}])${plain}(?![\\p{L}])`, 'iu');
  return text.replace(place, (_, article) => {
    if (!article) return name;
    const wanted = /^[aeiou]/i.test(name) ? 'an' : 'a';
    return `${article[0] === 'A' ? wanted[0].toUpperCase() + wanted.slice(1) : wanted} ${name}`;
  });
}

function choose(word, name) {
  const field = box();
  if (!field) return;
  field.value = replaced(field.value, word, name);
  field.dispatchEvent(new Event('input', { bubbles: true }));
  field.focus();
}

function draw() {
  const value = props.value;
  if (!value) return;
  if (value.text !== (box()?.value ?? '')) { later(); return; }
  part('told').textContent = value.told;
  part('nearest').replaceChildren(...value.near.map((name) => {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'chip';
    button.textContent = name;
    button.title = `Draw this instead of “${value.word}”`;
    button.addEventListener('click', () => choose(value.word, name));
    return button;
  }));
  part('nearest').hidden = !value.near.length;
  part('unlearned').hidden = !value.told;
}

watch('value', draw);

// The prompt box comes later than this, and what the program writes into it makes no event.
document.addEventListener('input', (event) => { if (event.target === box()) later(); });
setInterval(() => { if (!timer && element.isConnected && box() && box().value !== asked) later(); }, 1000);
