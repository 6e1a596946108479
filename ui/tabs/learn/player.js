// The lesson's player: the page's own, which neither moves the other player nor writes its address.
let state = null;
class LessonPlayer extends Player {
  tell() {
    if (!this.count || !state) return;
    state.tell(this.at + 1, this.views[0].lens, this.views[1].lens);
  }

  // It is told by its chapter alone.
  hear() {}
}
const player = new LessonPlayer(element.querySelector('.player'));
let went = '';
state = chapterState('player', ([at, left, right]) => {
  if (!player.count || !went) return false;
  if (/^\d{1,4}$/.test(at)) { player.pause(); player.go(Number(at) - 1); }
  // Views that are still rendered are chosen when they are there.
  return [[left, 'left'], [right, 'right']].every(([name, side]) => {
    if (!name || !player.playback.order.includes(name)) return true;
    player.choose(side, name);
    return Boolean(player.frames[name]);
  });
});

function take(value) {
  if (!value) return;
  player.take(value);
  const { go } = value;
  const key = JSON.stringify([value.run, go]);
  if (go && key !== went) {
    went = key;
    player.pause();
    player.choose('left', player.playback.order.includes(go.left) ? go.left : 'x_t');
    player.choose('right', go.right);
    player.go(Math.round(go.share * (player.slots - 1)));
    if (value.rest) trigger('rest');
  }
  state.attempt();
}

watch('value', () => take(props.value));
take(props.value);
