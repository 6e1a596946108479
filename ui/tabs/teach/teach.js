// Teaching a model a new word: what is given on one side, what is learnt on the other.  All text by textContent.
const root = element.querySelector('.teach');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const act = (name) => root.querySelector(`[data-do="${name}"]`);
const ASKS_MS = 700;
const HELD = new Set(['paused', 'stopped', 'failed']);
const GOING = new Set(['waiting', 'drawing', 'training']);
const calls = new Calls((fields) => trigger('ask', fields));
let report = null;
let preset = root.querySelector('[data-preset][aria-pressed="true"]').dataset.preset;
let models = [];
let timer = 0;

function say(problem) {
  part('problem').textContent = problem || '';
  part('problem').hidden = !problem;
}

const given = new TaughtPictures(part, { ask: (what, fields) => calls.ask(what, fields), send: (file) => upload(file), say, changed: tell });
const timeline = new TrainingTimeline(part, {
  pictures: (step) => calls.ask('pictures', { step }),
  chosen: () => { part('saved').textContent = ''; },
});

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

function words({ state, step, steps, own, seconds, memory, early, word, model }) {
  const [trained, redrawn, drew] = seconds;
  if (state === 'waiting') return `${model} is being made ready.`;
  if (state === 'drawing') return `${model} draws pictures of its own, so that it keeps what it can: ${own[0]} of ${own[1]}.`;
  const how = {
    training: `Learning \u201c${word}\u201d`, paused: 'Paused', stopped: 'Stopped', failed: 'Ended',
    done: early ? 'Ended early, as pictures that it was not shown got no better' : 'Learned',
  }[state];
  const room = memory ? ` It takes ${(memory[0] / 1e9).toFixed(1)} GB besides the model.` : '';
  const time = trained ? ` ${trained.toFixed(0)} s of training, ${redrawn.toFixed(0)} s of redrawing, ${drew.toFixed(0)} s of its own pictures.` : '';
  return `${how}: step ${step} of ${steps}.${time}${state === 'training' ? room : ''}`;
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
  await ask('begin', {
    model: part('model').value, word, way, preset, changed, pictures: given.values(),
    setting: part('setting').value.trim() || part('setting').placeholder, licence: part('licence').value.trim(),
  });
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

for (const button of root.querySelectorAll('[data-preset]')) {
  button.addEventListener('click', () => {
    preset = button.dataset.preset;
    for (const each of root.querySelectorAll('[data-preset]')) each.setAttribute('aria-pressed', each === button);
  });
}
for (const name of ['word', 'model']) part(name).addEventListener('input', tell);
act('choose').addEventListener('click', () => part('files').click());
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
// The latest run is looked up when the tab is first seen.
const seen = new IntersectionObserver(async (entries) => {
  if (!entries.some((entry) => entry.isIntersecting)) return;
  seen.disconnect();
  const found = await calls.ask('open');
  models = found.models || [];
  part('model').replaceChildren(...models.map(({ id, name }) => new Option(name, id)));
  act('recent').hidden = !found.history;
  await take(found);
  tell();
  follow();
});
seen.observe(root);
tell();
