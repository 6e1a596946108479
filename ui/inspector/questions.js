// Five questions, one at a time: words as text, and a button that moves the player.  For the page and for the capsule.
class Questions {
  constructor(root) {
    this.root = root;
    this.list = this.part('list');
    this.all = [];
    this.run = '';
    this.at = 0;
    this.memory = '';
    this.part('back').addEventListener('click', () => this.turn(-1, 'back'));
    this.part('next').addEventListener('click', () => this.turn(1, 'next'));
    this.part('show').addEventListener('click', () => {
      const question = this.all[this.at];
      if (question) document.dispatchEvent(new CustomEvent('playground:go', { detail: question.go }));
    });
    this.take([]);
  }

  part(name) { return this.root.querySelector(`[data-part="${name}"]`); }

  take(questions) {
    const fresh = questions || [];
    const run = JSON.stringify(fresh.map((one) => one.text));
    if (run !== this.run) this.at = this.kept(run);
    this.run = run;
    this.all = fresh;
    this.list.replaceChildren(...fresh.map((one) => this.question(one)));
    this.part('empty').hidden = fresh.length > 0;
    this.links();
    this.turn(0);
  }

  // The question that was on view before a reload; a capsule keeps nothing.
  kept(run) {
    try {
      const [of, at] = JSON.parse(this.memory && sessionStorage.getItem(this.memory)) || [];
      return of === run && Number.isInteger(at) ? at : 0;
    } catch { return 0; }
  }

  keep() {
    if (!this.memory || !this.all.length) return;
    try { sessionStorage.setItem(this.memory, JSON.stringify([this.run, this.at])); } catch { /* full, or switched off: nothing is kept */ }
  }

  make(tag, text, kind) {
    const found = document.createElement(tag);
    found.textContent = text;
    if (kind) found.className = kind;
    return found;
  }

  question(one) {
    const item = document.createElement('li');
    item.append(this.make('h2', one.title), ...one.text.map((text) => this.make('p', text)), this.make('p', one.see, 'see'));
    return item;
  }

  turn(by, focus) {
    const items = [...this.list.children];
    this.at = Math.min(Math.max(this.at + by, 0), Math.max(items.length - 1, 0));
    items.forEach((item, i) => { item.hidden = i !== this.at; });
    this.part('bars').replaceChildren(...items.map((_, i) => this.make('i', '', i <= this.at ? 'on' : '')));
    this.part('count').textContent = items.length ? `${this.at + 1} of ${items.length}` : '';
    // A screen reader hears the question, not only its number.
    this.part('said').textContent = items.length ? `Question ${this.at + 1} of ${items.length}: ${this.all[this.at].title}` : '';
    this.part('step').hidden = !items.length;
    this.part('show').setAttribute('aria-label', items.length ? `Show me: ${this.all[this.at].title}` : 'Show me');
    this.part('back').disabled = this.at === 0;
    this.part('next').disabled = this.at === items.length - 1;
    if (by) this.keep();
    if (focus && this.part(focus).disabled) this.part(focus === 'next' ? 'back' : 'next').focus();
  }

  // The other panels lie below the player: a list of them leads there.  A capsule has none.
  links() {
    const tabs = [...document.querySelectorAll('#panels > .tab-wrapper [role="tablist"] > button[data-tab-id]')];
    this.part('more').replaceChildren(...tabs.map((tab) => {
      const link = this.make('button', tab.textContent.trim());
      link.type = 'button';
      link.addEventListener('click', () => {
        tab.click();
        document.getElementById('panels').scrollIntoView({ block: 'start' });
      });
      return link;
    }));
  }
}
