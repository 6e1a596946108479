// The ways of a comparison's lanes in one map, and where each is at the noise level of the timeline.
const AT_LEVEL = 'The dots are where they are at the noise level of the timeline above';
const AT_NEWEST = 'While the pictures are made, the dots are at the newest steps';

class LaneMap {
  constructor(root) {
    this.part = (name) => root.querySelector(`[data-part="${name}"]`);
    this.level = Infinity;
    this.forget();
  }

  forget() {
    this.lanes = [];
    this.dots = [];
    this.shown = null;
    this.live = false;
  }

  // live: the ways still grow.
  draw({ ways: found, variance, left_out: leftOut }, live = false) {
    const { shape, projection, ending, coloured } = Ways;
    const ways = Ways.steady(this.shown, found);
    Object.assign(this, { shown: ways, live });
    // By the ways alone: early guesses under strong guidance lie far outside, and their lines may leave the map.
    const place = projection(this.part('svg'), ways.map(({ x_t: points }) => ({ x_t: points, x0: [] })));
    this.lanes = Ways.moved(ways, place);
    this.dots = this.lanes.map((_, i) => {
      const group = shape('g', {}, 'lane-now');
      const number = shape('text', {});
      number.textContent = i + 1;
      group.append(shape('line', {}, 'now'), shape('circle', { r: 13 }, 'here'), number);
      return group;
    });
    const ends = this.lanes.map((lane) => ending(lane, lane.x_t.at(-1)));
    const lines = this.lanes.flatMap((lane) => coloured(lane.x_t, lane.noise));
    this.part('svg').replaceChildren(...lines, ...ends, ...this.dots);
    this.part('dots').textContent = live ? AT_NEWEST : AT_LEVEL;
    const names = this.lanes.map(({ name }) => Object.assign(document.createElement('li'), { textContent: name }));
    this.part('names').replaceChildren(...names);
    this.part('variance').textContent = variance;
    this.part('left-out').textContent = leftOut;
    this.part('left-out').hidden = !leftOut;
    this.follow(this.level);
  }

  // Each dot stands at the last of its steps that is no cleaner than the timeline, or at the picture.
  follow(level) {
    this.level = level;
    const newest = level === Infinity || this.live;
    this.lanes.forEach(({ x_t: points, x0, levels }, k) => {
      const i = newest ? points.length - 1 : Math.max(0, levels.filter((one) => one <= level).length - 1);
      const [line, dot, number] = this.dots[k].children;
      const [here, end] = [points[i], x0[Math.min(i, x0.length - 1)]];
      for (const [name, value] of Object.entries({ x1: here[0], y1: here[1], x2: end[0], y2: end[1] })) line.setAttribute(name, value);
      line.style.display = i < levels.length ? '' : 'none';
      for (const [name, value] of Object.entries({ cx: here[0], cy: here[1] })) dot.setAttribute(name, value);
      for (const [name, value] of Object.entries({ x: here[0], y: here[1] })) number.setAttribute(name, value);
      this.dots[k].dataset.step = i;
    });
  }
}
