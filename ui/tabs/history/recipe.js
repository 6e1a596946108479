// The recipe of one entry: its files, and making it again to compare both pictures.
class Recipe {
  // ask(what, fields): a question, whose problem is said here. on: { compare(ids), made() }.
  constructor(part, ask, on) {
    Object.assign(this, { part, ask, on, entry: null, runs: new Map() });
    part('recipe').addEventListener('click', (event) => {
      const { recipe } = event.target.closest('[data-recipe]')?.dataset || {};
      if (recipe) this.act(recipe);
    });
  }

  button(name) { return this.part('recipe').querySelector(`[data-recipe="${name}"]`); }

  show(entry) {
    this.entry = entry;
    this.part('recipe').hidden = !entry.recipe;
    this.button('replay').hidden = (!entry.picture && !entry.crashed) || entry.deleted;
    this.button('replay').textContent = entry.crashed ? 'Run again' : 'Make again and compare';
    this.draw();
  }

  act(name) {
    const { id } = this.entry;
    if (name === 'replay') this.replay(id);
    else if (name === 'stop') this.ask('stop-replay', { job: this.runs.get(id)?.job });
    else if (name === 'both') this.on.compare([id, this.runs.get(id).entry]);
    else this.save(id, name);
  }

  say(text) {
    this.part('recipe-said').textContent = text;
    this.part('recipe-said').hidden = !text;
  }

  // What is known of the entry's replay; a file's sentence is gone.
  draw() {
    const run = this.runs.get(this.entry.id);
    this.say(run?.text || '');
    this.button('replay').disabled = Boolean(run?.running);
    this.button('stop').hidden = !run?.running;
    this.button('both').hidden = !run?.entry;
  }

  async save(id, kind) {
    this.say('Writing it\u2026');
    const found = await this.ask('recipe', { ids: [id], kind });
    if (this.entry.id !== id) return;
    this.say(found.problem || `Saved as ${found.name}.`);
    if (found.problem) return;
    const link = document.createElement('a');
    Object.assign(link, { href: found.file.url, download: found.name });
    link.click();
  }

  async replay(id) {
    const set = (run) => { this.runs.set(id, run); if (this.entry.id === id) this.draw(); };
    set({ running: true, text: 'Making it again\u2026' });
    const begun = await this.ask('replay', { ids: [id] });
    if (begun.problem) { set({ text: begun.problem }); return; }
    set({ running: true, text: 'Making it again\u2026', job: begun.job });
    await this.follow(begun.job, set);
    this.on.made();
  }

  async follow(job, set) {
    const found = await this.ask('replayed', { job });
    if (found.problem) { set({ text: found.problem }); return; }
    set({ ...found, job });
    if (!found.running) return;
    await new Promise((done) => { setTimeout(done, 500); });
    await this.follow(job, set);
  }
}
