// Five questions: words from the server as text, and a button each that moves the player.
const list = element.querySelector('[data-part="list"]');
const calm = window.matchMedia('(prefers-reduced-motion: reduce)');

function make(tag, text, kind) {
  const found = document.createElement(tag);
  found.textContent = text;
  if (kind) found.className = kind;
  return found;
}

function show(go) {
  document.dispatchEvent(new CustomEvent('playground:go', { detail: go }));
  const player = document.getElementById('player');
  const box = player?.getBoundingClientRect();
  // Only where it is out of sight: on a wide screen nothing should move but the picture.
  if (box && (box.top < 0 || box.top > window.innerHeight / 3)) {
    player.scrollIntoView({ block: 'start', behavior: calm.matches ? 'auto' : 'smooth' });
  }
}

function question(one) {
  const item = document.createElement('li');
  item.append(make('h2', one.title), ...one.text.map((text) => make('p', text)));
  const foot = make('div', '', 'see');
  const button = make('button', 'Show me', 'quiet');
  button.type = 'button';
  button.setAttribute('aria-label', `Show me: ${one.title}`);
  button.addEventListener('click', () => show(one.go));
  foot.append(button, make('p', one.see));
  item.append(foot);
  return item;
}

function draw() {
  const all = props.value?.questions || [];
  list.replaceChildren(...all.map(question));
  element.querySelector('[data-part="empty"]').hidden = all.length > 0;
}
watch('value', draw);
draw();
