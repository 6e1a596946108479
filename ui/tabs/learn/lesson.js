// The lesson: one chapter on view, a question to guess, and the address #/learn/<chapter>/<what it shows>.  Text by textContent alone.
const KEPT = 'diffusion-playground-lesson';
// The address follows what a chapter shows no more often than this.
const PLACE_MS = 250;
const root = element.querySelector('.lesson');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const act = (name) => root.querySelector(`[data-do="${name}"]`);
const screen = () => document.getElementById('learn');
const visible = () => element.isConnected && element.offsetParent !== null;
const saving = new Saving(root, (kind, token) => { act('quit').hidden = false; trigger('save', { ask: token }); });
let chapters = [];
let run = '';
// Guesses by the chapter's title: chapters may be added in between.
let guesses = {};
let at = 0;
let asked = -1;
// What the chapter on view shows, as the address says it.
let shown = [];
let later = 0;

try {
  const known = JSON.parse(localStorage.getItem(KEPT) || 'null') || {};
  if (known.guesses && typeof known.guesses === 'object') guesses = known.guesses;
  if (Number.isInteger(known.at)) at = known.at;
} catch { /* nothing is kept */ }
const [, first, ...rest] = location.hash.replace(/^#\/?/, '').split('?')[0].split('/').filter(Boolean);
if (/^#\/?learn\/\d{1,2}(\/|\?|$)/.test(location.hash)) { at = Number(first) - 1; shown = rest; }
at = Math.max(at, 0);

function keep() { try { localStorage.setItem(KEPT, JSON.stringify({ at, guesses })); } catch { /* nothing is kept */ } }

function make(tag, text, kind) {
  const found = document.createElement(tag);
  found.textContent = text;
  if (kind) found.className = kind;
  if (tag === 'button') found.type = 'button';
  return found;
}

function ask() {
  if (asked === at || !visible()) return;
  asked = at;
  trigger('turn', { chapter: at });
}

function place(replace) {
  clearTimeout(later);
  document.dispatchEvent(new CustomEvent('playground:place', { detail: { tab: 'learn', parts: [String(at + 1), ...shown], replace } }));
}

// The chapter's own part shows what the address names, at once or when it has it.
function tellState() {
  if (chapters[at]) document.dispatchEvent(new CustomEvent('playground:lesson-go', { detail: { live: chapters[at].live, state: shown } }));
}

function turn(to, focus = true, state = []) {
  // The address is read before the chapters are known; take() holds it within them.
  if (!chapters.length) { at = Math.max(to, 0); shown = state; ask(); return; }
  const wanted = Math.min(Math.max(to, 0), chapters.length - 1);
  if (wanted === at && screen()?.dataset.chapter === String(at)) {
    if (state.join('/') !== shown.join('/')) { shown = state; tellState(); }
    return;
  }
  at = wanted;
  shown = state;
  keep();
  draw();
  ask();
  place(false);
  tellState();
  if (focus) { part('title').focus({ preventScroll: true }); if (element.getBoundingClientRect().top < 0) element.scrollIntoView({ block: 'start' }); }
}

function draw() {
  const chapter = chapters[at];
  if (!chapter) return;
  const where = screen();
  where.dataset.live = chapter.live;
  where.dataset.chapter = at;
  part('list').replaceChildren(...chapters.map((each, i) => {
    const item = document.createElement('li');
    const button = make('button', String(i + 1), each.title in guesses ? 'guessed' : '');
    button.title = each.title;
    button.setAttribute('aria-label', `Chapter ${i + 1}: ${each.title}${each.title in guesses ? ', answered' : ''}`);
    if (i === at) button.setAttribute('aria-current', 'step');
    button.addEventListener('click', () => turn(i));
    item.append(button);
    return item;
  }));
  const right = chapters.filter((each) => guesses[each.title] === each.right).length;
  const done = chapters.filter((each) => each.title in guesses).length;
  part('count').textContent = `Chapter ${at + 1} of ${chapters.length}${done ? `, guessed right ${right} of ${done}` : ''}`;
  part('title').textContent = chapter.title;
  part('text').replaceChildren(...chapter.text.map((text) => make('p', text)));
  act('more').hidden = !chapter.more[0] || !run;
  act('more').textContent = chapter.more[0] ? `More: ${chapter.more[0]}` : '';
  drawQuestion(chapter);
  act('back').disabled = at === 0;
  act('next').disabled = at === chapters.length - 1;
}

function drawQuestion(chapter) {
  const guess = guesses[chapter.title];
  const told = guess !== undefined;
  part('question').textContent = chapter.question;
  part('answers').replaceChildren(...chapter.answers.map((text, i) => {
    const button = make('button', text, 'answer');
    button.disabled = told;
    if (told && i === chapter.right) button.dataset.is = 'right';
    else if (told && i === guess) button.dataset.is = 'wrong';
    button.addEventListener('click', () => { guesses[chapter.title] = i; keep(); draw(); });
    return button;
  }));
  part('why').textContent = told ? `${guess === chapter.right ? 'Right.' : 'Not quite.'} ${chapter.why}` : 'Guess first; the answer follows.';
}

function take(value) {
  if (!value) return;
  if (value.saving) { part('state').textContent = value.saving; return; }
  if (value.ask) { act('quit').hidden = true; saving.take(value); return; }
  chapters = value.chapters;
  run = value.run;
  part('whose').textContent = value.whose;
  at = Math.min(at, chapters.length - 1);
  draw();
  tellState();
  if (asked !== at) ask();
}

// -- a whole room: large type, one chapter on the screen, arrow keys ------------------------------------------------
function project(on) {
  const where = screen();
  where.classList.toggle('projected', on);
  document.documentElement.classList.toggle('lesson-projected', on);
  act('project').setAttribute('aria-pressed', on);
  act('project').textContent = on ? 'End' : 'Projector';
}

function keys(event) {
  if (!element.isConnected) { document.removeEventListener('keydown', keys, true); return; }
  if (!screen()?.classList.contains('projected') || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === 'Escape') { project(false); event.stopPropagation(); return; }
  const by = { ArrowRight: 1, PageDown: 1, ArrowLeft: -1, PageUp: -1 }[event.key];
  if (!by || event.target.closest?.('input, select, textarea, [role="slider"], [role="application"]')) return;
  event.preventDefault();
  event.stopPropagation();
  turn(at + by);
}

document.addEventListener('keydown', keys, true);
act('back').addEventListener('click', () => turn(at - 1));
act('next').addEventListener('click', () => turn(at + 1));
act('project').addEventListener('click', () => project(!screen().classList.contains('projected')));
act('sheet').addEventListener('click', () => saveSheet(chapters));
act('quit').addEventListener('click', () => {
  act('quit').hidden = true;
  saving.wait('');
  saving.say('Stopped. Nothing was saved.');
  trigger('quit');
});
// The tab of the panel is chosen once Denoising is on view.
act('more').addEventListener('click', () => {
  const panel = chapters[at].more[1];
  project(false);
  trigger('look', { run });
  setTimeout(() => document.querySelector(`#panels > .tab-wrapper button[data-tab-id="${panel}"]`)?.click(), 600);
});
const opens = ({ detail: { tab, parts } }) => {
  if (!element.isConnected) { document.removeEventListener('playground:open', opens); return; }
  if (tab === 'learn' && /^\d{1,2}$/.test(parts[0] || '')) turn(Number(parts[0]) - 1, false, parts.slice(1));
};
document.addEventListener('playground:open', opens);
const shows = ({ detail: { live, state } }) => {
  if (!element.isConnected) { document.removeEventListener('playground:lesson', shows); return; }
  if (chapters[at]?.live !== live || state.join('/') === shown.join('/')) return;
  shown = state;
  clearTimeout(later);
  later = setTimeout(() => place(true), PLACE_MS);
};
document.addEventListener('playground:lesson', shows);
// Another run may have been made meanwhile: the chapter is asked for whenever the tab comes into view.
new IntersectionObserver((seen) => {
  if (!seen.some((one) => one.isIntersecting)) { if (!visible()) asked = -1; return; }
  ask();
  place(true);
}).observe(root);
watch('value', () => take(props.value));
take(props.value);
