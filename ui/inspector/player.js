// The player: every step of one run through one or two lenses.  Plain JavaScript, for the page and for the capsule.
// All frames are loaded before they are shown: scrubbing, playing and changing lenses make no request.
// Needs Timeline (timeline.js).  Text is written with textContent alone.
const STEPS_A_SECOND = 8;
const SPEEDS = [0.25, 0.5, 1, 2, 4];
const HOLD_MS = 900;
const SIDES = ['left', 'right'];
const SMALL = 256;
const LARGEST = 3;

class Player {
  constructor(root) {
    this.root = root;
    this.id = root.id || 'player';
    this.calm = window.matchMedia('(prefers-reduced-motion: reduce)');
    this.views = SIDES.map((side) => this.view(side));
    this.playback = null;
    this.turn = null;
    this.timer = null;
    this.speed = 1;
    this.loop = true;
    this.double = !window.matchMedia('(max-width: 800px)').matches;
    this.draws = 0;
    // Where a server can draw lenses again, asks it to.
    this.renders = null;
    // A capsule and a lesson keep nothing.
    this.memory = '';
    this.timeline = new Timeline(this.part('strip'), {
      visible: () => root.offsetParent,
      go: (slot) => this.go(slot),
      step: (by) => this.go(this.at + by),
      pause: () => this.pause(),
      toggle: () => this.toggle(),
    });
    this.reset();
    this.listen();
    this.draw();
  }

  part(name) { return this.root.querySelector(`[data-part="${name}"]`); }

  view(side) {
    const figure = this.root.querySelector(`[data-view="${side}"]`);
    const [canvas, choice, label] = ['canvas', 'select', 'label span'].map((one) => figure.querySelector(one));
    // drawn: the run whose picture the canvas holds.
    const found = { figure, canvas, choice, label, lens: '', drawn: '' };
    for (const name of ['hint', 'caption', 'about', 'term', 'paper']) found[name] = figure.querySelector(`[data-part="${name}"]`);
    new ResizeObserver(() => this.paint(found)).observe(found.canvas);
    found.choice.addEventListener('change', () => this.choose(side, found.choice.value));
    return found;
  }

  reset() {
    for (const bitmap of Object.values(this.bitmaps || {}).flat()) bitmap?.close();
    this.at = 0;
    this.frames = {};
    this.bitmaps = {};
    this.added = {};
    this.final = null;
    this.shown = '';
    this.cancel();
  }

  // -- what comes in -------------------------------------------------------------------------------------------

  take(playback) {
    if (!playback || !playback.run) return;
    if (typeof playback.turn === 'number' && typeof this.turn === 'number' && playback.turn < this.turn) return;
    if (typeof playback.turn === 'number') this.turn = playback.turn;
    const fresh = !this.playback || playback.run !== this.playback.run;
    if (fresh) { this.reset(); this.playback = { steps: [], order: [], about: {}, settings: [], picture: '' }; }
    const first = fresh || this.playback.early || (!this.playback.steps.length && playback.steps?.length);
    this.playback.early = false;
    const { lenses = {}, ...facts } = playback;
    Object.assign(this.playback, facts);
    this.join();
    for (const [name, lens] of Object.entries(lenses)) this.load(name, lens);
    if (first && this.playback.steps.length) this.open();
    if (this.playback.picture && !this.final) this.decode(this.playback.picture, (bitmap) => { this.final = bitmap; });
    this.draw();
    if (!first || !this.playback.steps.length) return;
    if (!this.playback.play) this.go(this.playback.at || 0);
    else if (!this.calm.matches) this.play();
  }

  // The frames that a stage has: each { noise, guess, noisy }.  The server's values for the same run follow.
  early(seen) {
    if (!seen?.frames.every(({ guess, noisy }) => guess && noisy) || seen.frames.length !== seen.total) return;
    const run = `${seen.run}:${seen.picture}`;
    if (this.playback?.run === run && this.count) return;
    const row = (name) => ({ crisp: false, frames: seen.frames.map((frame) => frame[name]) });
    const steps = seen.frames.map(({ noise }) => ({ alpha_bar: 1 - noise, phase: '', words: '' }));
    this.take({
      run, title: seen.title, total: seen.total, size: seen.size, steps, order: ['x_t', 'x0'], views: ['x_t', 'x0'],
      about: { x_t: { title: 'What the model is given' }, x0: { title: "The model's guess" } },
      lenses: { x_t: row('noisy'), x0: row('guess') },
    });
    this.playback.early = true;
  }

  open() {
    const { order, steps } = this.playback;
    const views = this.chosen();
    const texts = order.map((name) => this.about(name)).map((one) => `${one.about} ${this.term(one)}${one.paper}`);
    this.views.forEach((view, i) => {
      view.lens = views[i] || order[i] || order[0] || '';
      this.develop(view.lens);
      this.room(view.caption, texts);
    });
    const longest = {};
    for (const { phase, words } of steps) if (words.length > (longest[phase] || '').length) longest[phase] = words;
    this.room(this.part('phase-words').parentElement, Object.values(longest));
  }

  // The two lenses that a run opens with: those that were chosen before a reload, or its own.
  chosen() {
    const { run, lenses } = this.kept();
    const { order, views = [] } = this.playback;
    return run === this.playback.run ? lenses.map((name, i) => (order.includes(name) ? name : views[i])) : views;
  }

  // The browser keeps what is chosen from now on, under this name.
  remember(key) {
    this.memory = key;
    const { speed, loop = this.loop, double = this.double } = this.kept();
    Object.assign(this, { loop, double, speed: SPEEDS.includes(speed) ? speed : this.speed });
    this.part('speed').value = this.speed;
    this.draw();
  }

  keep() {
    if (!this.memory || !this.playback) return;
    const kept = { run: this.playback.run, lenses: this.views.map((view) => view.lens), speed: this.speed, loop: this.loop, double: this.double };
    try { sessionStorage.setItem(this.memory, JSON.stringify(kept)); } catch { /* full, or switched off: nothing is kept */ }
  }

  kept() {
    try {
      const found = this.memory ? JSON.parse(sessionStorage.getItem(this.memory)) : null;
      return Array.isArray(found?.lenses) ? found : {};
    } catch { return {}; }
  }

  about(name) { return { title: name, about: '', term: '', paper: '', link: '', ...this.playback?.about[name] }; }

  term({ term, paper }) { return term && `In papers: ${term}${paper ? ', ' : ''}`; }

  // Reserves the space of all of these texts, invisibly, so that nothing moves when the text changes.
  room(host, texts) {
    for (const old of host.querySelectorAll('.room')) old.remove();
    host.append(...texts.map((text) => {
      const unseen = document.createElement('span');
      unseen.className = 'room';
      unseen.textContent = text;
      return unseen;
    }));
  }

  load(name, lens) {
    if (this.frames[name]?.frames.every(Boolean)) return;
    this.frames[name] = lens;
    delete this.bitmaps[name];
    const run = this.playback.run;
    const seen = [...(this.playback.views || []), ...this.views.map((view) => view.lens)];
    if (seen.includes(name)) this.develop(name);
    // The lenses that are not on view wait for a quiet moment, so that those that are come sooner.
    else this.idle(() => { if (this.playback?.run === run) this.develop(name); });
  }

  idle(act) { if (window.requestIdleCallback) window.requestIdleCallback(act, { timeout: 1500 }); else setTimeout(act, 50); }

  // Decodes the frames of a lens.
  develop(name) {
    if (this.bitmaps[name] || !this.frames[name]) return;
    const bitmaps = this.bitmaps[name] = [];
    this.frames[name].frames.forEach((uri, i) => { if (uri) this.decode(uri, (bitmap) => { bitmaps[i] = bitmap; }); });
  }

  // A view that a panel made of the run that is shown.
  add({ run, name, about, frames }) {
    if (!this.playback || run !== this.playback.run) return;
    this.added[name] = about;
    this.join();
    this.load(name, { crisp: false, frames });
    this.draw();
  }

  join() {
    const { order, about } = this.playback;
    this.playback.order = [...new Set([...order, ...Object.keys(this.added)])];
    this.playback.about = { ...about, ...this.added };
  }

  decode(uri, keep) {
    const run = this.playback.run;
    const image = new Image();
    image.src = uri;
    image.decode().then(() => createImageBitmap(image)).then((bitmap) => {
      if (!this.playback || this.playback.run !== run) { bitmap.close(); return; }
      keep(bitmap);
      for (const view of this.views) if (this.bitmap(view.lens) === bitmap) this.paint(view);
    }).catch(() => {});
  }

  // -- position --------------------------------------------------------------------------------------------------

  get count() { return this.playback ? this.playback.steps.length : 0; }

  get slots() { return this.count + (this.count && this.playback.picture ? 1 : 0); }

  go(slot) {
    if (!this.slots) return;
    this.at = Math.min(Math.max(slot, 0), this.slots - 1);
    this.draw();
  }

  choose(side, name) {
    const view = this.views[SIDES.indexOf(side)];
    // One that is still rendered is named, and comes as soon as it is there.
    if (!this.frames[name] && !this.playback?.order.includes(name)) return;
    this.develop(name);
    view.lens = name;
    this.shown = '';
    this.keep();
    this.draw();
  }

  toggle() { if (this.timer) this.pause(); else this.play(); }

  pause() { this.cancel(); this.drawControls(); }

  cancel() { cancelAnimationFrame(this.timer); this.timer = null; }

  play() {
    if (this.slots < 2) return;
    this.cancel();
    if (this.at === this.slots - 1) this.at = 0;
    let due = performance.now() + this.pace();
    const tick = (now) => {
      if (!this.root.isConnected) return;
      // It pauses while another tab of the page is shown.
      if (!this.root.offsetParent) due = now + this.pace();
      if (now >= due) {
        if (this.at === this.slots - 1 && !this.loop) { this.pause(); return; }
        this.go(this.at === this.slots - 1 ? 0 : this.at + 1);
        due = Math.max(due + this.pace(), now);
        if (this.at === this.slots - 1 && !this.loop) { this.pause(); return; }
      }
      this.timer = requestAnimationFrame(tick);
    };
    this.timer = requestAnimationFrame(tick);
    this.draw();
  }

  // The end is held briefly, so that a loop has a visible start.
  pace() { return this.at === this.slots - 1 ? HOLD_MS / Math.max(this.speed, 1) : 1000 / (STEPS_A_SECOND * this.speed); }

  // -- drawing -------------------------------------------------------------------------------------------------

  draw() {
    this.drawViews();
    this.drawStrip();
    this.drawWords();
    this.drawControls();
    this.tell();
  }

  drawViews() {
    this.root.dataset.views = this.double ? '2' : '1';
    const playback = this.playback || { order: [], about: {} };
    this.views.forEach((view, i) => {
      view.figure.hidden = i === 1 && !this.double;
      view.label.textContent = this.double ? `${i ? 'Right' : 'Left'} picture` : 'Picture';
      this.fill(view.choice, playback);
      if (view.choice.value !== view.lens) view.choice.value = view.lens;
      view.choice.disabled = !playback.order.length;
      this.drawCaption(view, this.about(view.lens));
      this.paint(view);
    });
  }

  drawCaption(view, about) {
    view.canvas.setAttribute('aria-label', `${about.title || 'Picture'}, ${this.place()}`);
    const key = about.title + about.about;
    if (view.caption.dataset.lens === key) return;
    view.caption.dataset.lens = key;
    view.about.textContent = about.about;
    view.term.textContent = this.term(about);
    view.paper.textContent = about.paper;
    view.paper.hidden = !about.link.startsWith('https://');
    if (!view.paper.hidden) view.paper.href = about.link;
  }

  fill(choice, playback) {
    const key = playback.order.map((name) => name + Boolean(this.frames[name])).join();
    if (choice.dataset.key === key) return;
    choice.dataset.key = key;
    choice.replaceChildren(...playback.order.map((name) => {
      const ready = Boolean(this.frames[name]);
      const option = new Option(this.about(name).title + (ready ? '' : ' (rendering)'), name);
      option.disabled = !ready;
      return option;
    }));
  }

  bitmap(lens) {
    if (this.at >= this.count && this.final && !this.frames[lens]?.crisp && ['x0', 'x_t'].includes(lens)) return this.final;
    return (this.bitmaps[lens] || [])[Math.min(this.at, this.count - 1)];
  }

  waits(lens) {
    if (!this.playback) return 'The steps of a picture play here.';
    if (!this.count) return this.playback.text || '';
    return this.frames[lens] ? 'No picture of this step.' : 'Rendering this view.';
  }

  paint(view) {
    const { canvas, hint, lens } = view;
    const bitmap = this.bitmap(lens);
    // Until a frame is decoded the previous one stays: no blank in between.
    const coming = this.frames[lens]?.frames[Math.min(this.at, this.count - 1)] && view.drawn === this.playback.run;
    hint.hidden = Boolean(bitmap || coming);
    if (hint.textContent !== this.waits(lens)) hint.textContent = this.waits(lens);
    const side = Math.round(canvas.clientWidth * Math.min(window.devicePixelRatio || 1, 2));
    if (!side) return;
    if (canvas.width !== side) canvas.width = canvas.height = side;
    const pen = canvas.getContext('2d');
    if (!bitmap && coming) return;
    pen.clearRect(0, 0, side, side);
    if (bitmap) this.stamp(pen, bitmap, side, this.frames[lens]?.crisp);
    view.drawn = bitmap ? this.playback.run : '';
  }

  stamp(pen, bitmap, side, crisp) {
    const room = this.span(side);
    const scale = Math.min(room / bitmap.width, room / bitmap.height);
    const [width, height] = [bitmap.width * scale, bitmap.height * scale];
    pen.imageSmoothingEnabled = !crisp;
    pen.imageSmoothingQuality = 'high';
    pen.drawImage(bitmap, (side - width) / 2, (side - height) / 2, width, height);
    this.draws += 1;
    this.root.dataset.draws = this.draws;
  }

  // How much of a square a picture takes: small ones a whole number of screen pixels for each of theirs, at most three
  // times their size.  Where only one would fit, they fill the square.
  span(side) {
    const most = Math.max(...(this.playback.size || [0]));
    if (!most || most > SMALL) return side;
    const dots = Math.min(window.devicePixelRatio || 1, 2);
    const whole = Math.floor(Math.min(side / most, LARGEST * dots));
    return whole >= 2 ? whole * most : side;
  }

  drawStrip() {
    this.timeline.resize(Math.max(this.slots, 1));
    // The thumbnails are what the left view shows.
    const row = (this.frames[this.views[0].lens] || this.frames.x0)?.frames || [];
    row.forEach((uri, i) => { if (uri && i < this.slots) this.timeline.paint(i, uri); });
    if (this.slots > this.count) this.timeline.paint(this.count, this.playback.picture);
    const noise = (this.playback?.steps || []).map((step, i) => [i, 1 - step.alpha_bar]);
    this.timeline.curve(this.part('curve'), this.slots > this.count ? [...noise, [this.count, 0]] : noise, Math.max(this.slots, 1));
    this.timeline.mark(this.count ? this.at : -1, this.place());
  }

  place() {
    if (!this.count) return 'empty';
    return this.at >= this.count ? 'the finished picture' : `step ${this.at + 1} of ${this.playback.total}`;
  }

  drawWords() {
    const step = this.count ? this.playback.steps[Math.min(this.at, this.count - 1)] : null;
    const final = this.count && this.at >= this.count;
    const set = (name, text) => { const there = this.part(name); if (there.textContent !== text) there.textContent = text; };
    set('place', !step ? ' ' : final ? 'Finished' : `${this.at + 1} of ${this.playback.total}`);
    set('timestep', step?.t === undefined ? ' ' : final ? '0' : this.plain(step.t));
    const signal = final ? 1 : step?.alpha_bar;
    set('mix', step ? `${Math.round((1 - signal) * 100)}%` : ' ');
    set('guidance', step && typeof this.playback.guidance === 'number' ? String(this.playback.guidance) : ' ');
    set('sigma', step?.sigma !== undefined ? (final ? '0' : step.sigma.toFixed(3)) : ' ');
    set('snr', step?.sigma !== undefined ? this.ratio(final ? null : step.snr) : ' ');
    const share = final ? 1 : step?.share || 0;
    set('share', step?.share !== undefined ? `${Math.round(share * 100)}%` : ' ');
    set('phase', final ? 'Finished' : step?.phase || ' ');
    set('phase-words', final ? 'The last latent, decoded in full.' : step?.words || ' ');
    set('title', this.playback?.title || (this.count ? 'No prompt' : ' '));
    this.part('title').title = this.playback?.title || '';
    set('text', this.count ? this.playback.text || '' : '');
    set('note', this.playback?.note || '');
    set('again', this.playback?.again || '');
    this.part('again').hidden = !this.renders || !this.playback?.coarse?.length;
  }

  // Views that were drawn without the model wait for better ones.
  redraw() {
    for (const name of this.playback.coarse) { delete this.frames[name]; delete this.bitmaps[name]; }
    Object.assign(this.playback, { coarse: [], note: '' });
    this.draw();
    this.renders();
  }

  plain(value) { return Number.isInteger(value) ? String(value) : value.toFixed(1); }

  ratio(value) {
    if (value === null || value === undefined) return 'no noise';
    if (value > 0 && value < 0.0001) return 'under 0.0001';
    return value >= 100 ? String(Math.round(value)) : value === 0 ? '0' : value.toPrecision(2);
  }

  drawControls() {
    const ready = this.slots > 1;
    this.root.dataset.ready = this.count ? 'yes' : 'no';
    this.root.dataset.run = this.playback?.run || '';
    this.root.dataset.at = this.at;
    for (const name of ['play', 'back', 'on']) this.part(name).disabled = !ready;
    this.part('play').textContent = this.timer ? 'Pause' : 'Play';
    this.part('loop').setAttribute('aria-pressed', this.loop);
    this.part('double').setAttribute('aria-pressed', this.double);
  }

  tell(again = false) {
    const key = `${this.playback?.run} ${this.at} ${this.count} ${this.views[0].lens}`;
    if (!this.count || (key === this.shown && !again)) return;
    this.shown = key;
    const picture = this.at >= this.count ? this.playback.picture : this.frames.x0?.frames[this.at];
    const detail = { run: this.playback.run, index: this.at, total: this.playback.total, lens: this.views[0].lens, id: this.id, picture };
    document.dispatchEvent(new CustomEvent('playground:step', { detail }));
  }

  // -- user input ----------------------------------------------------------------------------------------------

  listen() {
    const press = (name, act) => this.part(name).addEventListener('click', act);
    press('play', () => this.toggle());
    press('back', () => { this.pause(); this.go(this.at - 1); });
    press('on', () => { this.pause(); this.go(this.at + 1); });
    press('loop', () => { this.loop = !this.loop; this.keep(); this.draw(); });
    press('again', () => this.redraw());
    press('double', () => { this.double = !this.double; this.keep(); this.draw(); });
    const speed = this.part('speed');
    speed.replaceChildren(...SPEEDS.map((value) => new Option(`${value}×`, value, value === 1, value === 1)));
    speed.addEventListener('change', () => { this.speed = Number(speed.value); this.keep(); if (this.timer) this.play(); });
    this.hear('playground:go', (event) => this.follow(event.detail || {}));
    this.hear('playground:pause', () => this.pause());
    this.hear('playground:where', () => this.tell(true));
    this.hear('playground:lens', (event) => this.add(event.detail || {}));
  }

  hear(name, act) {
    const handler = (event) => {
      if (!this.root.isConnected) document.removeEventListener(name, handler);
      else act(event);
    };
    document.addEventListener(name, handler);
  }

  // Moves the player and not the page; only where no picture is on view, as on a phone, does the page follow.
  follow({ index, share, left, right, play }) {
    this.pause();
    if (left) this.choose('left', left);
    if (right && this.playback?.order.includes(right)) { this.double = true; this.choose('right', right); }
    if (typeof share === 'number') this.go(Math.round(share * (this.slots - 1)));
    if (typeof index === 'number') this.go(index);
    const { top, bottom } = this.views[0].canvas.getBoundingClientRect();
    if (this.root.offsetParent && (bottom <= 0 || top >= window.innerHeight)) {
      this.views[0].figure.scrollIntoView({ block: 'start', behavior: this.calm.matches ? 'auto' : 'smooth' });
    }
    if (play) this.play();
  }
}
