// Example prompts.  Choosing one fills the prompt box and draws.
const part = (name) => element.querySelector(`[data-part="${name}"]`);
const box = new PromptBox(element);
const EXAMPLES = 3;

function pick(list) { return list[Math.floor(Math.random() * list.length)]; }

function surprise() {
  const { things, places, prompts } = props.value;
  return things.length ? [PromptBox.withArticle(pick(things)), ...(places.length ? [pick(places)] : [])].join(' ') : pick(prompts);
}

// "a red apple on a yellow background" is offered as "red apple".
function short(prompt) {
  const name = prompt.replace(/^(an?|the) /i, '').replace(/ on an? .* background$/i, '').replace(/^(noto|twemoji|fluent) emoji of an? /i, '');
  return name.length > 24 ? `${name.slice(0, 22)}…` : name;
}

function draw() {
  const value = props.value;
  if (!value) return;
  const chips = value.prompts.slice(0, EXAMPLES).map((prompt) => PromptBox.chip(short(prompt), prompt, () => box.fillAndDraw(prompt)));
  // They make room for suggestions.
  for (const chip of chips) chip.classList.add('example');
  if (value.prompts.length || value.things.length) {
    chips.push(PromptBox.chip('Surprise me', 'Draw something by chance', () => box.fillAndDraw(surprise())));
  }
  if (value.things.length) {
    const all = PromptBox.chip(`All ${value.things.length} things`, 'Choose what to draw from pictures',
      () => box.form?.dispatchEvent(new CustomEvent('playground:build')));
    all.setAttribute('aria-haspopup', 'dialog');
    chips.push(all);
  }
  part('examples').replaceChildren(...chips);
}

watch('value', draw);
draw();
