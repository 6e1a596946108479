// The lesson's player: the page's own, which neither moves the other player nor writes the address.
class LessonPlayer extends Player {
  tell() {}

  hear() {}
}
const player = new LessonPlayer(element.querySelector('.player'));
let went = '';

function take(value) {
  if (!value) return;
  player.take(value);
  const { go } = value;
  const key = JSON.stringify([value.run, go]);
  if (!go || key === went) return;
  went = key;
  player.follow({ ...go, left: player.playback.order.includes(go.left) ? go.left : 'x_t' });
  if (value.rest) trigger('rest');
}

watch('value', () => take(props.value));
take(props.value);
