// Two pictures under one slider, and the settings in which they differ.
class Comparison {
  constructor(part) {
    this.part = part;
    this.rows = [];
    part('divide').addEventListener('input', () => this.divide());
    part('only').addEventListener('change', () => this.list());
    part('over').addEventListener('pointerdown', (event) => { part('over').setPointerCapture(event.pointerId); this.point(event); });
    part('over').addEventListener('pointermove', (event) => { if (part('over').hasPointerCapture(event.pointerId)) this.point(event); });
  }

  show({ pictures, rows }) {
    const [a, b] = pictures;
    this.rows = rows;
    for (const [name, one] of [['top', a], ['under', b]]) {
      const image = this.part(name);
      image.hidden = !one.picture;
      image.alt = `${name === 'top' ? 'A' : 'B'}: ${one.title || NO_PROMPT}`;
      if (one.picture) image.src = pictureUrl('picture', one.id);
    }
    this.part('name-a').textContent = moment(a.made);
    this.part('name-b').textContent = moment(b.made);
    // Both fill one frame, in the shape of the first.
    this.part('over').style.setProperty('--shape', `${a.size[0] || 1} / ${a.size[1] || 1}`);
    this.part('divide').value = 50;
    this.divide();
    this.list();
  }

  divide() { this.part('over').style.setProperty('--at', `${this.part('divide').value}%`); }

  point(event) {
    const box = this.part('over').getBoundingClientRect();
    this.part('divide').value = Math.round(((event.clientX - box.left) / box.width) * 100);
    this.divide();
  }

  list() {
    const differ = this.rows.filter((row) => row.differs);
    const shown = this.part('only').checked ? differ : this.rows;
    this.part('same').textContent = differ.length
      ? `${differ.length} of ${this.rows.length} settings differ.` : 'All settings are the same.';
    this.part('rows').closest('table').hidden = !shown.length;
    this.part('rows').replaceChildren(...shown.map(({ label, values, differs }) => {
      const row = document.createElement('tr');
      row.classList.toggle('differs', differs);
      const name = Object.assign(document.createElement('th'), { scope: 'row', textContent: label });
      row.append(name, ...values.map((text) => Object.assign(document.createElement('td'), { textContent: text })));
      return row;
    }));
  }
}
