// A row a sampler: its name and one line; a star on the three to try first.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
let all = false;
let shown = '';

function row(one) {
  const button = document.createElement('button');
  Object.assign(button, { type: 'button', className: 'sampler' });
  button.dataset.name = one.name;
  const name = document.createElement('b');
  if (one.starred) name.append(Object.assign(document.createElement('i'), { className: 'star', textContent: '★' }));
  name.append(one.label);
  const about = Object.assign(document.createElement('span'), { textContent: one.line });
  if (one.own) about.textContent += ' · this model’s own';
  button.append(name, about);
  button.setAttribute('aria-label', `${one.label}${one.starred ? ', starred' : ''}. ${about.textContent}`);
  button.addEventListener('click', () => trigger('sampler', { name: one.name }));
  return button;
}

function draw() {
  const { value } = props;
  if (!value) return;
  // The rows stay while nothing but the choice changes, so that the focus does.
  const now = JSON.stringify(value.rows);
  if (now !== shown) { part('rows').replaceChildren(...value.rows.map(row)); shown = now; }
  value.rows.forEach((one, k) => {
    const button = part('rows').children[k];
    button.setAttribute('aria-pressed', String(one.name === value.chosen));
    button.hidden = !(all || one.first || one.name === value.chosen);
  });
  part('all').hidden = value.rows.every((one) => one.first);
  part('all').textContent = all ? 'Fewer samplers' : `All ${value.rows.length} samplers`;
  part('all').setAttribute('aria-expanded', String(all));
}

part('all').addEventListener('click', () => { all = !all; draw(); });
watch('value', draw);
draw();
