// A picture of an entry, as the server serves it to this user.
const pictureUrl = (kind, id) => `history/${kind}/${encodeURIComponent(id)}`;
const NO_PROMPT = 'A picture without a prompt';
// The line below a tile that says what it shows, in CSS pixels.
const NAME = 22;

// Tiles of all loaded entries; only those near the window are in the page, so that 100,000 are as quick as 100.
class Grid {
  // scroll: the box that scrolls; tiles: the list in it.
  // on: { open(id), more(), selected(), favourite(ids), remove(ids) }.
  constructor(scroll, tiles, on) {
    Object.assign(this, { scroll, tiles, on, entries: [], places: new Map(), drawn: new Map(), selected: new Set() });
    Object.assign(this, { at: 0, anchor: 0, columns: 1, side: 0, complete: true, picking: false, press: 0 });
    scroll.addEventListener('scroll', () => this.draw(), { passive: true });
    new ResizeObserver(() => this.measure()).observe(scroll);
    tiles.addEventListener('click', (event) => this.click(event));
    tiles.addEventListener('keydown', (event) => this.key(event));
    tiles.addEventListener('pointerdown', (event) => this.hold(event));
    for (const name of ['pointerup', 'pointercancel', 'pointermove', 'scroll']) {
      tiles.addEventListener(name, (event) => { if (name !== 'pointermove' || Math.hypot(event.movementX, event.movementY) > 6) clearTimeout(this.press); });
    }
    tiles.addEventListener('contextmenu', (event) => { if (this.held) event.preventDefault(); });
  }

  // -- entries -------------------------------------------------------------------------------------------------------

  reset(entries, complete) {
    this.entries = [];
    this.places.clear();
    this.selected.clear();
    for (const tile of this.drawn.values()) tile.remove();
    this.drawn.clear();
    this.at = this.anchor = 0;
    this.scroll.scrollTop = 0;
    this.append(entries, complete);
    this.on.selected();
  }

  append(entries, complete) {
    for (const one of entries.filter(({ id }) => !this.places.has(id))) {
      this.places.set(one.id, this.entries.length);
      this.entries.push(one);
    }
    this.complete = complete;
    this.measure();
  }

  index() { this.places = new Map(this.entries.map((one, k) => [one.id, k])); }

  remove(ids) {
    const gone = new Set(ids);
    this.entries = this.entries.filter((one) => !gone.has(one.id));
    for (const id of ids) { this.selected.delete(id); this.drawn.get(id)?.remove(); this.drawn.delete(id); }
    this.index();
    this.at = this.anchor = Math.min(this.at, Math.max(this.entries.length - 1, 0));
    this.measure();
    this.on.selected();
  }

  change(ids, fields) {
    for (const id of ids) {
      const entry = this.entries[this.places.get(id)];
      if (!entry) continue;
      Object.assign(entry, fields);
      this.drawn.get(id)?.remove();
      this.drawn.delete(id);
    }
    this.draw();
  }

  find(id) { return this.entries[this.places.get(id)]; }

  neighbour(id, by) { return this.places.has(id) ? this.entries[this.places.get(id) + by]?.id : undefined; }

  // -- drawing -------------------------------------------------------------------------------------------------------

  measure() {
    const width = this.tiles.clientWidth;
    if (!width) return;
    const [least, gap] = [innerWidth < 500 ? 104 : 148, 10];
    this.columns = Math.max(2, Math.floor((width + gap) / (least + gap)));
    this.side = (width - gap * (this.columns - 1)) / this.columns;
    this.across = this.side + gap;
    this.pitch = this.across + NAME;
    this.tiles.style.height = `${Math.max(0, Math.ceil(this.entries.length / this.columns) * this.pitch - gap)}px`;
    this.draw();
  }

  draw() {
    if (!this.side) return;
    const { scrollTop, clientHeight } = this.scroll;
    if (!clientHeight) return;
    const first = Math.max(0, (Math.floor(scrollTop / this.pitch) - 2) * this.columns);
    const last = Math.min(this.entries.length, (Math.ceil((scrollTop + clientHeight) / this.pitch) + 2) * this.columns);
    const wanted = new Set();
    for (let k = first; k < last; k += 1) wanted.add(k);
    // The tile with the focus stays, however far someone scrolls.
    if (this.at < this.entries.length) wanted.add(this.at);
    const ids = new Set([...wanted].map((k) => this.entries[k].id));
    for (const [id, tile] of this.drawn) if (!ids.has(id)) { tile.remove(); this.drawn.delete(id); }
    for (const k of wanted) this.place(this.entries[k], k);
    if (!this.complete && scrollTop + clientHeight > this.tiles.offsetHeight - 3 * clientHeight) this.on.more();
  }

  place(entry, k) {
    const tile = this.drawn.get(entry.id) || this.tile(entry);
    const [x, y] = [(k % this.columns) * this.across, Math.floor(k / this.columns) * this.pitch];
    tile.style.cssText = `width: ${this.side}px; height: ${this.side}px; transform: translate(${x}px, ${y}px)`;
    tile.setAttribute('aria-selected', this.selected.has(entry.id));
    tile.setAttribute('aria-posinset', k + 1);
    tile.setAttribute('aria-setsize', this.complete ? this.entries.length : -1);
    tile.tabIndex = k === this.at ? 0 : -1;
  }

  tile(entry) {
    const tile = document.createElement('div');
    tile.className = 'tile';
    tile.setAttribute('role', 'option');
    tile.dataset.id = entry.id;
    tile.title = entry.title || NO_PROMPT;
    const marks = [entry.favourite && 'favourite', entry.guest && 'made by a guest', entry.kind === 'crashed' && 'cut off by a crash'];
    tile.setAttribute('aria-label', [tile.title, ...marks].filter(Boolean).join(', '));
    if (entry.picture) tile.append(this.image(entry));
    else tile.append(this.mark('none', entry.kind === 'crashed' ? 'Cut off by a crash' : 'File is missing'));
    if (entry.guest) tile.append(this.mark('guest', 'Guest'));
    if (entry.favourite) tile.append(this.mark('loved', ''));
    tile.append(this.mark('pick', ''), this.mark('name', tile.title));
    this.drawn.set(entry.id, tile);
    this.tiles.append(tile);
    return tile;
  }

  image(entry) {
    const image = document.createElement('img');
    image.decoding = 'async';
    image.draggable = false;
    image.alt = '';
    // A busy server refuses a request now and then.
    image.addEventListener('error', () => setTimeout(() => { if (image.isConnected) image.src = `${pictureUrl('thumbnail', entry.id)}?again`; }, 1500), { once: true });
    image.src = pictureUrl('thumbnail', entry.id);
    return image;
  }

  mark(name, text) {
    const mark = document.createElement('span');
    mark.className = name;
    mark.textContent = text;
    return mark;
  }

  // -- selecting -----------------------------------------------------------------------------------------------------

  // In picking mode a click selects; so does one with Ctrl, Cmd or Shift, or a long press, at any time.
  pick(on) {
    this.picking = on;
    this.tiles.classList.toggle('picking', on);
    if (!on) this.clear();
    this.on.selected();
  }

  clear() {
    this.selected.clear();
    this.draw();
    this.on.selected();
  }

  toggle(k) {
    const { id } = this.entries[k];
    if (!this.selected.delete(id)) this.selected.add(id);
    this.anchor = k;
    this.draw();
    this.on.selected();
  }

  range(to) {
    const [from, end] = [Math.min(this.anchor, to), Math.max(this.anchor, to)];
    this.selected = new Set(this.entries.slice(from, end + 1).map((one) => one.id));
    this.draw();
    this.on.selected();
  }

  // The selected entries in the order of the grid, else the one with the focus.
  chosen() {
    const ids = [...this.selected].toSorted((a, b) => this.places.get(a) - this.places.get(b));
    return ids.length ? ids : this.entries[this.at] ? [this.entries[this.at].id] : [];
  }

  click(event) {
    const tile = event.target.closest('.tile');
    if (!tile || this.held) { this.held = false; return; }
    const k = this.places.get(tile.dataset.id);
    this.focus(k);
    if (event.shiftKey) this.range(k);
    else if (event.ctrlKey || event.metaKey || this.picking) this.toggle(k);
    else this.on.open(tile.dataset.id);
  }

  hold(event) {
    this.held = false;
    clearTimeout(this.press);
    const tile = event.target.closest('.tile');
    if (event.pointerType !== 'touch' || !tile) return;
    this.press = setTimeout(() => {
      this.held = true;
      if (!this.picking) this.pick(true);
      this.toggle(this.places.get(tile.dataset.id));
    }, 500);
  }

  focus(k) {
    if (!this.entries.length) return;
    this.at = Math.min(Math.max(k, 0), this.entries.length - 1);
    const top = Math.floor(this.at / this.columns) * this.pitch;
    const { scrollTop, clientHeight } = this.scroll;
    if (top < scrollTop) this.scroll.scrollTop = top;
    const bottom = top + this.side + NAME;
    if (bottom > scrollTop + clientHeight) this.scroll.scrollTop = bottom - clientHeight;
    this.draw();
    this.drawn.get(this.entries[this.at].id)?.focus({ preventScroll: true });
  }

  key(event) {
    const moves = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns, Home: -Infinity, End: Infinity };
    if (event.altKey || !this.entries.length) return;
    const command = event.ctrlKey || event.metaKey;
    if (event.key in moves) {
      const to = Math.min(Math.max(this.at + moves[event.key], 0), this.entries.length - 1);
      if (event.shiftKey && !this.selected.size) this.anchor = this.at;
      this.focus(to);
      if (event.shiftKey) this.range(to);
    } else if (event.key === ' ' && (command || this.picking)) this.toggle(this.at);
    else if (event.key === ' ' || event.key === 'Enter') this.on.open(this.entries[this.at].id);
    else if (event.key === 'Delete') this.on.remove(this.chosen());
    else if (event.key === 'Escape' && this.selected.size) this.clear();
    else if (event.key === 'f' && !command) this.on.favourite(this.chosen());
    else if (event.key === 'a' && command) { this.anchor = 0; this.range(this.entries.length - 1); }
    else return;
    event.preventDefault();
  }
}
