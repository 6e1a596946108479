// Search and filters: what they ask for, and how the address says it ("q=fox&model=pocket").
class FilterBar {
  // state: { favourite, bin }.
  constructor(element, part, state) {
    Object.assign(this, { part, state, selects: [...element.querySelectorAll('[data-filter]')] });
    this.star = element.querySelector('[data-do="favourites"]');
    this.clears = element.querySelector('.filters [data-do="clear"]');
  }

  wanted() {
    const found = { ...this.state, text: this.part('search').value };
    for (const select of this.selects) found[select.dataset.filter] = select.value;
    const date = this.part('date').value;
    if (date === 'range') Object.assign(found, { after: this.day(this.part('from').value), before: this.day(this.part('to').value, true) });
    else if (date) found.after = this.days(Number(date));
    return found;
  }

  days(count) {
    const midnight = new Date();
    midnight.setHours(0, 0, 0, 0);
    return midnight.getTime() / 1000 - (count - 1) * 86400;
  }

  day(text, later) { return text ? new Date(`${text}T00:00:00`).getTime() / 1000 + (later ? 86400 : 0) : null; }

  narrow() {
    return Object.values({ ...this.wanted(), bin: false }).some((value) => (typeof value === 'string' ? value.trim() : value));
  }

  // For the address.
  query() {
    const found = new URLSearchParams();
    const set = (name, value) => { if (value) found.set(name, value); };
    set('q', this.part('search').value.trim());
    for (const select of this.selects) set(select.dataset.filter, select.value);
    set('days', this.part('date').value);
    if (this.part('date').value === 'range') for (const name of ['from', 'to']) set(name, this.part(name).value);
    set('favourite', this.state.favourite ? '1' : '');
    return String(found);
  }

  // Take over an address's query; whether it is another one than before.
  read(text) {
    const before = this.query();
    const asked = new URLSearchParams(text);
    const value = (name) => (asked.get(name) || '').slice(0, 300);
    this.part('search').value = value('q');
    for (const select of this.selects) this.choose(select, value(select.dataset.filter));
    const { options } = this.part('date');
    this.part('date').value = [...options].some((option) => option.value === value('days')) ? value('days') : '';
    for (const name of ['from', 'to']) this.part(name).value = value(name);
    this.state.favourite = value('favourite') === '1';
    this.draw();
    return this.query() !== before;
  }

  // What the address names stays chosen, also where no picture has it.
  choose(select, value) {
    if (value && ![...select.options].some((option) => option.value === value)) select.add(new Option(value, value));
    select.value = value;
    if (value) select.hidden = select.parentElement.hidden = false;
  }

  draw() {
    this.part('range').hidden = this.part('date').value !== 'range';
    for (const select of this.part('filters').querySelectorAll('select')) select.classList.toggle('set', Boolean(select.value));
    this.star.setAttribute('aria-pressed', this.state.favourite);
    this.clears.hidden = !this.narrow();
  }
}
