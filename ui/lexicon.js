// Example prompts and the searchable vocabulary.  Choosing one fills the prompt box; nothing goes to the server.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const SHOWN = 80;
const EXAMPLES = 3;

function fill(text) {
  const box = (element.closest('.desk') || document).querySelector('.prompt textarea');
  if (!box) return;
  box.value = text;
  box.dispatchEvent(new Event('input', { bubbles: true }));
}

function pick(list) { return list[Math.floor(Math.random() * list.length)]; }

function sentence(name) {
  const article = /^[aeiou]/i.test(name) ? 'an' : 'a';
  return `${article} ${name} on a ${pick(props.value.backgrounds)} background`.replace(/\ba orange/, 'an orange');
}

function chip(text, title, prompt, kind = 'chip') {
  const button = document.createElement('button');
  button.type = 'button';
  button.className = kind;
  button.textContent = text;
  button.title = title;
  button.addEventListener('click', () => fill(prompt()));
  return button;
}

function surprise() {
  const { words, prompts } = props.value;
  return words.length ? sentence(pick(words)[0]) : pick(prompts);
}

// "a red apple on a yellow background" is offered as "red apple".
function short(prompt) {
  const name = prompt.replace(/^(an?|the) /i, '').replace(/ on an? .* background$/i, '').replace(/^(noto|twemoji|fluent) emoji of an? /i, '');
  return name.length > 24 ? `${name.slice(0, 22)}…` : name;
}

function find() {
  const query = part('query').value.trim().toLowerCase();
  const hits = props.value.words.filter(([name, tags]) => !query || [name, ...tags].some((w) => w.toLowerCase().includes(query)));
  const more = document.createElement('p');
  more.textContent = !hits.length
    ? 'No such word. Try a more general one, such as animal or food.'
    : hits.length > SHOWN ? `and ${hits.length - SHOWN} more` : '';
  const chips = hits.slice(0, SHOWN).map(([name, tags]) => chip(name, tags.join(', '), () => sentence(name)));
  part('found').replaceChildren(...chips, more);
}

function draw() {
  const value = props.value;
  if (!value) return;
  const label = document.createElement('span');
  label.textContent = 'Try';
  const chips = value.prompts.slice(0, EXAMPLES).map((prompt) => chip(short(prompt), prompt, () => prompt));
  if (value.prompts.length || value.words.length) {
    chips.push(chip('Surprise me', 'Fill in a prompt by chance', surprise));
  }
  part('tries').replaceChildren(...(chips.length ? [label, ...chips] : []));
  part('about').textContent = value.about;
  part('search').hidden = !value.words.length;
  part('summary').textContent = `The ${value.words.length} things it can draw`;
  find();
}

part('query').addEventListener('input', find);
watch('value', draw);
draw();
