// The lesson's maps of words, with a slider in place of the player.
const root = element.querySelector('.lesson-words');
const part = (name) => root.querySelector(`[data-part="${name}"]`);
class LessonWords extends WordMaps {
  choose(word, focus) { super.choose(word, focus); tell(); }
}
const maps = new LessonWords(root.querySelector('.word-maps'), { ask: () => trigger('attend'), quit: () => trigger('quit') });
let run = '';
let frames = [];
const state = chapterState('words', ([at, word]) => {
  if (!run) return false;
  if (/^\d{1,4}$/.test(at)) { part('step').value = Number(at) - 1; step(); }
  if (word === undefined) return true;
  if (!maps.maps) return maps.sheet?.state === 'unavailable';
  if (maps.maps.words[Number(word) - 1]) maps.choose(Number(word) - 1, false);
  return true;
});

function tell() { state.tell(Number(part('step').value) + 1, ...(maps.maps && maps.word !== undefined ? [maps.word + 1] : [])); }

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
  state.attempt();
}

part('step').addEventListener('input', () => { step(); tell(); });
watch('value', () => take(props.value));
take(props.value);
