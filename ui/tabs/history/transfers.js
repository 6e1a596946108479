// As the page's own limit (MAX_FILE_SIZE).
const MOST_BYTES = 20 * 1024 * 1024;

// Import and export, with progress and a stop.
class Transfers {
  // on: { ask(what, fields), say(text), imported(), send(file) -> { path } }.
  constructor(part, on) {
    Object.assign(this, { part, on, stopped: false, running: false });
    const dialog = part('import-dialog');
    dialog.addEventListener('click', (event) => { if (event.target === dialog || event.target.closest('[data-do="close-import"]')) dialog.close(); });
    dialog.addEventListener('keydown', (event) => event.stopPropagation());
    part('files').addEventListener('change', () => this.sendFiles([...part('files').files]));
    part('folder-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.run('import', { folder: part('folder').value.trim() });
    });
  }

  open() {
    if (this.running) return;
    this.part('import-said').textContent = '';
    this.part('import-dialog').showModal();
  }

  stop() {
    this.stopped = true;
    if (this.running) this.on.ask('progress', { stop: true });
  }

  show(text, done, total) {
    const bar = this.part('moving-bar');
    this.part('moving').hidden = false;
    this.part('moving-text').textContent = text;
    if (total) Object.assign(bar, { max: total, value: done }); else bar.removeAttribute('value');
  }

  // Files go to the program one after the other, and are imported together.
  async sendFiles(files) {
    this.part('files').value = '';
    if (!files.length) return;
    this.part('import-dialog').close();
    this.stopped = false;
    const paths = [];
    const refused = [];
    for (const [k, file] of files.entries()) {
      if (this.stopped) break;
      this.show(`Sending ${k + 1} of ${files.length} \u2026`, k, files.length);
      // oxlint-disable-next-line no-await-in-loop
      const sent = file.size > MOST_BYTES ? null : await this.on.send(file).catch(() => null);
      if (sent?.path) paths.push(sent.path); else refused.push(file.name);
    }
    this.part('moving').hidden = true;
    if (this.stopped) { this.on.say('Stopped; nothing was imported.'); return; }
    const late = refused.length
      ? `${refused.length === 1 ? refused[0] : `${refused.length} files`} could not be sent (20 MB at most; name a folder or zip on this computer instead).` : '';
    if (paths.length) await this.run('import', { paths }, late); else this.on.say(late);
  }

  async run(what, fields, more = '') {
    if (this.running) return;
    this.running = true;
    this.stopped = false;
    let found = await this.on.ask(what, fields);
    if (found.moving) this.part('import-dialog').close();
    while (found.moving && !found.moving.over) {
      const { kind, done, total } = found.moving;
      this.show(`${kind === 'import' ? 'Importing' : 'Exporting'} ${total ? `${done.toLocaleString()} of ${total.toLocaleString()}` : ''} \u2026`, done, total);
      // oxlint-disable-next-line no-await-in-loop
      await new Promise((resolve) => { setTimeout(resolve, 300); });
      // oxlint-disable-next-line no-await-in-loop
      found = await this.on.ask('progress', {});
    }
    this.running = false;
    this.part('moving').hidden = true;
    if (found.moving) this.end(found.moving, more); else this.problem(found.problem);
  }

  // Below an open dialog nothing else can be read.
  problem(text) {
    const { open } = this.part('import-dialog');
    if (open) this.part('import-said').textContent = text; else this.on.say(text || '');
  }

  end({ kind, said, file, name }, more) {
    if (file) Object.assign(document.createElement('a'), { href: file, download: name }).click();
    if (kind === 'import') { this.part('folder').value = ''; this.on.imported(); }
    this.on.say([said, more].filter(Boolean).join(' '));
  }
}
