// A picture on the whole screen: the wheel or + and - zoom, dragging moves, arrows go to the next picture.
class Lightbox {
  // pictures(): [{ source, alt }] of all results; index: the one that opens.
  constructor(dialog, pictures) {
    this.dialog = dialog;
    this.pictures = pictures;
    this.image = this.part('large');
    this.part('close').addEventListener('click', () => dialog.close());
    this.part('before').addEventListener('click', () => this.move(-1));
    this.part('after').addEventListener('click', () => this.move(1));
    dialog.addEventListener('click', (event) => { if (event.target === dialog) dialog.close(); });
    dialog.addEventListener('keydown', (event) => this.key(event));
    dialog.addEventListener('wheel', (event) => { event.preventDefault(); this.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15); }, { passive: false });
    this.image.addEventListener('pointerdown', (event) => this.image.setPointerCapture(event.pointerId));
    this.image.addEventListener('pointermove', (event) => {
      if (!this.image.hasPointerCapture(event.pointerId)) return;
      this.x += event.movementX;
      this.y += event.movementY;
      this.place();
    });
  }

  part(name) { return this.dialog.querySelector(`[data-part="${name}"]`); }

  open(index) {
    this.index = index;
    this.show();
    this.dialog.showModal();
  }

  show() {
    const all = this.pictures();
    const { source, alt } = all[this.index];
    this.image.src = source;
    this.image.alt = alt;
    for (const name of ['before', 'after']) this.part(name).hidden = all.length < 2;
    [this.scale, this.x, this.y] = [1, 0, 0];
    this.place();
  }

  move(by) {
    const count = this.pictures().length;
    this.index = (this.index + by + count) % count;
    this.show();
  }

  zoom(by) {
    this.scale = Math.min(Math.max(this.scale * by, 1), 16);
    if (this.scale === 1) [this.x, this.y] = [0, 0];
    this.place();
  }

  place() {
    this.image.style.transform = `translate(${this.x}px, ${this.y}px) scale(${this.scale})`;
    this.image.classList.toggle('near', this.scale > 3);
  }

  key(event) {
    const actions = {
      ArrowLeft: () => this.move(-1), ArrowRight: () => this.move(1), '+': () => this.zoom(1.5), '=': () => this.zoom(1.5), '-': () => this.zoom(1 / 1.5),
    };
    event.stopPropagation();
    if (!actions[event.key]) return;
    event.preventDefault();
    actions[event.key]();
  }
}
