// Buttons that request a file: one is made at a time and downloaded, and its link stays.
class Saving {
  // element: holds the buttons ([data-kind]) and the parts "state", "problem" and "files".
  // send: sends a request, given the format and the token that its answer carries.
  constructor(element, send) {
    this.part = (name) => element.querySelector(`[data-part="${name}"]`);
    this.buttons = [...element.querySelectorAll('[data-kind]')];
    this.send = send;
    this.waiting = '';
    this.count = 0;
    for (const button of this.buttons) button.addEventListener('click', () => this.ask(button));
  }

  ask(button) {
    this.count += 1;
    this.wait(`${Date.now()}-${this.count}`);
    this.say(`${button.textContent}: making the file`);
    this.send(button.dataset.kind, this.waiting);
  }

  // An answer, or a value that is not an answer.
  take(value) {
    if (!value || !this.waiting || value.ask !== this.waiting) return;
    this.wait('');
    if (value.problem) this.say('', value.problem); else this.keep(value);
  }

  // Another run: its list of files is empty.
  clear() {
    this.part('files').replaceChildren();
    this.say('');
  }

  // The token of the pending request, '' for none.
  wait(mark) {
    this.waiting = mark;
    for (const button of this.buttons) button.disabled = Boolean(mark);
  }

  say(text, problem = '') {
    this.part('state').textContent = text;
    this.part('problem').textContent = problem;
    this.part('problem').hidden = !problem;
  }

  keep(value) {
    const item = document.createElement('li');
    const link = document.createElement('a');
    link.href = value.file.url;
    link.download = value.name;
    link.textContent = value.name;
    item.append(link, document.createTextNode(` ${this.size(value.bytes)}`));
    this.part('files').prepend(item);
    link.click();
    this.say('Saved. The link below fetches it once more');
  }

  size(bytes) {
    return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
  }
}
