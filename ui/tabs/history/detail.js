// When something was made, in this browser's own time.
function moment(seconds) {
  return new Date(seconds * 1000).toLocaleString([], { dateStyle: 'medium', timeStyle: 'short' });
}

function fillList(list, rows) {
  list.replaceChildren(...rows.flatMap(([label, value]) => {
    const [name, text] = [document.createElement('dt'), document.createElement('dd')];
    name.textContent = label;
    text.textContent = value;
    return [name, text];
  }));
}

// The endings of the files that a picture can be saved as, and the names of their formats.
const FORMATS = { png: 'PNG', jpg: 'JPEG', webp: 'WebP' };

function endingOf(name) { return name.split('.').pop().toLowerCase().replace('jpeg', 'jpg'); }

// One entry with all that is known of it.
class Detail {
  // on: { open(id), tag(id, add, remove), send(id, to, what), ask(what, fields), compare(ids), made() }.
  constructor(part, on) {
    this.part = part;
    this.on = on;
    this.entry = null;
    this.family = new Family(part('branches'), on.open, (one) => pictureUrl('thumbnail', one.id), NO_PROMPT);
    this.recipe = new Recipe(part, on.ask, on);
    part('add-tag').addEventListener('submit', (event) => { event.preventDefault(); this.addTag(); });
    part('tags').addEventListener('click', (event) => {
      const { tag } = event.target.closest('button')?.dataset || {};
      if (tag) on.tag(this.entry.id, [], [tag]);
    });
    part('detail').addEventListener('click', (event) => {
      const { to, send } = event.target.closest('[data-send]')?.dataset || {};
      if (to) on.send(this.entry.id, to, send);
    });
    new ResizeObserver(() => this.fit()).observe(part('mat'));
    part('picture').addEventListener('load', () => this.fit());
    part('format').addEventListener('change', () => this.links());
  }

  addTag() {
    const field = this.part('new-tag');
    if (field.value.trim()) this.on.tag(this.entry.id, [field.value], []);
    field.value = '';
  }

  show(entry) {
    this.entry = entry;
    const { part } = this;
    part('picture').hidden = !entry.picture;
    part('no-picture').hidden = entry.picture;
    part('no-picture').textContent = entry.crashed
      ? `The program ended during this run. ${entry.recipe ? 'Run again, under Recipe, makes the whole run.' : 'Its settings are here as they were written.'}` : 'The file of this picture is missing.';
    if (entry.picture) {
      part('picture').src = pictureUrl('picture', entry.id);
      part('picture').alt = entry.prompt || NO_PROMPT;
    } else part('picture').removeAttribute('src');
    this.formats(entry);
    part('prompt').textContent = entry.prompt || NO_PROMPT;
    part('about').textContent = [entry.kind, moment(entry.made), entry.guest && 'made by a guest', entry.deleted && 'in the bin'].filter(Boolean).join(' \u00b7 ');
    this.lists(entry);
    this.recipe.show(entry);
    this.line(entry.timeline);
    part('use').hidden = !entry.usable && !entry.picture;
    for (const button of part('use').querySelectorAll('[data-send]')) {
      const { send } = button.dataset;
      button.hidden = send === 'steps' ? !entry.timeline.kept : send === 'typed' ? !entry.typed : send === 'picture' ? !entry.picture : !entry.usable || (send === 'both' && !entry.picture);
    }
    for (const group of part('use').children) group.hidden = !group.querySelector('button:not([hidden])');
    this.favourite(entry.favourite);
    this.tags(entry.tags);
    part('family').hidden = !entry.family.members.length;
    this.family.show(entry.family, entry.id);
    part('detail').querySelector('.known').scrollTop = 0;
    this.fit();
  }

  // The formats that the picture can be saved in; its own is chosen: that is the file as it was made.
  formats(entry) {
    const { part } = this;
    part('format').parentElement.hidden = !entry.picture;
    part('format').replaceChildren(...Object.entries(FORMATS).map(([ending, name]) => new Option(name, ending)));
    part('format').value = endingOf(entry.name);
    this.links();
  }

  // The links to the picture's file in the chosen format.
  links() {
    const { entry, part } = this;
    const { value } = part('format');
    const same = !value || value === endingOf(entry.name);
    for (const [link, kind] of [['download', 'picture'], ['plain', 'plain']]) {
      part(link).hidden = !entry.picture;
      part(link).href = pictureUrl(kind, entry.id) + (same ? '' : `?format=${value.replace('jpg', 'jpeg')}`);
      part(link).download = same ? entry.name : `${entry.name.replace(/\.[^.]*$/, '')}.${value}`;
    }
  }

  lists(entry) {
    fillList(this.part('settings'), entry.settings.map(([, label, value]) => [label, value]));
    fillList(this.part('facts'), entry.facts.map(([, label, value]) => [label, value]));
    this.part('settings-box').hidden = !entry.settings.length;
    this.part('facts-box').hidden = !entry.facts.length;
    this.part('notes').replaceChildren(...entry.notes.map((text) => Object.assign(document.createElement('li'), { textContent: text })));
  }

  line({ strip, text }) {
    this.part('line').hidden = !strip;
    if (strip) this.part('strip').src = strip;
    this.part('line-text').textContent = text;
  }

  favourite(on) {
    this.entry.favourite = on;
    this.part('detail').querySelector('[data-do="star"]').setAttribute('aria-pressed', on);
  }

  tags(tags) {
    this.entry.tags = tags;
    this.part('tags').replaceChildren(...tags.map((tag) => {
      const [item, button] = [document.createElement('li'), document.createElement('button')];
      item.className = 'tag';
      item.append(tag, button);
      Object.assign(button, { type: 'button', textContent: '\u00d7' });
      button.dataset.tag = tag;
      button.setAttribute('aria-label', `Remove the tag ${tag}`);
      return item;
    }));
  }

  // Small pictures at a whole multiple of their size, three times at most; large ones fit.
  fit() {
    const { entry, part } = this;
    if (!entry?.picture) { part('caption').textContent = ''; return; }
    const image = part('picture');
    const [width, height] = [image.naturalWidth || entry.size[0], image.naturalHeight || entry.size[1]];
    const [wide, high] = [part('mat').clientWidth - 32, part('mat').clientHeight - 32];
    if (!width || wide <= 0 || high <= 0) return;
    const room = Math.min(wide / width, high / height);
    const times = room >= 1 ? Math.min(3, Math.floor(room)) : room;
    image.style.width = `${width * times}px`;
    image.style.height = `${height * times}px`;
    part('caption').textContent = `${width} \u00d7 ${height}${times > 1 ? `, shown ${times}\u00d7` : times < 1 ? `, shown at ${Math.round(times * 100)}%` : ''}`;
  }
}
