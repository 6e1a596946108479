// The images that runs started from, in order; a click goes back to one without losing the later ones.
const list = element.querySelector('ol');
const section = element.querySelector('section');
function draw() {
  const { items = [], now = '' } = props.value || {};
  section.hidden = items.length < 2;
  list.replaceChildren(...items.map(({ id, uri, label }) => {
    const [item, button, image, text] = ['li', 'button', 'img', 'span'].map((name) => document.createElement(name));
    button.type = 'button';
    button.setAttribute('aria-pressed', id === now);
    button.addEventListener('click', () => trigger('back', { id }));
    image.src = uri;
    image.alt = '';
    text.textContent = label;
    button.append(image, text);
    item.append(button);
    return item;
  }));
}
watch('value', draw);
draw();
