// The timeline: a strip of frames from noise to picture, dragged with finger or mouse, stepped with the keys.
// host: { visible(), go(slot), step(by), pause(), toggle() }; slots are numbered from 0.
class Timeline {
  constructor(strip, host) {
    this.strip = strip;
    this.host = host;
    strip.addEventListener('pointerdown', (event) => {
      host.pause();
      strip.setPointerCapture(event.pointerId);
      this.scrub(event);
    });
    strip.addEventListener('pointermove', (event) => { if (strip.hasPointerCapture(event.pointerId)) this.scrub(event); });
    const keys = (event) => {
      if (!strip.isConnected) { document.removeEventListener('keydown', keys); return; }
      if (host.visible()) this.key(event);
    };
    document.addEventListener('keydown', keys);
  }

  // The slots differ in width: take the one under the pointer, or the nearest beyond the ends.
  scrub(event) {
    const slots = [...this.strip.children];
    const found = slots.findIndex((slot) => event.clientX < slot.getBoundingClientRect().right);
    this.host.go(found < 0 ? slots.length - 1 : found);
  }

  key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    const busy = 'input, textarea, select, [contenteditable], [role="listbox"], [role="option"], [role="tab"], [role="radio"], dialog';
    if (event.target.closest?.(busy)) return;
    const host = this.host;
    const focused = event.target === this.strip;
    // Up and down scroll the page, except on the strip itself, which is a slider.
    const moves = { ArrowLeft: -1, ArrowRight: 1, ...(focused && { ArrowDown: -1, ArrowUp: 1 }) };
    const ends = { Home: 0, End: this.strip.children.length - 1 };
    if (event.key in moves) { host.pause(); host.step(moves[event.key]); }
    else if (focused && event.key in ends) { host.pause(); host.go(ends[event.key]); }
    else if (event.key === ' ' && !event.target.closest?.('button, a, summary')) host.toggle();
    else return;
    event.preventDefault();
  }

  clear() { this.strip.replaceChildren(); }

  resize(count) {
    while (this.strip.children.length < count) {
      const slot = document.createElement('span');
      slot.className = 'slot';
      this.strip.append(slot);
    }
    while (this.strip.children.length > count) this.strip.lastElementChild.remove();
    this.strip.setAttribute('aria-valuemax', Math.max(count - 1, 0));
  }

  paint(index, source) {
    const slot = this.strip.children[index];
    if (slot.dataset.source === source) return;
    if (!source) { slot.replaceChildren(); delete slot.dataset.source; return; }
    slot.dataset.source = source;
    const image = slot.querySelector('img') || document.createElement('img');
    image.alt = '';
    image.draggable = false;
    image.src = source;
    slot.append(image);
  }

  // The noise schedule over the strip: how much of each slot's latents is noise, from all of it down to none.
  // known: pairs of slot and share, 0 to 1, of a strip with so many slots.
  curve(svg, known, slots) {
    const x = (i) => (100 * (i + 0.5)) / slots;
    const points = known.map(([i, noise]) => `${x(i).toFixed(2)},${(8 + 84 * (1 - noise)).toFixed(2)}`).join(' ');
    for (const line of svg.children) line.setAttribute('points', points);
  }

  mark(index, text) {
    [...this.strip.children].forEach((slot, i) => slot.classList.toggle('now', i === index));
    this.strip.setAttribute('aria-valuenow', Math.max(index, 0));
    this.strip.setAttribute('aria-valuetext', text);
  }
}
