// Save panel: asks for a file, downloads it when it comes, and leaves a link.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const buttons = [...element.querySelectorAll('[data-kind]')];
let lens = 'x0';
let run = '';
let waiting = null;
let count = 0;

function size(bytes) {
  return bytes < 1e6 ? `${Math.max(1, Math.round(bytes / 1e3))} KB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function busy(on) {
  for (const button of buttons) button.disabled = on;
}

function fail(text) {
  part('problem').textContent = text;
  part('problem').hidden = !text;
}

function ask(button) {
  count += 1;
  waiting = { ask: `${Date.now()}-${count}`, said: button.textContent };
  busy(true);
  fail('');
  part('state').textContent = `${button.textContent}: making the file`;
  trigger('export', { kind: button.dataset.kind, lens, ask: waiting.ask });
}

function keep(value) {
  const item = document.createElement('li');
  const link = document.createElement('a');
  link.href = value.file.url;
  link.download = value.name;
  link.textContent = value.name;
  item.append(link, document.createTextNode(` ${size(value.bytes)}`));
  part('files').prepend(item);
  link.click();
  part('state').textContent = 'Saved. The link below fetches it once more';
}

function name() {
  part('lens').textContent = props.value?.lenses?.[lens] || 'What the model believes (predicted x0)';
}

function take(value) {
  if (value && value.run !== undefined && value.run !== run) {
    run = value.run;
    part('files').replaceChildren();
    part('state').textContent = '';
    fail('');
  }
  name();
  if (!value || !waiting || value.ask !== waiting.ask) return;
  waiting = null;
  busy(false);
  if (value.problem) { part('state').textContent = ''; fail(value.problem); } else keep(value);
}

function follow(event) {
  if (!element.isConnected) { document.removeEventListener('playground:step', follow); return; }
  if (event.detail?.lens && event.detail.lens !== lens) { lens = event.detail.lens; name(); }
}

for (const button of buttons) button.addEventListener('click', () => ask(button));
document.addEventListener('playground:step', follow);
watch('value', () => take(props.value));
take(props.value);
document.dispatchEvent(new CustomEvent('playground:where'));
