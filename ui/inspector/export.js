// Save panel: every step as the left picture shows it, as a file.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const saving = new Saving(element, (kind, ask) => trigger('export', { kind, lens, ask }));
let lens = 'x0';
let run = '';

function showLens() {
  part('lens').textContent = props.value?.lenses?.[lens] || "The model's guess (predicted x0)";
}

function take(value) {
  if (value && value.run !== undefined && value.run !== run) {
    run = value.run;
    saving.clear();
  }
  showLens();
  saving.take(value);
}

function follow(event) {
  if (!element.isConnected) { document.removeEventListener('playground:step', follow); return; }
  if (event.detail?.lens && event.detail.lens !== lens) { lens = event.detail.lens; showLens(); }
}

document.addEventListener('playground:step', follow);
watch('value', () => take(props.value));
take(props.value);
document.dispatchEvent(new CustomEvent('playground:where'));
