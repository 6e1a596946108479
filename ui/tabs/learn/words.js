// The lesson's maps of words, with a slider in place of the player.
const root = element.querySelector('.lesson-words');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
const maps = new WordMaps(root.querySelector('.word-maps'), { ask: () => trigger('attend'), quit: () => trigger('quit') });
let run = '';
let frames = [];

function step() {
  const index = Number(part('step').value);
  part('step-text').textContent = `${index + 1} of ${Number(part('step').max) + 1}`;
  maps.hear({ run, index, picture: frames[index] });
}

function take(value) {
  if (!value) return;
  if (value.frames) frames = value.frames;
  if (value.run && value.run !== run) {
    run = value.run;
    part('step').max = Math.max(value.total - 1, 0);
    part('step').value = Math.floor(value.total / 2);
  }
  maps.take(value);
  step();
}

part('step').addEventListener('input', step);
watch('value', () => take(props.value));
take(props.value);
