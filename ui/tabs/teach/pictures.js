// The pictures that are taught, each with its words.
const MOST_BYTES = 20 * 1024 * 1024;

class TaughtPictures {
  // on: { ask(what, fields), send(file) -> { path }, say(problem), changed() }.
  constructor(part, on) {
    Object.assign(this, { part, on, all: [] });
    part('files').addEventListener('change', () => { this.add([...part('files').files]); part('files').value = ''; });
    const drop = part('drop');
    drop.addEventListener('dragover', (event) => { event.preventDefault(); drop.classList.add('over'); });
    drop.addEventListener('dragleave', () => drop.classList.remove('over'));
    drop.addEventListener('drop', (event) => {
      event.preventDefault();
      event.stopPropagation();
      drop.classList.remove('over');
      this.add([...event.dataTransfer.files]);
    });
  }

  async add(files) {
    const refused = [];
    for (const file of files) {
      // oxlint-disable-next-line no-await-in-loop
      const sent = file.size > MOST_BYTES ? null : await this.on.send(file).catch(() => null);
      // oxlint-disable-next-line no-await-in-loop
      const found = sent?.path ? await this.on.ask('read', { path: sent.path }) : {};
      if (found.picture) this.put(found.picture); else refused.push(found.problem || `${file.name} could not be sent (20 MB at most).`);
    }
    this.on.say(refused.join(' '));
  }

  async take(entry) {
    const found = await this.on.ask('take', { entry });
    if (found.picture) this.put(found.picture);
    this.on.say(found.problem || '');
  }

  put({ id, uri }, caption = '') {
    if (this.all.some((each) => each.id === id)) return;
    const tile = document.createElement('figure');
    const image = Object.assign(document.createElement('img'), { src: uri, alt: `Picture ${this.all.length + 1}` });
    const words = Object.assign(document.createElement('input'), { type: 'text', maxLength: 300, value: caption });
    words.setAttribute('aria-label', `What picture ${this.all.length + 1} shows`);
    const away = Object.assign(document.createElement('button'), { type: 'button', className: 'away', textContent: '\u00d7' });
    away.setAttribute('aria-label', `Take picture ${this.all.length + 1} away`);
    const picture = { id, tile, words };
    away.addEventListener('click', () => {
      this.all = this.all.filter((each) => each !== picture);
      tile.remove();
      this.on.changed();
    });
    tile.append(image, words, away);
    this.part('tiles').append(tile);
    this.all.push(picture);
    this.on.changed();
  }

  texts() { return this.all.map(({ words }) => words); }

  hint(word) { for (const { words } of this.all) words.placeholder = `a ${word || 'zorp'}`; }

  values() { return this.all.map(({ id, words }) => ({ id, caption: words.value.trim() })); }
}
