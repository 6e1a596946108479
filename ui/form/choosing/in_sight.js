// What is in use, on one line: a click opens the control.
const root = element.querySelector('.in-sight');
const desk = element.closest('.workspace');
const CONTROL = { model: 'model', scheduler: 'samplers', size: 'width', lora: 'lora-cards' };
const pill = (name) => root.querySelector(`[data-pill="${name}"]`);

// The first by its name, or how many.
function named(list, many) { return list.length > 1 ? `${list.length} ${many}` : list[0] || ''; }

function loras() {
  const text = desk.querySelector('.prompt textarea')?.value || '';
  return LoraTags.all(text).map(({ name, weight }) => (Number.isFinite(weight) ? `${name} ${weight}` : name));
}

function say(name, text, whole = text) {
  const one = pill(name);
  one.hidden = !text;
  if (one.firstElementChild.textContent !== text) one.firstElementChild.textContent = text;
  const { says } = one.dataset;
  one.title = `${says}: ${whole}. Click to change it.`;
  one.setAttribute('aria-label', `${says}: ${whole}`);
}

function draw() {
  const { value } = props;
  if (!value) return;
  for (const name of ['model', 'scheduler', 'size']) say(name, value[name]);
  const worn = loras();
  say('lora', named(worn, 'LoRAs'), worn.join(', '));
  const guides = value.guides.map((one) => one.label);
  say('guides', named(guides, 'guides'), guides.join(' and '));
}

for (const one of root.querySelectorAll('.pill')) {
  one.addEventListener('click', () => {
    const { pill: name } = one.dataset;
    if (name === 'guides') openControl(desk, props.value.guides[0]?.opens, 'guides');
    else openControl(desk, CONTROL[name]);
  });
}
for (const kind of ['input', 'change']) desk.addEventListener(kind, () => requestAnimationFrame(draw));
// A prompt that a chip, a style or the server brings announces nothing at its box.
document.addEventListener('playground:shown', function shown() {
  if (!element.isConnected) document.removeEventListener('playground:shown', shown);
  else draw();
});
watch('value', draw);
draw();
