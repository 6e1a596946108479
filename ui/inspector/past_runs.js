// The recorded runs, newest first; titles are prompts, and go into attributes alone.
const root = element.querySelector('.past');
const latest = element.querySelector('[data-part="latest"]');
const list = element.querySelector('[data-part="list"]');

function draw() {
  const { runs = [], now = '', gone = false } = props.value || {};
  latest.hidden = !gone;
  // With a single run there is nothing to choose.
  root.hidden = runs.length < (gone ? 1 : 2);
  list.replaceChildren(...runs.map(({ id, title, uri }) => {
    const [item, button, image] = ['li', 'button', 'img'].map((name) => document.createElement(name));
    button.type = 'button';
    button.title = title;
    button.dataset.run = id;
    button.setAttribute('aria-current', id === now);
    button.addEventListener('click', () => {
      for (const other of list.querySelectorAll('button')) other.setAttribute('aria-current', other === button);
      trigger('pick', { run: id });
    });
    if (uri) image.src = uri;
    image.alt = title;
    image.draggable = false;
    button.append(image);
    item.append(button);
    return item;
  }));
}
latest.addEventListener('click', () => trigger('pick', { run: props.value.runs[0].id }));
watch('value', draw);
draw();
