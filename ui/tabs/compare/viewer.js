// Runs side by side at one noise level: each shows the last of its steps that is no cleaner, or its finished picture.
const NOISIEST = -10;
const CLEANEST = 10;
const FRAME_MS = 90;
const HOLD_MS = 1800;
// Pictures up to this size are shown at a whole multiple of it.
const SMALL = 256;

class Viewer {
  // host: { inside(run) } or {} where runs cannot be opened.
  constructor(root, host = {}) {
    this.root = root;
    this.host = host;
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.value = null;
    this.cells = new Map();
    this.page = 0;
    this.timer = 0;
    this.part('at').addEventListener('input', () => { this.pause(); this.draw(); });
    this.part('guess').addEventListener('change', () => this.draw());
    this.part('difference').addEventListener('change', () => { this.lay(); this.draw(); });
    this.part('page').addEventListener('change', () => { this.page = Number(this.part('page').value); this.lay(); this.draw(); });
    this.button().addEventListener('click', () => (this.timer ? this.pause() : this.play()));
  }

  button() { return this.root.querySelector('[data-do="play"]'); }
  get last() { return Number(this.part('at').max); }
  get at() { return Number(this.part('at').value); }

  // A value of the server; one with the same name adds to what is shown.
  take(value) {
    const fresh = !this.value || value.started || value.name !== this.value.name;
    if (fresh) { this.cells.clear(); this.page = 0; this.pause(); this.part('at').value = this.last; }
    this.value = { ...value, sentence: value.sentence || '' };
    for (const cell of value.cells) this.cells.set(cell.at.join(), { ...this.cells.get(cell.at.join()), ...cell });
    if (fresh) this.lay();
    this.root.dataset.state = value.state;
    this.say();
    this.draw();
  }

  key(row, column) { return [this.page, row, column].join(); }

  say() {
    const { axes, state, differs } = this.value;
    const named = ['x', 'y', 'pages'].filter((name) => axes[name]?.label).map((name) => axes[name].label);
    const one = differs?.length === 1;
    this.part('changes').textContent = one ? `${differs[0].label}: ${differs[0].values.join(' or ')}`
      : named.join(' \u00d7 ') || (differs ? `${differs.length} settings differ` : '');
    const all = [...this.cells.values()];
    const done = all.filter((cell) => cell.state === 'done').length;
    const [pages, rows, columns] = this.value.shape;
    this.part('progress').textContent = state === 'running' ? `${done} of ${pages * rows * columns} pictures` : '';
    this.part('sentence').textContent = this.value.sentence;
    this.part('empty').hidden = true;
    const said = ['x', 'y', 'pages'].map((name) => axes[name]).filter((axis) => axis?.does);
    this.part('does').replaceChildren(...said.map(({ label, does }) => this.make('p', said.length > 1 ? `${label}: ${does}` : does)));
    this.part('level').hidden = !done;
    const saving = this.part('saving');
    if (saving) saving.hidden = state === 'running' || !done;
    this.part('differs').hidden = !differs || differs.length < 2;
    this.part('rows').replaceChildren(...(differs || []).map(({ label, values }) => {
      const row = document.createElement('tr');
      row.append(this.make('th', label, { scope: 'row' }), ...values.map((text) => this.make('td', text)));
      return row;
    }));
  }

  make(name, text = '', fields = {}) { return Object.assign(document.createElement(name), { textContent: text, ...fields }); }

  // The cells of the chosen page.
  lay() {
    const { shape: [pages, rows, columns], axes, size } = this.value;
    const two = pages === 1 && rows * columns === 2;
    this.part('difference-label').hidden = !two;
    const more = two && this.part('difference').checked;
    this.part('page-label').hidden = pages < 2;
    if (pages > 1) {
      this.part('page-name').textContent = axes.pages.label;
      this.part('page').replaceChildren(...axes.pages.values.map((text, i) => this.make('option', text, { value: i })));
      this.part('page').value = this.page;
    }
    const sheet = this.part('sheet');
    sheet.style.setProperty('--columns', columns + (more ? 1 : 0));
    sheet.style.setProperty('--rows', rows);
    sheet.style.setProperty('--unit', Math.max(...size) <= SMALL ? `${size[0]}px` : '1px');
    sheet.style.setProperty('--shape', `${size[0]} / ${size[1]}`);
    sheet.classList.toggle('rows', Boolean(axes.y));
    const parts = axes.y ? [this.make('span', '', { className: 'corner' })] : [];
    parts.push(...axes.x.values.map((text) => this.head(text, 'column')));
    if (more) parts.push(this.head('Difference', 'column'));
    for (let row = 0; row < rows; row++) {
      if (axes.y) parts.push(this.head(axes.y.values[row], 'row'));
      for (let column = 0; column < columns; column++) parts.push(this.cell(row, column));
      if (more) parts.push(row ? this.make('span') : this.difference());
    }
    sheet.replaceChildren(...parts);
  }

  head(text, kind) { return this.make('p', text, { className: `head ${kind}`, title: text }); }

  cell(row, column) {
    const box = this.make('figure', '', { className: 'lane' });
    box.dataset.at = this.key(row, column);
    const well = this.make(this.host.inside ? 'button' : 'div', '', { className: 'shot' });
    if (this.host.inside) {
      well.type = 'button';
      well.addEventListener('click', () => { const cell = this.cells.get(box.dataset.at); if (cell?.run) this.host.inside(cell.run); });
    }
    well.append(this.make('img', '', { alt: '', draggable: false }));
    box.append(well, this.make('figcaption'));
    return box;
  }

  difference() {
    const box = this.make('figure', '', { className: 'lane differ' });
    const well = this.make('div', '', { className: 'shot' });
    well.append(this.make('canvas', '', { role: 'img', ariaLabel: 'Where the two pictures differ; black is the same' }));
    box.append(well, this.make('figcaption', 'black: the same'));
    return box;
  }

  // The step of a cell at the timeline's place; -1 is the finished picture.
  stepOf(cell) {
    if (this.at >= this.last && cell.end) return -1;
    const wanted = NOISIEST + (this.at / (this.last - 1)) * (CLEANEST - NOISIEST) + 1e-6;
    let found = 0;
    cell.levels.forEach((level, i) => { if (level <= wanted) found = i; });
    return found;
  }

  draw() {
    if (!this.value) return;
    const guess = this.part('guess').checked;
    for (const box of this.part('sheet').querySelectorAll('[data-at]')) this.paint(box, this.cells.get(box.dataset.at), guess);
    const level = NOISIEST + (this.at / (this.last - 1)) * (CLEANEST - NOISIEST);
    const noise = Math.round(100 / (1 + Math.exp(level)));
    const words = this.at >= this.last ? 'finished' : `${noise}% noise`;
    this.part('words').textContent = words;
    this.part('at').setAttribute('aria-valuetext', words);
    if (this.part('sheet').querySelector('canvas')) this.compare();
    document.dispatchEvent(new CustomEvent('playground:level', { detail: { level: this.at >= this.last ? Infinity : level } }));
  }

  paint(box, cell, guess) {
    const [image, words] = [box.querySelector('img'), box.querySelector('figcaption')];
    const state = cell?.state || 'waiting';
    box.dataset.state = state;
    const well = box.querySelector('.shot');
    if (well.tagName === 'BUTTON') well.disabled = !cell?.run;
    let source = cell?.live || '';
    let text = { waiting: 'waits', running: cell?.text || 'is made' }[state] ?? cell?.text ?? '';
    if (cell?.levels?.length) {
      const i = this.stepOf(cell);
      source = i < 0 ? cell.end : (guess || !cell.noisy.length ? cell.guess : cell.noisy)[i];
      const unit = `${this.cells.size > 8 ? '' : 'model '}call${cell.calls === 1 ? '' : 's'}`;
      const calls = `${cell.calls} ${unit}${cell.seconds ? `, ${cell.seconds}` : ''}`;
      text = i < 0 ? calls : `step ${cell.numbers[i]} of ${cell.steps}`;
      if (well.tagName === 'BUTTON') well.setAttribute('aria-label', `Look inside: ${this.nameOf(cell)}`);
    }
    if (source) { if (image.src !== source) image.src = source; image.hidden = false; } else image.hidden = true;
    image.alt = cell ? this.nameOf(cell) : '';
    if (words.textContent !== text) words.textContent = text;
    words.title = text;
  }

  nameOf({ at: [page, row, column] }) {
    const { axes } = this.value;
    return [axes.x.values[column], axes.y?.values[row], axes.pages?.values[page]].filter((text) => text !== undefined).join(', ');
  }

  // |A - B| of what is shown, twice as bright.
  compare() {
    const images = [...this.part('sheet').querySelectorAll('[data-at] img')];
    const canvas = this.part('sheet').querySelector('canvas');
    if (images.length < 2) return;
    const turn = (this.turn = (this.turn || 0) + 1);
    Promise.all(images.map((image) => image.decode().catch(() => {}))).then(() => {
      if (turn !== this.turn || !images.every((image) => image.naturalWidth)) return;
      const side = Math.min(512, Math.max(...images.map((image) => image.naturalWidth)));
      const high = Math.round((side * this.value.size[1]) / this.value.size[0]);
      [canvas.width, canvas.height] = [side, high];
      const context = canvas.getContext('2d', { willReadFrequently: true });
      const [a, b] = images.map((image) => { context.drawImage(image, 0, 0, side, high); return context.getImageData(0, 0, side, high).data; });
      const made = context.createImageData(side, high);
      for (let i = 0; i < a.length; i++) made.data[i] = i % 4 === 3 ? 255 : 2 * Math.abs(a[i] - b[i]);
      context.putImageData(made, 0, 0);
    });
  }

  play() {
    if (this.at >= this.last) this.part('at').value = 0;
    this.button().textContent = 'Pause';
    const next = () => {
      if (!this.root.isConnected) return;
      this.draw();
      const end = this.at >= this.last;
      this.timer = setTimeout(() => { this.part('at').value = end ? 0 : this.at + 1; next(); }, end ? HOLD_MS : FRAME_MS);
    };
    next();
  }

  pause() {
    clearTimeout(this.timer);
    this.timer = 0;
    this.button().textContent = 'Play';
  }
}
