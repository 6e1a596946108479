// A sheet of paper to draw a picture on, with the pointer or with the keys.
const STEP = 8;

class Paper {
  // on: { drawn(file) } gets each picture that is added.
  constructor(root, on) {
    const part = (name) => root.querySelector(`[data-paper="${name}"]`);
    this.dialog = part('dialog');
    this.canvas = part('canvas');
    this.nib = part('nib');
    this.told = part('told');
    this.pen = this.canvas.getContext('2d');
    Object.assign(this.pen, { lineCap: 'round', lineJoin: 'round' });
    Object.assign(this, { at: [this.canvas.width / 2, this.canvas.height / 2], down: false, count: 0 });
    const inks = [...root.querySelectorAll('[data-ink]')];
    for (const button of inks) {
      button.style.backgroundColor = button.dataset.ink;
      button.addEventListener('click', () => {
        this.ink = button.dataset.ink;
        for (const each of inks) each.setAttribute('aria-pressed', each === button);
      });
    }
    this.ink = inks[0].dataset.ink;
    this.fill('#ffffff');
    this.canvas.addEventListener('pointerdown', (event) => {
      this.canvas.setPointerCapture(event.pointerId);
      this.down = true;
      this.go(this.place(event), true, false);
    });
    this.canvas.addEventListener('pointermove', (event) => { if (this.down && event.buttons) this.go(this.place(event), true); });
    for (const name of ['pointerup', 'pointercancel']) this.canvas.addEventListener(name, () => { this.down = false; });
    this.canvas.addEventListener('keydown', (event) => this.key(event));
    part('fill').addEventListener('click', () => this.fill(this.ink));
    part('close').addEventListener('click', () => this.dialog.close());
    part('add').addEventListener('click', () => this.canvas.toBlob((blob) => {
      this.count += 1;
      this.told.textContent = `${this.count} added. Change it and add it again, or press Done.`;
      on.drawn(new File([blob], `drawing-${this.count}.png`, { type: 'image/png' }));
    }, 'image/png'));
    this.width = part('width');
  }

  open() { this.dialog.showModal(); this.move(); }

  place(event) {
    const box = this.canvas.getBoundingClientRect();
    return [((event.clientX - box.left) * this.canvas.width) / box.width, ((event.clientY - box.top) * this.canvas.height) / box.height];
  }

  key(event) {
    const by = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    if (!by && event.key !== ' ') return;
    event.preventDefault();
    if (!by) {
      this.down = !this.down;
      this.told.textContent = this.down ? 'The pen is down: arrows draw.' : 'The pen is up: arrows move it.';
      if (this.down) this.go(this.at, true, false);
      return;
    }
    const far = event.shiftKey ? 3 * STEP : STEP;
    const most = [this.canvas.width, this.canvas.height];
    this.go(this.at.map((value, k) => Math.min(Math.max(value + by[k] * far, 0), most[k])), this.down);
  }

  // A line from the last place, or a dot where a stroke begins.
  go(to, draws, joined = true) {
    if (draws) {
      this.pen.strokeStyle = this.ink;
      this.pen.lineWidth = Number(this.width.value);
      this.pen.beginPath();
      this.pen.moveTo(...(joined ? this.at : to));
      this.pen.lineTo(...to);
      this.pen.stroke();
    }
    this.at = to;
    this.move();
  }

  move() {
    this.nib.style.left = `${(100 * this.at[0]) / this.canvas.width}%`;
    this.nib.style.top = `${(100 * this.at[1]) / this.canvas.height}%`;
  }

  fill(ink) {
    this.pen.fillStyle = ink;
    this.pen.fillRect(0, 0, this.canvas.width, this.canvas.height);
  }
}
