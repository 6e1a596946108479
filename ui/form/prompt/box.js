// The prompt box of the form that a component belongs to, and small words of English.
class PromptBox {
  constructor(component) { this.component = component; }

  get form() { return this.component.closest('.workspace'); }

  get field() { return (this.form || document).querySelector('.prompt textarea'); }

  get text() { return this.field?.value ?? ''; }

  // Replaces a part of the prompt like typing, so that it can be undone like typing, in browsers that support it.
  put(text, start, end) {
    const { field } = this;
    field.focus();
    field.setSelectionRange(start, end);
    if (document.execCommand?.('insertText', false, text)) return;
    field.setRangeText(text, start, end, 'end');
    field.dispatchEvent(new Event('input', { bubbles: true }));
  }

  fill(text) {
    if (!this.field) return;
    this.field.value = text;
    this.field.dispatchEvent(new Event('input', { bubbles: true }));
  }

  // Draws once the page has taken in the prompt; where drafts are drawn while typing, the change itself draws.
  fillAndDraw(text) {
    this.fill(text);
    if (this.draws) setTimeout(() => this.generate(this.form.wish = { text }), 120);
  }

  // After the picture that is being made, unless that is stopped, other words are typed or something else is wished for.
  generate(wish) {
    const { form } = this;
    if (form.wish !== wish || this.text !== wish.text) return;
    if (form.dataset.busy !== 'yes') { form.querySelector('.generate-button')?.click(); return; }
    const next = () => { if (form.querySelector('.stage')?.dataset.state !== 'stopped') this.generate(wish); };
    document.addEventListener('playground:shown', () => setTimeout(next), { once: true });
  }

  get draws() {
    const { form } = this;
    if (!form || form.querySelector('#drafts input')?.checked) return false;
    // Image to image needs an image first.
    return !form.querySelector('.source-group') || Boolean(form.querySelector('.source-group img'));
  }

  static withArticle(name) {
    if (/[^sui]s$/i.test(name)) return name;
    return `${/^[aeiou]/i.test(name) && !/^(uni|eu|uku)/i.test(name) ? 'an' : 'a'} ${name}`;
  }

  static chip(text, title, act) {
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'chip';
    button.textContent = text;
    button.title = title;
    button.addEventListener('click', act);
    return button;
  }
}
