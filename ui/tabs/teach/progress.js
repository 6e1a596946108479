// A training on its timeline: a column of four pictures for each checkpoint, and the loss.
const SVG = 'http://www.w3.org/2000/svg';

class TrainingTimeline {
  // on: { pictures(step) -> { uris }, chosen(step) }.
  constructor(part, on) {
    Object.assign(this, { part, on, run: '', known: new Map(), step: null, follows: true, loading: false });
    part('steps').addEventListener('keydown', (event) => {
      const by = { ArrowLeft: -1, ArrowUp: -1, ArrowRight: 1, ArrowDown: 1 }[event.key];
      const steps = [...this.known.keys()].toSorted((a, b) => a - b);
      if (!by || !steps.length) return;
      event.preventDefault();
      this.choose(steps[Math.min(Math.max(steps.indexOf(this.step) + by, 0), steps.length - 1)], true);
    });
  }

  async take(report) {
    if (report.run !== this.run) {
      this.run = report.run;
      this.known.clear();
      Object.assign(this, { step: null, follows: true });
      this.part('steps').replaceChildren();
    }
    this.rows = report.rows;
    this.part('charts').hidden = !report.curve.length && !report.held.length;
    this.chart(report);
    await this.load(report.checkpoints.filter(([step, , whole]) => whole && !this.known.has(step)));
    for (const hidden of ['large', 'steps', 'keep']) this.part(hidden).hidden = !this.known.size;
    this.part('empty').hidden = this.known.size > 0;
  }

  async load(missing) {
    if (this.loading) return;
    this.loading = true;
    for (const [step, held] of missing) {
      // oxlint-disable-next-line no-await-in-loop
      const found = await this.on.pictures(step);
      if (found.uris?.length) this.column(step, held, found.uris);
    }
    this.loading = false;
    const last = Math.max(...this.known.keys());
    if (this.known.size && (this.step === null || this.follows)) this.choose(last);
  }

  column(step, held, uris) {
    const column = Object.assign(document.createElement('button'), { type: 'button', className: 'column' });
    column.setAttribute('role', 'radio');
    column.dataset.step = step;
    column.setAttribute('aria-label', held === null ? `Step ${step}` : `Step ${step}, held-out loss ${held.toFixed(4)}`);
    column.append(...uris.map((uri) => Object.assign(document.createElement('img'), { src: uri, alt: '' })));
    column.append(Object.assign(document.createElement('span'), { textContent: step }));
    column.addEventListener('click', () => this.choose(step, true));
    this.known.set(step, { column, uris, held });
    const after = [...this.part('steps').children].find((each) => Number(each.dataset.step) > step);
    this.part('steps').insertBefore(column, after || null);
  }

  choose(step, byHand = false) {
    const steps = [...this.known.keys()];
    this.step = step;
    if (byHand) this.follows = step === Math.max(...steps);
    for (const [each, { column }] of this.known) {
      column.setAttribute('aria-checked', each === step);
      column.tabIndex = each === step ? 0 : -1;
    }
    const { column, uris } = this.known.get(step);
    if (byHand) column.focus();
    const strip = this.part('steps');
    if (column.offsetLeft < strip.scrollLeft || column.offsetLeft + column.offsetWidth > strip.scrollLeft + strip.clientWidth) strip.scrollLeft = column.offsetLeft - strip.clientWidth / 2;
    this.part('large').replaceChildren(...uris.map((uri, row) => {
      const [name, prompt] = this.rows[row];
      const figure = document.createElement('figure');
      const words = document.createElement('figcaption');
      words.append(Object.assign(document.createElement('b'), { textContent: name }), document.createTextNode(` \u201c${prompt}\u201d`));
      figure.append(Object.assign(document.createElement('img'), { src: uri, alt: `${name} after ${step} steps` }), words);
      return figure;
    }));
    this.on.chosen(step, byHand);
  }

  chart({ curve, held, loss, step }) {
    const svg = this.part('curve');
    const values = [...curve, ...held.map(([, value]) => value)];
    const most = Math.max(...values, 1e-9) * 1.05;
    const points = curve.map((value, k) => `${(300 * k) / Math.max(curve.length - 1, 1)},${100 - (100 * value) / most}`);
    svg.querySelector('.line').setAttribute('points', points.join(' '));
    svg.querySelector('.held').replaceChildren(...held.map(([at, value]) => {
      const dot = document.createElementNS(SVG, 'circle');
      for (const [name, number] of [['cx', (300 * at) / Math.max(step, 1)], ['cy', 100 - (100 * value) / most], ['r', 4]]) dot.setAttribute(name, number);
      return dot;
    }));
    const last = curve.at(-1);
    this.part('curve-text').textContent = `loss${last === undefined ? '' : ` ${last.toFixed(3)}`}${held.length ? '; dots: on pictures it was not shown' : ''}`;
    const highest = Math.max(...loss.map((value) => value || 0), 1e-9);
    this.part('levels').replaceChildren(...loss.map((value, k) => {
      const bar = document.createElementNS(SVG, 'rect');
      const height = (96 * (value || 0)) / highest;
      for (const [name, number] of [['x', 30 * k + 2], ['y', 100 - height], ['width', 26], ['height', height]]) bar.setAttribute(name, number);
      return bar;
    }));
  }
}
