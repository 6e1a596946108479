// The tabs share the prompt: a tab whose prompt was not changed since takes over the one of the tab before; else a line
// says that they differ.  All of it from what the browser keeps of the forms.
const note = element.querySelector('.shared');
const box = new PromptBox(element);
const tab = element.closest('[id^="tab-"]')?.id.slice(4);
const FORM = 'diffusion-playground-form-';
const [SAME, LAST] = ['playground-prompt-same', 'playground-prompt-tab'];
// The form's values come back a moment after a tab is first shown.
const SETTLE_MS = 300;
// The other tab's prompt, as the line offers it.
let offered = '';
// Not of this component: without a line to show it is out of the layout itself.
const desk = element.closest('.workspace');
// Asked while the page is built: ``offsetParent`` would lay out all of it.
const onView = () => (desk.checkVisibility ? desk.checkVisibility() : Boolean(desk.offsetParent));
let shown = onView();

function read(key) { try { return sessionStorage.getItem(key); } catch { return null; } }
function write(key, text) { try { sessionStorage.setItem(key, text); } catch { /* full, or switched off */ } }

function promptOf(name) {
  try { return String(JSON.parse(read(FORM + name))[0] ?? ''); } catch { return null; }
}

function take(text) {
  write(SAME, text);
  note.hidden = true;
  if (box.text !== text) box.fill(text);
}

function compare() {
  // On a slow machine the field is laid out later than this line.
  if (!box.field) { later(); return; }
  const from = read(LAST);
  const other = from && from !== tab ? promptOf(from) : null;
  write(LAST, tab);
  note.hidden = true;
  if (other === null) return;
  // All tabs begin with the same prompt.
  const same = read(SAME) ?? props.value;
  if (other === box.text || box.text === same) { take(other); return; }
  note.querySelector('span').textContent = `The other tab has \u201c${other.length > 60 ? `${other.slice(0, 58)}\u2026` : other}\u201d.`;
  offered = other;
  note.hidden = false;
}

function later() { setTimeout(() => { if (onView()) compare(); }, SETTLE_MS); }

note.querySelector('button').addEventListener('click', () => take(offered));
if (tab) {
  // A tab that is opened before it was built comes from another one; the tab that a page begins with does not.
  if (shown && window.playgroundPromptTab) later();
  else if (shown) write(LAST, tab);
  if (shown) window.playgroundPromptTab = tab;
  new ResizeObserver(() => {
    const now = onView();
    if (now) window.playgroundPromptTab = tab;
    if (now && !shown) later();
    shown = now;
  }).observe(desk);
  // A visitor may type here and go on before the tabs were compared.
  desk.addEventListener('input', () => { note.hidden = true; if (onView()) write(LAST, tab); });
}
