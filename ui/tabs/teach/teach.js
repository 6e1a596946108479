// Teaching a model a new word: what is given on one side, what is learnt on the other.  All text by textContent.
const root = element.querySelector('.teach');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const act = (name) => root.querySelector(`[data-do="${name}"]`);
const ASKS_MS = 700;
const NOTE_MS = 400;
const ADDRESS = /^#\/teach\/(run-\d+)\/(\d{1,6})$/;
const HELD = new Set(['paused', 'stopped', 'failed']);
const GOING = new Set(['waiting', 'drawing', 'training']);
const calls = new Calls((fields) => trigger('ask', fields));
let report = null;
let preset = root.querySelector('[data-preset][aria-pressed="true"]').dataset.preset;
let models = [];
let timer = 0;
// What the address names and is not on view yet.
let wanted = location.hash.match(ADDRESS);

function say(problem) {
  part('problem').textContent = problem || '';
  part('problem').hidden = !problem;
}

const given = new TaughtPictures(part, { ask: (what, fields) => calls.ask(what, fields), send: (file) => upload(file), say, changed: tell });
const paper = new Paper(root, { drawn: (file) => given.add([file]) });
const timeline = new TrainingTimeline(part, {
  pictures: (step) => calls.ask('pictures', { step }),
  chosen: (step, byHand) => {
    part('saved').textContent = '';
    // The latest checkpoint needs no address: it changes while it learns.
    if (byHand) place(timeline.follows ? [] : [report.run, String(step)]);
  },
});

function place(parts) {
  document.dispatchEvent(new CustomEvent('playground:place', { detail: { tab: 'teach', parts, replace: true } }));
}

// Shows the checkpoint that the address names, once it is there.
function show() {
  if (!wanted || !report || report.run !== wanted[1] || !timeline.known.has(Number(wanted[2]))) return;
  timeline.choose(Number(wanted[2]));
  timeline.follows = false;
  wanted = null;
}

// -- what is on view -----------------------------------------------------------------------------------------------
function tell() {
  const n = given.all.length;
  const word = part('word').value.trim();
  part('count').textContent = n ? `${n} picture${n === 1 ? '' : 's'}` : 'or drop them here';
  given.hint(word);
  const model = models.find((each) => each.id === part('model').value);
  if (model) part('setting').placeholder = model.setting.replace('WORD', word || 'zorp');
  const state = report?.state || 'empty';
  root.dataset.state = state;
  const going = GOING.has(state);
  act('begin').disabled = going;
  act('pause').hidden = !going;
  act('resume').hidden = !HELD.has(state);
  act('stop').hidden = !going && state !== 'paused';
  act('download').hidden = !report?.export;
  part('progress').textContent = report ? words(report) : '';
}

function words({ state, stopping, step, steps, own, seconds, memory, early, word, model, knows_word: known }) {
  const [trained, redrawn, drew] = seconds;
  const room = memory && memory[0] >= 5e7 ? ` It takes ${(memory[0] / 1e9).toFixed(1)} GB besides the model; ${(memory[1] / 1e9).toFixed(1)} GB are free.` : '';
  const meant = known && GOING.has(state) ? ` ${model} reads \u201c${word}\u201d as a word of its own, so what it draws for it changes.` : '';
  if (state === 'waiting') return `${model} is being made ready.${room}${meant}`;
  if (state === 'drawing') return `${model} draws pictures of its own, so that it keeps what it can: ${own[0]} of ${own[1]}.${room}${meant}`;
  if (stopping && state === 'training') return 'Stopped after this step; what it has learned is being drawn. Press Stop again to leave that out.';
  const how = {
    training: `Learning \u201c${word}\u201d`, paused: 'Paused', stopped: 'Stopped', failed: 'Ended',
    done: early ? 'Ended early, as pictures that it was not shown got no better' : 'Learned',
  }[state];
  const time = trained ? ` ${trained.toFixed(0)} s of training, ${redrawn.toFixed(0)} s of redrawing, ${drew.toFixed(0)} s of its own pictures.` : '';
  return `${how}: step ${step} of ${steps}.${time}${state === 'training' ? room + meant : ''}`;
}

async function take(found) {
  if (found.guest) {
    say(found.problem);
    for (const button of root.querySelectorAll('.given button, .given input, .given select')) button.disabled = true;
    return;
  }
  if (found.report === undefined) return;
  report = found.report;
  tell();
  if (!report) return;
  if (report.problem) say(report.problem);
  await timeline.take(report);
  show();
}

// What the latest run was taught, to be taught again with other pictures or settings.
async function refill() {
  if (!report || given.all.length || part('word').value) return;
  const { asked, changed, word, way, given: count } = report;
  part('word').value = word;
  if (models.some(({ id }) => id === asked.id)) part('model').value = asked.id;
  spoken = word;
  tell();
  if (asked.setting !== part('setting').placeholder) part('setting').value = asked.setting;
  part('licence').value = asked.licence;
  choose(asked.preset);
  root.querySelector(`[name="teach-way"][value="${way}"]`).checked = true;
  for (const [name, value] of Object.entries(changed)) {
    const choices = root.querySelector(`[data-changed="${name}"]`);
    const found = [...choices.options].find((each) => each.value && Number(each.value) === value);
    if (found) choices.value = found.value;
  }
  for (let number = 0; number < count; number += 1) {
    // oxlint-disable-next-line no-await-in-loop
    const found = await calls.ask('given', { number });
    if (found.picture) given.put(found.picture, found.caption === `a ${word}` ? '' : found.caption);
  }
}

function choose(name) {
  preset = name;
  for (const each of root.querySelectorAll('[data-preset]')) each.setAttribute('aria-pressed', each.dataset.preset === name);
}

// The word as it stands in what was written of the pictures.
let spoken = '';
function rename() {
  const word = part('word').value.trim();
  if (!word) return;
  if (spoken) for (const text of [part('setting'), ...given.texts()]) text.value = text.value.replaceAll(spoken, () => word);
  spoken = word;
}

let noting = 0;
function note() {
  clearTimeout(noting);
  noting = setTimeout(async () => {
    const found = await calls.ask('word', { word: part('word').value.trim(), model: part('model').value }, { latest: true });
    if (found) part('note').textContent = found.note || '';
  }, NOTE_MS);
}

async function follow() {
  clearTimeout(timer);
  if (!root.isConnected || !report || !GOING.has(report.state)) {
    // The last pictures may come after the last step.
    return;
  }
  timer = setTimeout(async () => {
    if (document.visibilityState === 'visible') await take(await calls.ask('report'));
    follow();
  }, ASKS_MS);
}

async function ask(what, fields) {
  const found = await calls.ask(what, fields);
  say(found.problem);
  await take(found);
  follow();
  return found;
}

// -- what the user does -------------------------------------------------------------------------------------------
async function begin() {
  const changed = {};
  for (const choice of root.querySelectorAll('[data-changed]')) if (choice.value) changed[choice.dataset.changed] = Number(choice.value);
  const way = root.querySelector('[name="teach-way"]:checked').value;
  const word = part('word').value.trim();
  act('begin').disabled = true;
  await ask('begin', {
    model: part('model').value, word, way, preset, changed, pictures: given.values(),
    setting: part('setting').value.trim() || part('setting').placeholder, licence: part('licence').value.trim(),
  });
  tell();
  wanted = null;
  place([]);
}

async function openPicker() {
  const found = await calls.ask('recent');
  if (found.problem) { say(found.problem); return; }
  part('entries').replaceChildren(...found.entries.map(([entry, uri, title]) => {
    const button = Object.assign(document.createElement('button'), { type: 'button', title });
    button.append(Object.assign(document.createElement('img'), { src: uri, alt: title || 'A picture' }));
    button.setAttribute('aria-pressed', 'false');
    button.addEventListener('click', () => { button.setAttribute('aria-pressed', 'true'); given.take(entry); });
    return button;
  }));
  part('picker').showModal();
}

for (const button of root.querySelectorAll('[data-preset]')) button.addEventListener('click', () => choose(button.dataset.preset));
for (const name of ['word', 'model']) part(name).addEventListener('input', () => { tell(); note(); });
part('word').addEventListener('change', rename);
act('choose').addEventListener('click', () => part('files').click());
act('draw').addEventListener('click', () => paper.open());
act('recent').addEventListener('click', openPicker);
act('close-picker').addEventListener('click', () => part('picker').close());
act('begin').addEventListener('click', begin);
for (const name of ['pause', 'resume', 'stop']) act(name).addEventListener('click', () => ask(name));
act('save').addEventListener('click', async () => {
  const found = await calls.ask('save', { step: timeline.step });
  say(found.problem);
  part('saved').textContent = found.saved || '';
});
act('download').addEventListener('click', async () => {
  const found = await calls.ask('download', { step: timeline.step });
  say(found.problem);
  if (found.file) Object.assign(document.createElement('a'), { href: found.file, download: found.name }).click();
});

watch('value', () => calls.take(props.value));
function opened({ detail }) {
  if (!root.isConnected) { document.removeEventListener('playground:open', opened); return; }
  if (detail.tab !== 'teach') return;
  wanted = location.hash.match(ADDRESS);
  show();
}
document.addEventListener('playground:open', opened);
// The latest run is looked up when the tab is first seen, and later whether another page has begun one.
let looked = false;
async function lookAgain() {
  if (!looked || !root.offsetParent || (report && GOING.has(report.state))) return;
  await take(await calls.ask('report'));
  follow();
}
function visible() {
  if (!root.isConnected) { document.removeEventListener('visibilitychange', visible); return; }
  if (document.visibilityState === 'visible') lookAgain();
}
document.addEventListener('visibilitychange', visible);
const seen = new IntersectionObserver(async (entries) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  if (looked) { await lookAgain(); return; }
  looked = true;
  const found = await calls.ask('open');
  models = found.models || [];
  part('model').replaceChildren(...models.map(({ id, name }) => new Option(name, id)));
  act('recent').hidden = !found.history;
  await take(found);
  tell();
  follow();
  await refill();
});
seen.observe(root);
tell();
