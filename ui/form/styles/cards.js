// The styles of the dialog as cards with their pictures; one Tab stop, the arrows move among them.
class StyleCards {
  // on: { toggle(name), remove(name) }.
  constructor(host, on) {
    this.host = host;
    this.on = on;
    host.addEventListener('keydown', (event) => this.move(event));
  }

  show(styles, chosen) {
    this.styles = styles;
    const focused = this.host.contains(document.activeElement) ? document.activeElement.dataset.name : null;
    this.host.replaceChildren(...styles.map((style, k) => this.card(style, k)));
    this.mark(chosen);
    if (focused) this.button(focused)?.focus();
  }

  card(style, k) {
    const button = document.createElement('button');
    Object.assign(button, { type: 'button', className: 'card', tabIndex: k ? -1 : 0 });
    button.dataset.name = style.name;
    button.title = [style.prompt, style.negative && `Negative: ${style.negative}`].filter(Boolean).join('\n');
    const name = document.createElement('span');
    name.className = 'name';
    name.textContent = style.name;
    button.append(this.face(style), name);
    button.addEventListener('click', () => { this.stop(button); this.on.toggle(style.name); });
    const card = document.createElement('div');
    card.className = 'card-host';
    card.append(button);
    if (style.own) card.append(this.remover(style));
    return card;
  }

  // The picture, or the words until there is one.
  face(style) {
    const face = document.createElement(style.picture ? 'img' : 'span');
    face.className = 'face';
    if (style.picture) Object.assign(face, { src: style.picture, alt: '' });
    else { face.textContent = style.prompt || `not ${style.negative}`; face.setAttribute('aria-hidden', 'true'); }
    return face;
  }

  remover(style) {
    const remove = document.createElement('button');
    Object.assign(remove, { type: 'button', className: 'remove', textContent: 'Remove' });
    remove.setAttribute('aria-label', `Remove ${style.name}`);
    remove.addEventListener('click', () => this.on.remove(style.name));
    return remove;
  }

  picture(name, uri) {
    const style = this.styles?.find((one) => one.name === name);
    if (!style) return;
    style.picture = uri;
    this.button(name)?.querySelector('.face').replaceWith(this.face(style));
  }

  mark(chosen) {
    for (const button of this.buttons) button.setAttribute('aria-pressed', String(chosen.includes(button.dataset.name)));
  }

  find(query) {
    const wanted = query.trim().toLowerCase();
    this.styles?.forEach((style, k) => {
      const text = `${style.name} ${style.prompt}`.toLowerCase();
      this.host.children[k].hidden = Boolean(wanted) && !text.includes(wanted);
    });
    const found = this.visible;
    if (found.length && !found.some((button) => button.tabIndex === 0)) this.stop(found[0]);
    return found.length;
  }

  get buttons() { return [...this.host.querySelectorAll('.card')]; }

  get visible() { return this.buttons.filter((button) => !button.parentElement.hidden); }

  button(name) { return this.buttons.find((button) => button.dataset.name === name); }

  stop(button) { for (const each of this.buttons) each.tabIndex = each === button ? 0 : -1; }

  move(event) {
    const all = this.visible;
    const at = all.indexOf(document.activeElement);
    if (at < 0) return;
    const columns = Math.max(1, all.filter((button) => button.offsetTop === all[0].offsetTop).length);
    const to = { ArrowRight: at + 1, ArrowLeft: at - 1, ArrowDown: at + columns, ArrowUp: at - columns, Home: 0, End: all.length - 1 }[event.key];
    if (to === undefined) return;
    event.preventDefault();
    if (all[to]) { this.stop(all[to]); all[to].focus(); }
  }
}
