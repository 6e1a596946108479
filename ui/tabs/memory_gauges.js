// How full each kind of memory is, and with what.
function bar(gauge) {
  const [box, title, line, legend] = ['div', 'p', 'div', 'p'].map((tag) => document.createElement(tag));
  const name = document.createElement('b');
  name.textContent = gauge.name;
  title.append(name, ` ${gauge.text}`);
  line.className = 'bar';
  line.append(...gauge.parts.map((part, k) => {
    const piece = document.createElement('i');
    piece.style.width = `${part.share}%`;
    piece.dataset.kind = part.name ? `model-${k % 3}` : 'others';
    return piece;
  }));
  legend.className = 'legend';
  legend.append(...gauge.parts.map((part, k) => {
    const [entry, mark] = ['span', 'i'].map((tag) => document.createElement(tag));
    mark.dataset.kind = part.name ? `model-${k % 3}` : 'others';
    entry.append(mark, part.text);
    return entry;
  }));
  box.append(title, line, legend);
  return box;
}
function draw() {
  element.querySelector('section').replaceChildren(...(props.value || []).map(bar));
}
watch('value', draw);
draw();
