// What the buttons next to errors do in this form (``NEXT_STEPS``): what can be mended here is mended, and the form sent again.
const here = element.closest('.workspace');
const control = (id) => (id ? document.getElementById(id) : null);
const texts = () => [...here.querySelectorAll('.prompt textarea, [id$="negative"] textarea')];
function enter(field, text) {
  field.value = text;
  for (const kind of ['input', 'change', 'blur']) field.dispatchEvent(new Event(kind, { bubbles: true }));
  // Once the page has taken it in.
  setTimeout(() => { if (here.dataset.busy !== 'yes') here.querySelector('.generate-button')?.click(); }, 120);
}
const typed = (id) => control(id)?.querySelector('textarea, input[type="number"], input[type="text"], input:not([type])');
const DOES = {
  generate: () => here.querySelector('.generate-button')?.click(),
  source: () => here.querySelector('#source input[type="file"]')?.click(),
  // The first choice is the whole image.
  whole: () => here.querySelector('#image-mode input[type="radio"]')?.click(),
  fix: ({ fix }) => trigger('fix', { fix }),
  seed({ of }) {
    const field = typed(of);
    if (field) enter(field, String(crypto.getRandomValues(new Uint32Array(1))[0]));
  },
  set({ of, value }) {
    const field = typed(of);
    if (field) enter(field, String(value));
    else [...(control(of)?.querySelectorAll('input[type="radio"]') || [])].find((one) => one.value === String(value))?.click();
  },
  cut({ of, value }) {
    const field = typed(of);
    if (field) enter(field, [...field.value].slice(0, value).join('').trimEnd());
  },
  remove({ value }) {
    const word = value.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
    // Its mark alone, where it has one: the word may stand elsewhere.
    const marks = [`<[a-z]+:${word}(?::[^<>]*)?>|<${word}>|embedding:${word}(?!\\w)`, `(?<!\\w)${word}(?!\\w)`].map((each) => new RegExp(each, 'giu'));
    const [field, mark] = marks.map((each) => [texts().find((one) => one.value.search(each) >= 0), each]).find(([one]) => one) || [];
    if (field) enter(field, field.value.replace(mark, '').replace(/\s*,(?:\s*,)+/g, ',').replace(/ {2,}/g, ' ').replace(/^[\s,]+|[\s,]+$/g, ''));
    // A style or a wildcard has brought it.
    else texts()[0]?.focus();
  },
};
function takeStep(event) {
  if (!element.isConnected) { document.removeEventListener('playground:mend', takeStep); return; }
  const { from, to } = event.detail;
  if (!here.contains(from)) return;
  if (to.startsWith('#/')) location.hash = to;
  else DOES[to]?.(event.detail);
}
document.addEventListener('playground:mend', takeStep);
