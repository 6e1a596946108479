// Which word drew what: heat maps of a word over the picture of the player's step, and the words of a place, ranked.
// For the page and for the capsule.  Text is written with textContent alone.
const HEAT = [[12, 12, 40], [86, 25, 110], [187, 55, 84], [249, 142, 9], [252, 255, 164]];
const HEAT_SHARE = 0.62;
const BARS = 8;

class WordMaps {
  constructor(root, { ask, quit, heads } = {}) {
    this.root = root;
    this.asks = { ask, quit, heads };
    this.sheet = null;
    this.maps = null;
    this.step = 0;
    this.word = 0;
    this.level = 0;
    this.place = null;
    this.picture = null;
    this.wanted = '';
    this.listen();
    this.draw();
  }

  part(name) { return this.root.querySelector(`[data-part="${name}"]`); }

  make(tag, text, kind) {
    const found = document.createElement(tag);
    found.textContent = text;
    if (kind) found.className = kind;
    return found;
  }

  set(name, text) { const there = this.part(name); if (there.textContent !== text) there.textContent = text; }

  // -- what comes in -------------------------------------------------------------------------------------------

  take(sheet) {
    const fresh = !sheet || sheet.run !== this.sheet?.run;
    // An answer about a run that is no longer open, or a late one while the maps are here.
    if (fresh && sheet?.answer && this.sheet) return;
    if (!fresh && this.maps && sheet.state !== 'ready') return;
    if (fresh) { this.maps = null; this.place = null; this.picture = null; this.level = 0; this.asked = false; }
    this.sheet = sheet;
    if (sheet?.state === 'failed') this.asked = true;
    if (sheet?.maps && !this.maps) this.open(sheet.maps);
    if (sheet?.heads) this.drawHeads(sheet.heads);
    this.draw();
    if (fresh && sheet) document.dispatchEvent(new CustomEvent('playground:where'));
    this.begin();
  }

  open(maps) {
    this.maps = { ...maps, levels: maps.levels.map((level) => Object.assign({}, level, { data: this.bytes(level.data) })) };
    this.word = maps.first;
    this.fill('level', maps.levels.map((level) => `${level.label} (${level.heads} heads)`));
    this.fill('layer', maps.layers.map((layer) => layer.label));
    this.part('heads').replaceChildren();
    this.part('each').open = false;
    this.buildChips();
  }

  bytes(text) { return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0)); }

  fill(name, labels) { this.part(name).replaceChildren(...labels.map((label, i) => new Option(label, i))); }

  // Quick models are asked as soon as the panel is seen.
  begin() {
    const { sheet } = this;
    if (!sheet || sheet.state !== 'closed' || sheet.slow || this.asked || !this.root.offsetParent) return;
    this.ask();
  }

  ask() { this.asked = true; this.asks.ask?.(); }

  // -- drawing -------------------------------------------------------------------------------------------------

  draw() {
    const { sheet, maps } = this;
    const state = maps ? 'ready' : sheet?.state || 'empty';
    this.root.dataset.state = state;
    const text = { empty: 'Open a run to see which word drew what.', ready: '' }[state];
    this.set('text', text ?? sheet.text ?? '');
    this.part('body').hidden = !maps;
    this.part('asking').hidden = !(['closed', 'failed', 'busy'].includes(state) && this.asks.ask);
    this.part('ask').hidden = state === 'busy';
    this.part('quit').hidden = state !== 'busy';
    this.set('ask', state === 'failed' ? 'Try again' : 'Compute the maps');
    this.set('foretold', state === 'closed' ? sheet.foretold : '');
    if (maps) { this.drawChips(); this.drawLevel(); this.paint(); this.drawBars(); this.askHeads(); }
  }

  buildChips() {
    this.part('chips').replaceChildren(...this.maps.words.map((word, i) => {
      const chip = this.make('button', word.text, `chip is-${word.kind}`);
      chip.type = 'button';
      chip.setAttribute('role', 'radio');
      chip.addEventListener('click', () => this.choose(i));
      return chip;
    }));
  }

  drawChips() {
    [...this.part('chips').children].forEach((chip, i) => {
      chip.setAttribute('aria-checked', i === this.word);
      chip.tabIndex = i === this.word ? 0 : -1;
      chip.classList.toggle('is-absent', this.absent(i));
    });
  }

  drawLevel() {
    this.part('level').value = this.level;
    this.part('level').parentElement.hidden = this.maps.levels.length < 2;
    this.set('note', [this.maps.note, this.maps.about].filter(Boolean).join(' '));
  }

  // The first steps of a fork read another prompt: whether a word was not in it.
  absent(word) { return Boolean(this.maps.absent?.[Math.min(this.step, this.maps.steps - 1)]?.includes(word)); }

  // The shares of a word at the step, one a cell.
  shares(word) {
    const { data, height, width, peak } = this.maps.levels[this.level];
    const cells = height * width;
    const start = (Math.min(this.step, this.maps.steps - 1) * this.maps.words.length + word) * cells;
    return Float32Array.from(data.subarray(start, start + cells), (value) => (value / 255) * peak[word]);
  }

  paint() {
    const { height, width } = this.maps.levels[this.level];
    const shares = this.shares(this.word);
    const canvas = this.root.querySelector('.well canvas');
    const pen = canvas.getContext('2d');
    pen.globalAlpha = 1;
    pen.filter = 'none';
    pen.clearRect(0, 0, canvas.width, canvas.height);
    const box = this.box(canvas, this.picture || { width, height });
    if (this.picture) { pen.filter = 'grayscale(1)'; pen.drawImage(this.picture, ...box); pen.filter = 'none'; pen.globalAlpha = HEAT_SHARE; }
    pen.imageSmoothingEnabled = true;
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(this.heat(shares, height, width), ...box);
    pen.globalAlpha = 1;
    const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
    const most = Math.max(...shares);
    const { text } = this.maps.words[this.word];
    const when = this.final ? 'at the last step' : `at step ${this.step + 1} of ${this.sheet.total}`;
    this.set('caption', this.absent(this.word) ? `The prompt did not have \u201c${text}\u201d ${when}.` : `\u201c${text}\u201d ${when}: bright where it gets most of the attention, ${this.percent(most)} at most, ${this.percent(mean)} on average.`);
    this.part('well').setAttribute('aria-label', `Attention to ${text}, ${when}. Arrow keys choose a place.`);
    this.mark(box, canvas);
    this.root.dataset.step = this.step;
    this.root.dataset.word = this.word;
  }

  box(canvas, { width, height }) {
    const scale = Math.min(canvas.width / width, canvas.height / height);
    return [(canvas.width - width * scale) / 2, (canvas.height - height * scale) / 2, width * scale, height * scale];
  }

  // From this step's least to its most, so that the shape shows; the figures are in the caption.
  heat(shares, height, width) {
    const [low, high] = [Math.min(...shares), Math.max(...shares)];
    const sheet = document.createElement('canvas');
    [sheet.width, sheet.height] = [width, height];
    const image = new ImageData(width, height);
    shares.forEach((share, i) => {
      const at = ((share - low) / Math.max(high - low, 1e-9)) * (HEAT.length - 1);
      const [from, to] = [HEAT[Math.floor(at)], HEAT[Math.min(Math.floor(at) + 1, HEAT.length - 1)]];
      const rgb = from.map((value, c) => value + (at - Math.floor(at)) * (to[c] - value));
      image.data.set([...rgb, 255], 4 * i);
    });
    sheet.getContext('2d').putImageData(image, 0, 0);
    return sheet;
  }

  mark(box, canvas) {
    const mark = this.part('place');
    mark.hidden = !this.place;
    if (!this.place) return;
    const [left, top, wide, high] = box.map((value) => (100 * value) / canvas.width);
    const { height, width } = this.maps.levels[this.level];
    const [row, column] = this.cell();
    Object.assign(mark.style, {
      left: `${left + (column * wide) / width}%`, top: `${top + (row * high) / height}%`,
      width: `${wide / width}%`, height: `${high / height}%`,
    });
  }

  // The chosen place as a cell of the level that is shown.
  cell() {
    const { height, width } = this.maps.levels[this.level];
    return [height, width].map((count, k) => Math.min(Math.max(Math.floor(this.place[k] * count), 0), count - 1));
  }

  drawBars() {
    const { words } = this.maps;
    const { width } = this.maps.levels[this.level];
    const rows = words.map((word, i) => {
      const shares = this.shares(i);
      const mean = shares.reduce((sum, share) => sum + share, 0) / shares.length;
      const [row, column] = this.place ? this.cell() : [0, 0];
      const share = this.place ? shares[row * width + column] : mean;
      return { ...word, i, share, times: share / Math.max(mean, 1e-9) };
    });
    const special = rows.filter((row) => !this.absent(row.i) && ['start', 'end'].includes(row.kind));
    const ranked = rows.filter((row) => !['start', 'end'].includes(row.kind) && !this.absent(row.i)).toSorted((a, b) => b.share - a.share).slice(0, BARS);
    const top = Math.max(...ranked.map((row) => row.share), 1e-9);
    this.set('where', this.place ? 'What this place reads' : 'What the whole picture reads');
    this.part('bars').replaceChildren(...ranked.map((row) => this.bar(row, top)));
    const said = special.map((row) => `${row.text} ${this.percent(row.share)}`).join(', ');
    this.set('special', said && `The rest goes to tokens that are no words: ${said}.`);
  }

  bar(row, top) {
    const item = this.make('li', '');
    const button = this.make('button', '');
    button.type = 'button';
    button.setAttribute('aria-pressed', row.i === this.word);
    button.append(this.make('b', row.text), this.make('span', '', 'track'), this.make('span', this.percent(row.share), 'share'),
      this.make('span', this.place ? `${row.times.toFixed(1)} \u00d7 its average` : '', 'times'));
    button.children[1].style.setProperty('--share', row.share / top);
    button.addEventListener('click', () => this.choose(row.i));
    item.append(button);
    return item;
  }

  percent(share) { return share < 0.0005 ? 'under 0.1%' : `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`; }

  // -- heads ---------------------------------------------------------------------------------------------------

  askHeads() {
    const layer = this.maps.layers[Number(this.part('layer').value) || 0];
    const each = this.part('each');
    each.hidden = !this.asks.heads || !layer;
    if (each.hidden || !each.open) return;
    const asked = { step: Math.min(this.step, this.maps.steps - 1), word: this.word, layer: layer.name };
    const key = JSON.stringify(asked);
    if (key === this.wanted) return;
    this.wanted = key;
    clearTimeout(this.resting);
    // While the timeline moves, wait until it rests.
    this.resting = setTimeout(() => {
      this.set('head-text', 'Computing this step');
      this.asks.heads(asked);
    }, 250);
  }

  drawHeads(found) {
    const { step, word, layer } = found;
    if (JSON.stringify({ step, word, layer }) !== this.wanted || !this.maps) return;
    this.set('head-text', found.text || `\u201c${this.maps.words[word].text}\u201d at step ${step + 1}, each head from its least to its most`);
    if (!found.data) { this.wanted = ''; return; }
    const bytes = this.bytes(found.data);
    const cells = found.height * found.width;
    this.part('heads').replaceChildren(...Array.from({ length: found.heads }, (_, head) => {
      const figure = this.make('figure', '');
      const peak = found.peak[head];
      const canvas = this.heat(Array.from(bytes.subarray(head * cells, (head + 1) * cells)), found.height, found.width);
      canvas.setAttribute('role', 'img');
      canvas.setAttribute('aria-label', `Head ${head + 1}`);
      figure.append(canvas, this.make('figcaption', `${head + 1}: up to ${this.percent(peak)}`));
      return figure;
    }));
  }

  // -- user input ----------------------------------------------------------------------------------------------

  choose(word, focus) {
    this.word = word;
    this.draw();
    if (focus) this.part('chips').children[word].focus();
  }

  listen() {
    this.part('ask').addEventListener('click', () => this.ask());
    this.part('quit').addEventListener('click', () => {
      this.asks.quit?.();
      this.sheet = { ...this.sheet, state: 'failed', text: 'Stopped. Nothing was kept.' };
      this.draw();
    });
    for (const name of ['level', 'layer']) {
      this.part(name).addEventListener('change', () => { if (name === 'level') this.level = Number(this.part('level').value); this.draw(); });
    }
    this.part('each').addEventListener('toggle', () => this.maps && this.askHeads());
    this.part('chips').addEventListener('keydown', (event) => {
      const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!by || !this.maps) return;
      event.preventDefault();
      event.stopPropagation();
      const count = this.maps.words.length;
      this.choose((this.word + by + count) % count, true);
    });
    const well = this.part('well');
    well.addEventListener('click', (event) => this.touch(event));
    well.addEventListener('keydown', (event) => this.keys(event));
    document.addEventListener('playground:step', this.follow = (event) => this.hear(event.detail));
    new IntersectionObserver((seen) => { if (seen.some((one) => one.isIntersecting)) this.begin(); }).observe(this.root);
  }

  touch(event) {
    if (!this.maps) return;
    const canvas = this.root.querySelector('.well canvas');
    const bounds = canvas.getBoundingClientRect();
    const level = this.maps.levels[this.level];
    const [left, top, wide, high] = this.box(canvas, this.picture || level);
    const across = (((event.clientX - bounds.left) / bounds.width) * canvas.width - left) / wide;
    const down = (((event.clientY - bounds.top) / bounds.height) * canvas.height - top) / high;
    const outside = across < 0 || across >= 1 || down < 0 || down >= 1;
    this.place = outside ? null : [down, across];
    this.draw();
  }

  keys(event) {
    if (!this.maps) return;
    const by = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (event.key === 'Escape' && this.place) this.place = null;
    else if (by) {
      const { height, width } = this.maps.levels[this.level];
      const [row, column] = this.place ? this.cell() : [(height - 1) >> 1, (width - 1) >> 1];
      const moved = this.place ? [row + by[0], column + by[1]] : [row, column];
      this.place = [(Math.min(Math.max(moved[0], 0), height - 1) + 0.5) / height, (Math.min(Math.max(moved[1], 0), width - 1) + 0.5) / width];
    } else return;
    event.preventDefault();
    event.stopPropagation();
    this.draw();
  }

  hear(detail) {
    if (!this.root.isConnected) { document.removeEventListener('playground:step', this.follow); return; }
    if (!this.sheet || detail.run !== this.sheet.run) return;
    this.step = Math.min(Math.max(detail.index, 0), this.sheet.total - 1);
    this.final = detail.index >= this.sheet.total;
    if (this.maps) this.draw();
    if (!detail.picture || detail.picture === this.shown) return;
    const image = new Image();
    this.shown = image.src = detail.picture;
    image.decode().then(() => { if (this.shown === detail.picture) { this.picture = image; if (this.maps) this.paint(); } }).catch(() => {});
  }
}
